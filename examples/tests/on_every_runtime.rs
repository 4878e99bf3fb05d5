//! Runs the programs on every runtime, as modules that `build.rs` makes of them. They assert what they show.
#![allow(missing_docs, reason = "the programs are included without their docs")]

use callosum_hosts::{Host, for_each_host};

macro_rules! programs {
    ($host:ident: $($program:ident),+) => { $(
        mod $program {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($program), ".rs"));
        }

        #[test]
        fn $program() {
            let executor = super::Host::$host.start().expect("the system has threads");
            executor.block_on($program::main()).expect("it does what it shows");
        }
    )+ };
}

macro_rules! host {
    ($module:ident, $host:ident) => {
        mod $module {
            /// Stands for the adapter.
            mod callosum {
                pub(crate) use callosum_runtime::*;

                pub(crate) fn builder() -> Builder {
                    crate::Host::$host.builder()
                }
            }

            fn spawn<T: Send + 'static>(
                task: impl Future<Output = T> + Send + 'static,
            ) -> futures_channel::oneshot::Receiver<T> {
                let (end, ended) = futures_channel::oneshot::channel();
                crate::Host::$host.runtime().spawn(Box::pin(async {
                    // Nobody may wait for it.
                    let _ = end.send(task.await);
                }));
                ended
            }

            programs!($host: quickstart, ordering, bidirectional, streams, typed_service, protobuf, thrift);
        }
    };
}

for_each_host!(host);
