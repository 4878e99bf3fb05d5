//! `call --stream`.

use crate::common::scratch::Scratch;
use crate::common::{Process, RUNTIMES, Server, command};
use rustix::process::Signal;

#[test]
fn items_are_printed_as_they_come() {
    for runtime in RUNTIMES {
        for codec in ["json", "msgpack"] {
            let server = Server::demo(runtime, codec, &[]);
            let ended = server.call(&["--stream", "count", r#"{"to": 1000}"#]).expect(0);
            let expected: Vec<_> = (1..=1000).map(|n| format!(r#"{{"count":{n}}}"#)).collect();
            assert_eq!(ended.stdout, expected);
            // The first one is there while there will be no other for an hour.
            let call = server.start_call(&["--stream", "count", r#"{"to": 2, "every": 3600}"#]);
            assert_eq!(call.line(), r#"{"count":1}"#);
            call.signal(Signal::INT);
            assert!(call.end().expect(6).stdout.is_empty());
        }
    }
}

#[test]
fn a_reader_that_pauses_does_not_hold_up_signals() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        let server = Server::demo(runtime, "json", &["--files", &scratch.text("root")]);
        for n in 0..1500 {
            std::fs::File::create(scratch.path(&format!("root/{n:0200}"))).unwrap();
        }
        let count = ["call", &server.endpoint, "--stream", "count", r#"{"to": 1000000000}"#];
        let list = ["file", "ls", &server.endpoint];
        let long = format!(r#"{{"sent": "{}"}}"#, "x".repeat(100_000));
        let echo = ["call", &server.endpoint, "echo", &long];
        let ping = ["ping", &server.endpoint, "--interval", "0s"];
        for args in [&count[..], &list, &echo, &ping] {
            let (process, stdout) = Process::spawn_stuck(command(&[args, &["--runtime", runtime]].concat()));
            process.signal(Signal::INT);
            process.end().expect(6);
            drop(stdout);
        }
    }
}

#[test]
fn a_stream_ends_as_a_call_does() {
    let server = Server::demo("tokio", "json", &[]);
    assert!(server.call(&["--stream", "count", r#"{"to": 0}"#]).expect(0).stdout.is_empty());
    let one = server.call(&["--stream", "add", r#"{"a": 1, "b": 2}"#]).expect(0);
    assert_eq!(one.stdout, [r#"{"result":3}"#]);
    server.call(&["--stream", "error"]).expect(3).expect_stderr("ZeroDivisionError");
    server.call(&["count", r#"{"to": 3}"#]).expect(1).expect_stderr("--stream");
    server.call(&["--stream", "nosuch"]).expect(4).expect_stderr("NoSuchMethod");
    server.call(&["--stream", "count", r#"{"to": 1, "every": -1}"#]).expect(3).expect_stderr("ValueError");
    // Unless the machine is too slow for the first item to come before the timeout.
    let late = ["--stream", "count", r#"{"to": 2, "every": 3600}"#, "--key", "k"];
    while server.call_until_timeout(&late).stdout != [r#"{"count":1}"#] {}
    let call = server.start_call(&["--stream", "count", r#"{"to": 2, "every": 3600}"#]);
    call.line();
    server.process.signal(Signal::KILL);
    call.end().expect(8);
}
