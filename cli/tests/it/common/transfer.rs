//! Transfers that end in the middle, and where they go on.

use callosum_runtime::{Builder, Driver};
use rustix::process::Signal;

use super::proxy::{Harm, Proxy, Towards};
use super::scratch::Scratch;
use super::{Ended, Server, TIMEOUT};

pub(crate) const MIB: u64 = 1 << 20;

/// What is transferred where it is to be interrupted, and how much of it before.
pub(crate) const SIZE: u64 = 8 * MIB;
pub(crate) const STALL: usize = 5 * MIB as usize;
pub(crate) const ARRIVED: u64 = 4 * MIB;

pub(crate) fn serve(runtime: &'static str, scratch: &Scratch) -> Server {
    Server::start(runtime, "json", &["--files", &scratch.text("root")])
}

/// Does `work` with the endpoint of a server that is no `callosum serve`.
pub(crate) fn with_server<R>(builder: Builder, work: impl FnOnce(&str) -> R) -> R {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the system has threads");
    let (binder, driver): (_, Driver) =
        runtime.block_on(builder.bind("tcp://127.0.0.1:0")).expect("it can be bound");
    let driver = runtime.spawn(driver);
    let output = work(&binder.endpoints()[0].to_string());
    runtime.block_on(binder.shutdown(TIMEOUT));
    runtime.block_on(driver).expect("it does not panic").expect("it ends well");
    output
}

/// Where it has gone on, if it has.
pub(crate) fn resumed_at(ended: &Ended) -> Option<u64> {
    let line = ended.stderr.iter().find_map(|line| line.strip_prefix("going on with "))?;
    line.strip_suffix(" bytes")?.rsplit(' ').next()?.parse().ok()
}

#[track_caller]
pub(crate) fn assert_resumed(ended: &Ended) {
    let at = resumed_at(ended);
    assert!(at.is_some_and(|at| (ARRIVED..=STALL as u64).contains(&at)), "{ended:?}");
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    KillClient,
    InterruptClient,
    KillServer,
}

/// Interrupts a transfer in the middle; returns the server to go on with.
pub(crate) fn interrupt(server: Server, scratch: &Scratch, towards: Towards, end: End) -> Server {
    let proxy = Proxy::new(&server.endpoint, towards, Harm::Stall(STALL));
    let (name, args, partials) = match towards {
        Towards::Server => ("put", [scratch.text("file"), "file".into()], "root"),
        Towards::Client => ("get", ["file".into(), scratch.text("file")], ""),
    };
    let client = server.start_file_through(&proxy.endpoint, name, &args.each_ref().map(String::as_str));
    scratch.wait_for_partial(partials, ARRIVED);
    let runtime = server.runtime;
    match end {
        End::KillClient => {
            client.signal(Signal::KILL);
            assert_eq!(client.end().code, None);
            server
        }
        End::InterruptClient => {
            client.signal(Signal::INT);
            client.end().expect(6).expect_stderr("same command");
            server
        }
        End::KillServer => {
            server.process.signal(Signal::KILL);
            assert_eq!(server.process.end().code, None);
            drop(proxy);
            client.end().expect(8).expect_stderr("same command");
            serve(runtime, scratch)
        }
    }
}
