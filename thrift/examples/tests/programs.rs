//! Runs the programs: against each other, and with upstream's, which are not changed.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use callosum_tests::python::{PyProcess, upstream_examples};

fn program(example: &str) -> Command {
    // Cargo builds a package's examples together with its tests, into a folder beside theirs.
    let test = std::env::current_exe().unwrap();
    Command::new(test.parent().unwrap().with_file_name("examples").join(example))
}

/// A running server, killed when dropped.
struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    fn start() -> Self {
        let mut child =
            program("simple_server").arg("tcp://127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let endpoint = line.strip_prefix("listening on ").unwrap().trim().to_owned();
        Self { child, endpoint }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the client, which asserts what it shows.
fn call(endpoint: &str) {
    let output = program("simple_client").arg(endpoint).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn upstream(name: &str, endpoint: &str) -> PyProcess {
    let path = upstream_examples().join(name).display().to_string();
    PyProcess::spawn("redirected.py", &[&path, endpoint])
}

#[test]
fn the_client_calls_the_server() {
    let server = Server::start();
    call(&server.endpoint);
}

#[test]
fn upstreams_client_calls_the_server() {
    let server = Server::start();
    let mut client = upstream("simple-client-thrift.py", &server.endpoint);
    client.wait_line("long_delay(): timeout occurred as expected (with default timeout)");
    let (status, stderr) = client.wait_exit();
    assert!(status.success(), "{status}\n{stderr}");
}

#[test]
fn the_client_calls_upstreams_server() {
    let mut server = upstream("simple-server-thrift.py", "tcp://127.0.0.1:*");
    call(&server.wait_line("listening on "));
}
