//! `serve`, `call` and `ping` as processes that talk to each other.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use crate::common::{Process, RUNTIMES, Server, at_once, command, wait_until};
use rustix::process::Signal;

/// Each runtime with each codec.
fn servers(more: &[&str]) -> Vec<Server> {
    RUNTIMES
        .iter()
        .flat_map(|runtime| ["json", "msgpack"].map(|codec| Server::demo(runtime, codec, more)))
        .collect()
}

#[test]
fn results_are_one_line_of_json() {
    for server in servers(&[]) {
        let cases: [(&[&str], &str); 8] = [
            (&["echo", r#"{"sent": ["ü", 1.5, null]}"#], r#"{"received":["ü",1.5,null]}"#),
            (&["echo", "{\"sent\":\n -1}"], r#"{"received":-1}"#),
            (&["add", r#"{"a": 40, "b": 2}"#], r#"{"result":42}"#),
            (&["add", r#"{"a": 0.5, "b": 1}"#], r#"{"result":1.5}"#),
            (&["delay", r#"{"seconds": 0.001, "why": "?"}"#], r#"{"waited":0.001}"#),
            (&["set_output", r#"{"enabled": false}"#], "null"),
            (&["memstat"], "null"),
            (&["print_delim", "{}", "--key", "k"], "null"),
        ];
        for (call, expected) in cases {
            let ended = server.call(call).expect(0);
            let line = match call[0] {
                // What is echoed as JSON keeps its spaces.
                "echo" => ended.stdout[0].replace(' ', ""),
                _ => ended.stdout[0].clone(),
            };
            assert_eq!((line.as_str(), ended.stdout.len(), ended.stderr.len()), (expected, 1, 0));
        }
        server.process.wait_for("memory in use: ");
        server.process.wait_for("----");
    }
}

#[test]
fn results_are_printed_to_the_byte_and_hold_nothing_that_terminals_obey() {
    let text = "a\u{7f}\u{9b}31m\u{1b}[0m";
    let argument = serde_json::json!({ "sent": text }).to_string();
    for server in servers(&[]) {
        for more in [&[][..], &["--stream"]] {
            let ended = server.call(&[&["echo", argument.as_str()], more].concat()).expect(0);
            let line = &ended.stdout[0];
            assert!(!line.contains(char::is_control), "{line:?}");
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["received"], text);
        }
    }
}

#[test]
fn long_delay_echoes_after_its_delay() {
    at_once(RUNTIMES, |runtime| {
        let server = Server::demo(runtime, "json", &[]);
        let call = server.start_call(&["long_delay", r#"{"sent":1}"#]);
        server.call_until_timeout(&["long_delay", r#"{"sent": 1}"#]);
        assert_eq!(call.end().expect(0).stdout, [r#"{"received":1}"#]);
    });
}

#[test]
fn whoami_tells_what_the_server_knows() {
    for server in servers(&[]) {
        let ended = server.call(&["whoami", "{}", "--key", "k-1"]).expect(0);
        let answer: serde_json::Value = serde_json::from_str(&ended.stdout[0]).unwrap();
        assert_eq!(answer["key"], "k-1");
        assert_eq!(answer["method"], "whoami");
        assert!(answer["address"].as_str().unwrap().starts_with("tcp://127.0.0.1:"), "{answer}");
        assert!(answer["peer"].is_string() && answer["routing_id"].is_string(), "{answer}");
        assert_eq!(answer["hello"], serde_json::json!({ "dialects": [1, 2], "max_body": 10 << 20 }));
        let ended = server.call(&["whoami"]).expect(0);
        assert!(ended.stdout[0].contains(r#""key":null"#), "{ended:?}");
    }
}

#[test]
fn remote_failures_and_errors_have_their_own_codes() {
    at_once(servers(&[]), |server| {
        let ended = server.call(&["error"]).expect(3).expect_stderr("ZeroDivisionError: division by zero");
        assert!(ended.stdout.is_empty());
        assert!(ended.stderr.iter().any(|line| line == "remote traceback:"), "{ended:?}");
        server.call(&["delay", r#"{"seconds": -1}"#]).expect(3).expect_stderr("ValueError");
        server.call(&["nosuch"]).expect(4).expect_stderr("NoSuchMethod");
        server.call(&["add", "{}"]).expect(4).expect_stderr("InvalidArgument");
        let ended = server.call_until_timeout(&["delay", r#"{"seconds": 3600}"#]);
        assert!(ended.stdout.is_empty());
    });
}

#[test]
fn usage_errors_are_told_from_others() {
    let cases: [&[&str]; 11] = [
        &[],
        &["ping", "tcp://127.0.0.1:1", "--count", "0"],
        &["serve", "--demo"],
        &["serve", "--bind", "tcp://127.0.0.1:0"],
        &["call", "tcp://127.0.0.1:1"],
        &["call", "127.0.0.1:1", "echo"],
        &["call", "inproc://x", "echo"],
        &["call", "tcp://127.0.0.1:1", "echo", "{"],
        &["call", "tcp://127.0.0.1:1", "echo", "--timeout", "soon"],
        &["serve", "--demo", "--bind", "tcp://127.0.0.1:0", "--max-concurrency", "0"],
        &["ping", "tcp://127.0.0.1:1", "--runtime", "glommio"],
    ];
    for args in cases {
        let ended = Process::start(args).end().expect(2);
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{ended:?}");
    }
}

#[test]
fn exit_codes_are_documented() {
    for args in [&["--help"][..], &["call", "--help"], &["ping", "--help"]] {
        let help = Process::start(args).end().expect(0).stdout.join("\n");
        for what in ["remote failure", "remote error", "timed out", "cancelled", "could not connect", "usage"]
        {
            assert!(help.contains(what), "{args:?} does not explain `{what}`");
        }
    }
}

#[test]
fn an_argument_can_come_from_stdin() {
    let server = Server::demo("tokio", "json", &[]);
    let mut call = command(&["call", &server.endpoint, "echo", "-"]);
    call.stdin(Stdio::piped());
    let mut call = Process::spawn(call);
    call.stdin().write_all(b"{\"sent\":\n7}\n").unwrap();
    let ended = call.end().expect(0);
    assert_eq!(ended.stdout, [r#"{"received":7}"#]);
}

#[test]
fn where_nobody_listens_a_call_fails_at_once() {
    let dir = std::env::temp_dir().join(format!("callosum-cli-nobody-{}", std::process::id()));
    let ipc = format!("ipc://{}", dir.display());
    // Nobody else is given the port while this socket, which does not listen, holds it.
    let holder = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let holder = holder.unwrap();
    rustix::net::bind(&holder, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = std::net::SocketAddr::try_from(rustix::net::getsockname(&holder).unwrap()).unwrap();
    for endpoint in [ipc.as_str(), &format!("tcp://{address}")] {
        for runtime in RUNTIMES {
            // Without a timeout: it is the refusal that ends it.
            let call = Process::start(&["call", endpoint, "echo", "--runtime", runtime]).end().expect(7);
            call.expect_stderr("could not connect");
            let ping = Process::start(&["ping", endpoint, "--runtime", runtime]).end().expect(7);
            assert!(ping.stdout.is_empty(), "{ping:?}");
        }
    }
}

#[test]
fn a_server_that_says_nothing_is_no_connection() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", silent.local_addr().unwrap());
    at_once(RUNTIMES, |runtime| {
        let args = ["call", &endpoint, "echo", "--timeout", "200ms", "--runtime", runtime];
        Process::start(&args).end().expect(7);
    });
}

#[test]
fn a_connection_that_is_lost_is_told_from_a_timeout() {
    for runtime in RUNTIMES {
        let server = Server::demo(runtime, "json", &[]);
        server.show_calls();
        let call = server.start_call(&["delay", r#"{"seconds": 60}"#]);
        server.process.wait_for("delay called");
        server.process.signal(Signal::KILL);
        call.end().expect(8).expect_stderr("connection lost");
    }
}

#[test]
fn ping_measures_round_trips() {
    for runtime in RUNTIMES {
        let server = Server::demo(runtime, "json", &[]);
        let args = ["ping", &server.endpoint, "-c", "3", "-i", "1ms", "--runtime", runtime];
        let ended = Process::start(&args).end().expect(0);
        for seq in 1..=3 {
            let pong = format!("seq={seq} time=");
            assert_eq!(ended.stdout.iter().filter(|line| line.contains(&pong)).count(), 1, "{ended:?}");
        }
        assert!(ended.stdout.iter().any(|line| line == "3 sent, 3 answered, 0% lost"), "{ended:?}");
        assert!(ended.stdout.iter().any(|line| line.starts_with("round trip min/avg/max = ")), "{ended:?}");
    }
}

#[test]
fn ping_goes_on_until_it_is_interrupted() {
    for runtime in RUNTIMES {
        let server = Server::demo(runtime, "json", &[]);
        let ping = Process::start(&["ping", &server.endpoint, "-i", "1ms", "--runtime", runtime]);
        while !ping.line().contains("seq=5 ") {}
        ping.signal(Signal::INT);
        let ended = ping.end().expect(0);
        assert!(ended.stdout.iter().any(|line| line.contains(" sent, ")), "{ended:?}");
    }
}

/// Passes on what comes, but leaves the connection to the server open when the client has gone, until it is dropped.
struct Relay {
    endpoint: String,
    upstream: std::thread::JoinHandle<TcpStream>,
}

impl Relay {
    fn to(endpoint: &str) -> Self {
        let target = endpoint.strip_prefix("tcp://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let upstream = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut server = TcpStream::connect(target).unwrap();
            let (mut replies, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut replies, &mut to_client));
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = client.read(&mut buffer) {
                server.write_all(&buffer[..count]).unwrap();
            }
            server
        });
        Self { endpoint, upstream }
    }
}

#[test]
fn ctrl_c_cancels_the_call_on_the_server() {
    at_once(RUNTIMES, |runtime| {
        // The one place of `delay` is taken by the call until that is cancelled: the server does not see the client go.
        let server = Server::demo(runtime, "json", &["--max-concurrency", "1"]);
        server.show_calls();
        let relay = Relay::to(&server.endpoint);
        let call = server.start_call_to(&relay.endpoint, &["delay", r#"{"seconds": 3600}"#]);
        server.process.wait_for("delay called");
        let another = || server.call(&["delay", r#"{"seconds": 0}"#]);
        another().expect(4).expect_stderr("Busy");
        call.signal(Signal::INT);
        call.end().expect(6).expect_stderr("cancelled");
        let connection = relay.upstream.join().unwrap();
        wait_until("a place", || another().code == Some(0));
        drop(connection);
    });
}

#[test]
fn calls_under_way_are_finished_after_a_signal() {
    let signals = [Signal::TERM, Signal::INT].into_iter().cycle();
    at_once(RUNTIMES.into_iter().zip(signals), |(runtime, signal)| {
        // If the machine is so slow that the call ends before the signal comes, again with one that takes twice as long.
        for seconds in (0..).map(|n| 0.25 * f64::from(1 << n)) {
            let server = Server::demo(runtime, "json", &[]);
            server.show_calls();
            let call = server.start_call(&["delay", &format!(r#"{{"seconds": {seconds}}}"#)]);
            server.process.wait_for("delay called");
            server.process.signal(signal);
            let waited = format!(r#"{{"waited":{seconds:?}}}"#);
            assert_eq!(call.end().expect(0).stdout, [waited]);
            let (endpoint, runtime) = (server.endpoint.clone(), server.runtime);
            let ended = server.process.end().expect(0);
            assert!(ended.stdout.is_empty(), "{ended:?}");
            Process::start(&["call", &endpoint, "echo", "--runtime", runtime]).end().expect(7);
            if ended.stderr.iter().any(|line| line.contains("finishing the calls")) {
                break;
            }
        }
    });
}

#[test]
fn an_idle_server_ends_at_the_first_signal() {
    for server in servers(&[]) {
        server.call(&["memstat"]).expect(0);
        server.process.signal(Signal::TERM);
        server.process.end().expect(0);
    }
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    for runtime in RUNTIMES {
        let server = Server::demo(runtime, "json", &["--drain", "1h"]);
        server.show_calls();
        let call = server.start_call(&["delay", r#"{"seconds": 3600}"#]);
        server.process.wait_for("delay called");
        server.process.signal(Signal::INT);
        server.process.wait_for("again to stop at once");
        server.process.signal(Signal::INT);
        server.process.end().expect(1);
        // Its handler is stopped, and then the link is gone; what it learns first is true.
        let call = call.end();
        assert!(matches!(call.code, Some(6 | 8)), "{call:?}");
    }
}

#[test]
fn calls_under_way_have_a_drain_timeout() {
    for runtime in RUNTIMES {
        let server = Server::demo(runtime, "json", &["--drain", "50ms"]);
        server.show_calls();
        let call = server.start_call(&["delay", r#"{"seconds": 3600}"#]);
        server.process.wait_for("delay called");
        server.process.signal(Signal::TERM);
        server.process.end().expect(0).expect_stderr("were ended");
        call.end().expect(8);
    }
}

#[test]
fn keys_are_ordered_as_the_server_was_told() {
    at_once(RUNTIMES, |runtime| {
        let server = Server::demo(runtime, "json", &["--ordering", "key-serialized"]);
        server.show_calls();
        let call = server.start_call(&["delay", r#"{"seconds": 3600}"#, "--key", "web"]);
        server.process.wait_for("delay called");
        server.call_until_timeout(&["echo", r#"{"sent": 1}"#, "--key", "web"]);
        let echo = ["echo", r#"{"sent": 1}"#, "--timeout"];
        server.call(&[&echo[..], &["30s", "--key", "db"]].concat()).expect(0);
        server.call(&[&echo[..], &["30s"]].concat()).expect(0);
        drop(call);
        let unordered = Server::demo(runtime, "json", &["--ordering", "unordered"]);
        unordered.show_calls();
        let call = unordered.start_call(&["delay", r#"{"seconds": 3600}"#, "--key", "web"]);
        unordered.process.wait_for("delay called");
        unordered.call(&[&echo[..], &["30s", "--key", "web"]].concat()).expect(0);
        drop(call);
    });
}

#[test]
fn a_server_can_listen_in_several_places() {
    for runtime in RUNTIMES {
        let path = std::env::temp_dir().join(format!("callosum-cli-{runtime}-{}", std::process::id()));
        let ipc = format!("ipc://{}", path.display());
        let server = Server::demo(runtime, "json", &["--bind", &ipc, "--bind", "tcp://[::1]:0"]);
        let mut endpoints = vec![server.endpoint.clone()];
        for _ in 0..2 {
            let line = server.process.line();
            endpoints.push(line.strip_prefix("listening on ").unwrap().to_owned());
        }
        assert_eq!(endpoints[1], ipc);
        for endpoint in &endpoints {
            server.start_call_to(endpoint, &["echo", r#"{"sent":1}"#]).end().expect(0);
        }
        server.process.signal(Signal::TERM);
        server.process.end().expect(0);
        assert!(!path.exists(), "the socket is left behind");
    }
}

#[test]
fn an_endpoint_that_is_taken_is_an_error() {
    for runtime in RUNTIMES {
        let server = Server::demo(runtime, "json", &[]);
        let args = [
            "serve",
            "--demo",
            "--bind",
            "tcp://127.0.0.1:0",
            "--bind",
            &server.endpoint,
            "--runtime",
            runtime,
        ];
        let ended = Process::start(&args).end().expect(1).expect_stderr("can't bind");
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
}

#[test]
fn logging_is_asked_for() {
    let mut serve = command(&["serve", "--demo", "--bind", "tcp://127.0.0.1:0"]);
    serve.env("RUST_LOG", "info");
    let server = Process::spawn(serve);
    let endpoint = server.line().strip_prefix("listening on ").unwrap().to_owned();
    Process::start(&["call", &endpoint, "memstat"]).end().expect(0);
    server.wait_for("peer connected");
}
