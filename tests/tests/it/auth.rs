//! CURVE and admission, on two runtimes: the adapters have no part in it.

macro_rules! everything {
    ($host:ident, $transport:ident) => {
        callosum_tests::behaviour!(on, $host, $transport, {
            auth: admitted, unknown_key, never_again, wrong_server_key, no_curve_towards_curve,
                curve_towards_no_curve, admission_may_take_its_time, endless_admission, panicking_admission,
                revoked, renamed, revoked_while_being_admitted, file_read_again, what_is_missing_refuses,
                plaintext_needs_consent, endless_times, many_changes, failing_checks_revoke,
                so_many_checks_at_a_time, changes_without_a_pause, one_type_for_both_roles;
        });
    };
}

mod tokio_tcp {
    everything!(Tokio, Tcp);
}

mod tokio_inproc {
    everything!(Tokio, Inproc);
}

mod async_std_tcp {
    everything!(AsyncStd, Tcp);
}

mod async_std_ipc {
    everything!(AsyncStd, Ipc);
}
