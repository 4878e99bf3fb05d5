//! The engine's example of a host, on blocking sockets and threads, against the command line and Python.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use callosum_proto::zmtp::CurveKeyPair;
use callosum_tests::interop::farewell;
use callosum_tests::python::PyProcess;
use serde_json::{Value, json};

/// A program that was built with the tests.
fn program(name: &str) -> Command {
    let tests = env::current_exe().unwrap();
    let path: PathBuf = tests.parent().unwrap().parent().unwrap().join(name);
    let how = "build it with `cargo build --workspace --bins --examples`";
    assert!(path.exists(), "{} is missing: {how}", path.display());
    let mut command = Command::new(path);
    command.env_remove("SECRET_KEY").env_remove("SERVER_KEY");
    command
}

fn host() -> Command {
    program("examples/blocking")
}

/// A program that says `listening on ENDPOINT`, and runs until this is dropped.
struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    fn start(mut command: Command, arguments: &[&str]) -> Self {
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let endpoint = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { child, endpoint }
    }

    fn blocking() -> Self {
        Self::start(host(), &["serve", "tcp://127.0.0.1:0"])
    }

    fn command_line(more: &[&str]) -> Self {
        let arguments =
            [&["serve", "--demo", "--bind", "tcp://127.0.0.1:*", "--codec", "json"], more].concat();
        Self::start(program("callosum"), &arguments)
    }

    fn call_from_the_command_line(&self, more: &[&str]) -> Output {
        let mut command = program("callosum");
        command.args(["call", &self.endpoint]).args(more).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn call_from_the_host(endpoint: &str, method: &str, argument: &str) -> Output {
    host().args(["call", endpoint, method, argument]).output().unwrap()
}

/// What it printed, if it went well.
#[track_caller]
fn printed(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[track_caller]
fn failed(output: &Output, code: i32, text: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(text), "{output:?}");
}

#[test]
fn it_serves_itself() {
    let server = Server::blocking();
    let call = |method, argument| call_from_the_host(&server.endpoint, method, argument);
    assert_eq!(printed(call("echo", r#"{"a": "b c"}"#)), r#"{"a": "b c"}"#);
    assert_eq!(printed(call("call_back", "[1]")), "[1]", "the caller is called");
    assert_eq!(printed(call("delay", r#"{"seconds": 0.01}"#)), r#"{"seconds": 0.01}"#);
    let count = printed(call("count", r#"{"to": 100000}"#));
    assert_eq!(count.lines().count(), 100_000, "more than fits into the buffers on the way");
    assert!(count.lines().zip(1..).all(|(line, number)| line == number.to_string()));
    failed(&call("nix", "null"), 1, "NoSuchMethod");
}

#[test]
fn it_serves_the_command_line() {
    let server = Server::blocking();
    assert_eq!(printed(server.call_from_the_command_line(&["echo", r#"{"a":1}"#])), r#"{"a":1}"#);
    let items = server.call_from_the_command_line(&["count", r#"{"to": 3}"#, "--stream"]);
    assert_eq!(printed(items), "1\n2\n3");
    failed(&server.call_from_the_command_line(&["nix"]), 4, "NoSuchMethod");
}

/// Calls of one key run one after the other, so that the second one would wait for a handler that goes on.
#[test]
fn its_handlers_stop_when_their_caller_does() {
    let server = Server::blocking();
    // If the machine is too slow to connect by then, again with twice the time.
    for n in 0.. {
        let timeout = format!("{}ms", 200 << n);
        let hang = ["delay", r#"{"seconds": 100000}"#, "--key", "k", "--timeout", &timeout];
        let ended = server.call_from_the_command_line(&hang);
        if ended.status.code() != Some(7) {
            failed(&ended, 5, "");
            break;
        }
    }
    assert_eq!(printed(server.call_from_the_command_line(&["echo", "1", "--key", "k"])), "1");
}

#[test]
fn it_takes_five_mebibytes() {
    let server = Server::blocking();
    let mut command = program("callosum");
    command.args(["call", &server.endpoint, "echo", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let text = format!("\"{}\"", "callosum".repeat(5 << 17));
    assert!(text.len() > 5 << 20);
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(printed(child.wait_with_output().unwrap()) == text, "it comes back as it was");
}

#[test]
fn it_calls_the_command_line() {
    let server = Server::command_line(&[]);
    let call = |method, argument| call_from_the_host(&server.endpoint, method, argument);
    let echoed: Value = serde_json::from_str(&printed(call("echo", r#"{"sent": [1, 2]}"#))).unwrap();
    assert!(echoed.to_string().contains("[1,2]"), "{echoed}");
    failed(&call("nix", "{}"), 1, "NoSuchMethod");
}

#[test]
fn python_calls_it() {
    let server = Server::blocking();
    let mut client = PyProcess::spawn("client.py", &["--connect", &server.endpoint, "--serve"]);
    client.wait_line("ready");
    let mut ask = |command: Value| client.request(&command);
    let body = json!({"sent": "größe"});
    let call = |method: &str, body: &Value| json!({"op": "call", "method": method, "body": body});
    assert_eq!(ask(call("echo", &body)), json!({"ok": body}));
    assert_eq!(ask(call("call_back", &body)), json!({"ok": {"received": "größe"}}), "Python is called");
    assert_eq!(ask(call("nix", &body))["error"]["name"], "NoSuchMethod");
    // Its results are streamed, which Python can't take.
    assert_eq!(ask(call("count", &json!({"to": 3})))["error"]["name"], "Unsupported");
    let many = json!({"op": "many", "n": 200, "keys": 5, "body": body, "expect": body});
    assert_eq!(ask(many)["ok"]["good"], 200);
    let hang = json!({
        "op": "cancel", "method": "delay", "body": {"seconds": 100_000}, "key": "k", "after": 0.1, "wait": 20,
    });
    assert_eq!(ask(hang), json!({"ok": {"cancelled": true, "answer": "CANCELLED"}}));
    let text = "callosum".repeat(5 << 17);
    assert!(ask(call("echo", &json!(text)))["ok"] == text, "5 MiB come back as they were");
    assert_eq!(ask(json!({"op": "quit"})), json!({"ok": null}));
    farewell(client);
}

#[test]
fn it_calls_python() {
    let mut server = PyProcess::spawn("server.py", &["--bind", "tcp://127.0.0.1:*"]);
    let endpoint = server.wait_line("listening on ");
    let call = |method, argument| call_from_the_host(&endpoint, method, argument);
    let sum = printed(call("add", r#"{"a": 1, "b": 2}"#));
    assert_eq!(serde_json::from_str::<Value>(&sum).unwrap(), json!({"result": 3}));
    let delayed = printed(call("delay", r#"{"seconds": 0.01}"#));
    assert!(delayed.contains("0.01"), "{delayed}");
    farewell(server);
}

#[test]
fn it_speaks_curve() {
    let [ours, theirs] = [[1; 32], [2; 32]].map(CurveKeyPair::generate);
    let keyed = |with_server: bool| {
        let mut command = host();
        let keys = if with_server { &ours } else { &theirs };
        command.env("SECRET_KEY", keys.secret_z85().as_str());
        if with_server {
            command.env("SERVER_KEY", theirs.public().to_string());
        }
        command
    };
    let server = Server::start(keyed(false), &["serve", "tcp://127.0.0.1:0"]);
    let arguments = ["call", &server.endpoint, "call_back", "[1]"];
    assert_eq!(printed(keyed(true).args(arguments).output().unwrap()), "[1]");
    let plain = host().args(arguments).output().unwrap();
    assert!(!plain.status.success(), "a server with CURVE speaks nothing else");
}
