//! What happens when file descriptors run out: in a process of its own, so that no other test is hurt.

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_hosts::Host;
use callosum_runtime::rt::BoxSocket;
use callosum_runtime::{Event, HandlerResult, Reconnect, SocketOptions};
use callosum_tests::rig::{Rig, Transport, next_event, on};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Set where the test is to be run and not to be handed on.
const CHILD: &str = "CALLOSUM_TEST_IN_CHILD";

/// Descriptors that the process may still open.
const LEFT: usize = 40;

fn in_child(name: &str, test: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return test();
    }
    let exe = std::env::current_exe().expect("the test is a program");
    let output = Command::new(exe).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
    let output = output.expect("the system has processes");
    let said = String::from_utf8_lossy(&output.stdout);
    // With a name that no test has, none runs and none fails.
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Opens connections until the system has no descriptor left for either end; nothing is sent on them.
async fn exhaust(rig: &Rig, binder: &callosum_runtime::Binder) -> Vec<BoxSocket> {
    let open = std::fs::read_dir("/proc/self/fd").expect("this is Linux").count();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some((open + LEFT) as u64);
    setrlimit(Resource::Nofile, limit).expect("a limit may be lowered");
    let mut streams = Vec::new();
    while let Ok(stream) = rig.runtime().connect(&binder.endpoints()[0], SocketOptions::default()).await {
        streams.push(stream);
    }
    streams
}

/// The accept loop pauses and goes on, those who are connected don't notice, and newcomers get in once there is room.
async fn accepting_goes_on(rig: Rig) {
    let serving = rig.builder().handle_raw("echo", |body, _| async move { HandlerResult::Ok(body) });
    let (binder, driver) = rig.serve(serving).await;
    let (good, good_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    good.peer().ready().await.expect("the binder is there");
    let mut events = binder.events();

    let body = Bytes::from("good");
    let start = Instant::now();
    let streams = exhaust(&rig, &binder).await;
    assert!(streams.len() >= LEFT / 2 - 2, "{}", streams.len());
    for _ in 0..5 {
        let failed = next_event(&mut events, |event| match event {
            Event::AcceptFailed { endpoint, unreported: 0, .. } => Some(endpoint),
            _ => None,
        });
        assert_eq!(failed.await, binder.endpoints()[0]);
        assert_eq!(good.peer().invoke_raw("echo", body.clone()).await.expect("it is connected"), body);
    }
    assert!(start.elapsed() >= Duration::from_millis(400), "it pauses for 100 ms after each failure");

    drop(streams);
    let never = rig.builder().reconnect(Reconnect::Never);
    let (late, late_driver) = rig.connect(never, &binder.endpoints()[0]);
    assert_eq!(late.peer().invoke_raw("echo", body.clone()).await.expect("there is room again"), body);
    assert_eq!(good.peer().stats().calls_failed, 0);
    late_driver.cut().await;
    good_driver.cut().await;
    driver.cut().await;
}

#[test]
fn running_out_on_tokio() {
    in_child("descriptors::running_out_on_tokio", || {
        on(Host::Tokio, "descriptors", Transport::Tcp, accepting_goes_on)
    });
}

#[test]
fn running_out_on_async_std() {
    in_child("descriptors::running_out_on_async_std", || {
        on(Host::AsyncStd, "descriptors", Transport::Tcp, accepting_goes_on)
    });
}
