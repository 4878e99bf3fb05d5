//! The suite of behaviour, over TCP and, where it matters, over the other transports.
//!
//! What users see runs on every runtime, and on virtual time but for sockets. What takes long, because it attacks an endpoint or waits for timeouts, depends on
//! the engine and on `callosum-runtime`, hardly on the adapter: it runs on tokio and on virtual time, and so does what holds in
//! dialect 1 as well. Where sockets or the machine matter, as under load, and where no socket is used (`inproc://`), it runs on
//! tokio and on async-std, whose sockets and timers are those of smol.

use callosum_hosts::for_each_host;

/// What users see.
macro_rules! api {
    ($($on:ident),+) => {
        callosum_tests::behaviour!($($on),+, {
            calls: typed_json, typed_msgpack, raw_bytes, codec_of_one_call, typed_client, no_such_method,
                handlers_change_while_running, names_are_taken_once, state, fallback, context, own_handler, counters, ping,
                probes_are_bounded, handlers_that_go_together;
            accepting: stream_with_identity, link_with_identity, silent_links_are_evicted;
            totals: totals_outlive_peers;
            codecs: own_codec, own_codec_errors, arguments_are_read_where_they_are_polled;
            nesting: binder_calls_connector, call_backs_twenty_deep, no_deadlock_at_one_handler,
                a_lent_place_comes_back, nested_failure, relay_between_connectors;
            failures: failure, named_failure, tracebacks_stay_here, relayed, panics, panicking_destructors, invalid_argument, undecodable_result, unencodable, mixed,
                held_replies_are_counted;
            cancellation: dropped_call_stops_its_handler, timed_out_call_stops_its_handler, default_timeout,
                cancelled_while_waiting_never_runs, dropped_before_it_left, execution_timeout, many_dropped;
            cleanup: caller_cancels, execution_times_out, link_ends, shut_down, no_time_is_left, others_are_told;
            ordering: unordered, exit_ordered, key_serialized, key_scope, many_keys_unordered,
                many_keys_exit_ordered, many_keys_serialized, busy_past_the_queue_limit, peers_get_their_share;
            connector: binder_restarts, waiting_ends_with_the_timeout, failing_while_disconnected,
                never_reconnecting, cut_by_hand, events, events_left_unread, connector_first, silent_binder,
                ready_after_a_cut;
            shutdown: binder_drains, connector_drains, large_replies_are_flushed, deadline_cuts, shutdown_twice,
                nothing_to_drain, no_newcomers_while_draining, dropped_driver, dropped_driver_in_the_thick_of_it,
                driver_never_polled, handlers_that_hold_their_endpoint;
            slots: long_streams_beside_small_calls, a_released_slot_keeps_its_key, a_released_slot_stays_released,
                limits_of_a_method;
            layers: nested, outcomes_of_handlers, answered_by_layers, metadata_of_layers, order_is_kept,
                order_of_layers_that_wait, dropped, nested_at_one_handler;
            streams: bytes_both_ways, items_either_way, items_at_the_limit, items_too_large_to_write, large_bodies,
                large_bodies_take_turns, acknowledged, failure_in_the_middle, abandoned_argument, dropped_readers, no_handler,
                cancelled_in_the_middle, cut_in_the_middle, slow_readers_hold_up_nobody, ordered, metadata, downgraded,
                shutdown_waits, nested_at_one_handler;
            services: values_and_errors, streamed_results, streamed_arguments, both_ways;
            protobuf: messages_either_way, statuses, statuses_of_the_transport, refused_arguments, larger_than_the_codec_reads, streamed_results, streamed_arguments, both_ways, packages;
            tls: through_a_small_pipe;
            message_links: requests_behind_a_dropped_reply;
            plugging: tiny_byte_streams, end_of_a_byte_stream, panicking_byte_stream, own_runtime, long_writes, dying_runtime, own_scheduler, tracing_enabled;
        });
    };
}

/// What users see of sockets, and of a byte stream that never lets time pass.
macro_rules! sockets {
    ($host:ident) => {
        callosum_tests::behaviour!(on, $host, Tcp, {
            endpoints: chosen_port, every_address, ipv6, stale_socket_file, in_use_already, bound_again, bad_texts,
                unbindable, several_endpoints, no_listening_after_the_end, many_peers;
            listening: shut_down_while_binding, driver_that_never_ran;
            sockets: accepting_given_up, half_closed, many_wait_to_be_accepted, options, timers;
            tls: over_a_socket;
            plugging: endless_stream;
        });
    };
}

/// What takes long, or waits for timeouts. On virtual time these take no time.
macro_rules! heavy {
    ($($on:ident),+) => {
        callosum_tests::behaviour!($($on),+, {
            limits: body_at_the_limit, limit_of_the_other_side, too_large_once_known,
                one_byte_past_from_a_stranger, far_past, killed_in_the_middle_of_a_body, peer_that_never_reads,

                full_outbox, unfinished_handshakes, garbage_instead_of_a_greeting, garbage_between_good_calls,
                anomalies_drown_no_events, cancelled_replies_make_room, cancel_is_answered, replies_held_back, endless_times;
            streams_edges: bodies_that_can_not_be_collected, results_that_come_first, half_closed_by_the_handler, results_read_in_any_order,
                urgent_first, compressed, turns_at_one_handler, mixed_reads,
                waiting_for_room, dropped_unread, unfinished_result;
            streams_outlive: results_that_begin_too_late, arguments_collected_for_too_long, beginning_given_up, writers_that_give_up,
                writers_that_cancel,
                writers_learn_that_nobody_reads;
            abuse: flood_of_cancels, flood_of_pings, flood_of_nonsense,
                half_open_after_the_handshake, call_backs_that_nobody_answers;
            abuse2: tiny_pieces, credit_of_the_link, calls_that_are_reset,
                bodies_without_an_end, credit_by_the_byte, results_that_get_no_credit,
                numbers_and_records_that_break_the_link, records_that_mean_nothing;
            abuse_bodies: snappy_that_declares_gigabytes, headers_that_nest_and_declare, json_that_nests,
                msgpack_that_nests_and_declares;
            abuse_curve: changed_boxes;
            abuse_handshakes: more_half_open_than_allowed, slow_loris, refusals_drown_no_events,
                places_taken_while_the_application_decides, a_client_that_says_it_refuses;
            leaks: first_messages_that_begin_nothing, cut_while_draining_without_a_link;
        });
    };
}

/// What takes long, and what a socket or the machine does is a part of it.
macro_rules! load {
    ($host:ident) => {
        callosum_tests::behaviour!(on, $host, Tcp, {
            limits: peer_that_reads_slowly;
            abuse: pings_without_reading, endless_multipart, key_that_hangs;
            abuse2: credit_that_was_not_given, resets_without_reading;
            load: ten_thousand_calls, large_and_small, coming_and_going;
        });
    };
}

/// What depends on the transport underneath.
macro_rules! transports {
    ($host:ident, $transport:ident) => {
        callosum_tests::behaviour!(on, $host, $transport, {
            calls: typed_json, raw_bytes, ping;
            nesting: call_backs_twenty_deep, no_deadlock_at_one_handler;
            cancellation: dropped_call_stops_its_handler, many_dropped;
            ordering: many_keys_exit_ordered;
            endpoints: in_use_already, bound_again, many_peers;
            connector: binder_restarts, failing_while_disconnected, never_reconnecting, cut_by_hand, events,
                connector_first;
            shutdown: binder_drains, connector_drains, large_replies_are_flushed, deadline_cuts, dropped_driver,
                dropped_driver_in_the_thick_of_it;
            streams: bytes_both_ways, items_either_way, cancelled_in_the_middle, cut_in_the_middle;
            load: large_and_small, coming_and_going;
        });
    };
}

/// What does not depend on the dialect holds in dialect 1 as well.
macro_rules! dialect_1 {
    ($($on:ident),+) => {
        callosum_tests::behaviour!($($on),+, {
            calls: typed_json, raw_bytes, no_such_method, own_handler, counters, ping;
            nesting: binder_calls_connector, call_backs_twenty_deep, no_deadlock_at_one_handler, a_lent_place_comes_back;
            failures: failure, relayed, panics, invalid_argument, mixed;
            cancellation: dropped_call_stops_its_handler, timed_out_call_stops_its_handler,
                cancelled_while_waiting_never_runs, dropped_before_it_left, execution_timeout, many_dropped;
            cleanup: caller_cancels, execution_times_out, link_ends, shut_down;
            ordering: unordered, exit_ordered, key_serialized, many_keys_exit_ordered, busy_past_the_queue_limit,
                peers_get_their_share;
            connector: binder_restarts, cut_by_hand;
            shutdown: binder_drains, connector_drains, large_replies_are_flushed, deadline_cuts;
            limits: body_at_the_limit, limit_of_the_other_side, too_large_once_known, full_outbox,
                cancelled_replies_make_room, replies_held_back;
            load: ten_thousand_calls, large_and_small, coming_and_going;
        });
    };
}

macro_rules! host {
    ($module:ident, $host:ident) => {
        mod $module {
            mod tcp {
                api!(on, $host, Tcp);

                mod of_sockets {
                    sockets!($host);
                }
            }

            mod ipc {
                transports!($host, Ipc);
                callosum_tests::behaviour!(on, $host, Ipc, {
                    sockets: accepting_given_up, half_closed, many_wait_to_be_accepted, a_full_queue_would_block;
                });
            }
        }
    };
}

for_each_host!(host);

/// `heavy` and `dialect_1` hardly depend on the runtime: they run here and on virtual time. `load` and `inproc` run here and on
/// async-std.
mod tokio_in_depth {
    mod heavy {
        heavy!(on, Tokio, Tcp);
    }

    mod load {
        load!(Tokio);
    }

    mod inproc {
        transports!(Tokio, Inproc);
    }

    mod dialect_1 {
        dialect_1!(on_in_dialect_1, Tokio, Tcp);
    }
}

mod async_std_in_depth {
    mod load {
        load!(AsyncStd);
    }

    mod inproc {
        transports!(AsyncStd, Inproc);
    }
}

mod virtual_time {
    mod heavy {
        heavy!(virtual_time);
    }

    mod dialect_1 {
        dialect_1!(virtual_time_in_dialect_1);
        callosum_tests::behaviour!(virtual_time_in_dialect_1, {
            services: values_and_errors, by_hand, live_handlers, both_ends, args_kwargs, relayed;
        });
    }

    mod api {
        api!(virtual_time);
    }

    /// Typed services are written on the public API: what does not depend on the runtime runs here only.
    mod in_depth {
        callosum_tests::behaviour!(virtual_time, {
            services: by_hand, other_failures, dropped_results, streams_in_dialect_1, live_handlers, both_ends, args_kwargs, options,
                relayed, described;
        });
    }
}
