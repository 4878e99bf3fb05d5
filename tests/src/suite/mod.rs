//! What the async API promises, as test bodies that run on any runtime.

pub mod abuse;
pub mod abuse2;
pub mod abuse_bodies;
pub mod abuse_curve;
pub mod abuse_handshakes;
pub mod accepting;
pub mod auth;
pub mod calls;
pub mod cancellation;
pub mod cleanup;
pub mod codecs;
pub mod connector;
pub mod endpoints;
pub mod failures;
pub mod layers;
pub mod leaks;
pub mod limits;
pub mod listening;
pub mod load;
pub mod message_links;
pub mod nesting;
pub mod ordering;
pub mod plugging;
pub mod protobuf;
pub mod services;
pub mod shutdown;
pub mod slots;
pub mod sockets;
pub mod streams;
pub mod streams_edges;
pub mod streams_outlive;
pub mod tls;
pub mod totals;

/// Makes tests of test bodies, a module for each group: on one runtime, over one transport; or on virtual time. `$run` is a function of
/// [`rig`](crate::rig).
#[macro_export]
macro_rules! behaviour {
    ($run:ident, { $($module:ident: $($name:ident),+ $(,)?;)+ }) => { $(
        mod $module { $(
            #[test]
            fn $name() {
                $crate::rig::$run(stringify!($name), $crate::suite::$module::$name);
            }
        )+ }
    )+ };
    ($run:ident, $host:ident, $transport:ident, { $($module:ident: $($name:ident),+ $(,)?;)+ }) => { $(
        mod $module { $(
            #[test]
            fn $name() {
                $crate::rig::$run(
                    ::callosum_hosts::Host::$host,
                    concat!(stringify!($transport), " ", stringify!($name)),
                    $crate::rig::Transport::$transport,
                    $crate::suite::$module::$name,
                );
            }
        )+ }
    )+ };
}
