//! `callosum tunnel` through `callosum serve --tunnels`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use crate::common::scratch::Scratch;
use crate::common::{Process, RUNTIMES, Server, command};
use rustix::process::Signal;

/// A server that lets alice connect to one port and listen on any, and a target that echoes on that port.
struct Setup {
    scratch: Scratch,
    server: Server,
    target: String,
}

impl Setup {
    fn new(runtime: &'static str) -> Self {
        let scratch = Scratch::new();
        for name in ["server", "alice"] {
            Process::start(&["keygen", &scratch.text(name)]).end().expect(0);
        }
        let alice = fs::read_to_string(scratch.path("alice.pub")).unwrap();
        fs::write(scratch.path("allowed"), format!("{} alice\n", alice.trim())).unwrap();
        let target = echo();
        let port = target.rsplit_once(':').unwrap().1;
        let rules = format!(
            "[[connect]]\nname = \"echo\"\nusers = [\"alice\"]\nnetworks = [\"127.0.0.0/8\"]\nports = [{port}]\n\
             [[listen]]\nname = \"back\"\nusers = [\"alice\"]\naddresses = [\"127.0.0.1\"]\nports = [0]\n"
        );
        fs::write(scratch.path("rules.toml"), rules).unwrap();
        let (key, allow, rules) =
            (scratch.text("server"), scratch.text("allowed"), scratch.text("rules.toml"));
        let keys = ["--tunnels", &rules, "--curve-key", &key, "--allow", &allow];
        let server = Server::start(runtime, "json", &keys);
        Self { scratch, server, target }
    }

    fn tunnel(&self, more: &[&str]) -> Process {
        let (key, server_key) = (self.scratch.text("alice"), self.scratch.text("server.pub"));
        let tunnel = ["tunnel", &self.server.endpoint, "--curve-key", &key, "--server-key", &server_key];
        let mut tunnel = command(&[&tunnel[..], &["--runtime", self.server.runtime], more].concat());
        tunnel.stdin(Stdio::piped());
        Process::spawn(tunnel)
    }
}

/// Echoes what each connection sends, until this process ends.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &socket, &mut &socket));
        }
    });
    address
}

/// Where the next forward accepts, and the rest of its line.
fn forwarding(tunnel: &Process) -> (String, String) {
    let line = tunnel.line();
    let (listen, target) = line.strip_prefix("forwarding ").unwrap().split_once(" → ").unwrap();
    (listen.to_owned(), target.to_owned())
}

#[track_caller]
fn assert_echoes(mut socket: &TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).unwrap();
    let mut back = vec![0; text.len()];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(back, text.as_bytes());
}

#[test]
fn forwards_of_each_kind_share_a_connection() {
    for runtime in RUNTIMES {
        let setup = Setup::new(runtime);
        let forward = format!("0:{}", setup.target);
        let tunnel = setup.tunnel(&["-L", &forward, "-R", &forward, "-D", "0"]);
        let (local, target) = forwarding(&tunnel);
        assert_eq!(target, setup.target);
        assert_echoes(&TcpStream::connect(local).unwrap(), "there and back");
        tunnel.wait_for("opened #");
        tunnel.wait_for("14 B there, 14 B back");

        let (dynamic, _) = forwarding(&tunnel);
        let mut client = TcpStream::connect(dynamic).unwrap();
        write!(client, "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", setup.target).unwrap();
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            reply.extend(byte);
        }
        assert!(reply.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
        assert_echoes(&client, "by name");

        let (remote, _) = forwarding(&tunnel);
        assert_echoes(&TcpStream::connect(remote).unwrap(), "the other way");
        drop(client);
        tunnel.signal(Signal::TERM);
        tunnel.end().expect(0);
    }
}

#[test]
fn stdin_and_stdout_are_a_connection() {
    for runtime in RUNTIMES {
        let setup = Setup::new(runtime);
        let mut tunnel = setup.tunnel(&["-W", &setup.target]);
        let mut input = tunnel.stdin();
        input.write_all(b"one\n").unwrap();
        assert_eq!(tunnel.line(), "one", "it is there while more may come");
        input.write_all(b"two").unwrap();
        drop(input);
        assert_eq!(tunnel.end().expect(0).stdout, ["two"]);
        let refused = setup.tunnel(&["-W", "127.0.0.1:1"]).end().expect(4);
        refused.expect_stderr("the rules forbid it");
    }
}

#[test]
fn what_is_open_is_drained_at_the_end() {
    let setup = Setup::new("tokio");
    let forward = format!("0:{}", setup.target);
    let tunnel = setup.tunnel(&["-L", &forward]);
    let local = forwarding(&tunnel).0;
    let socket = TcpStream::connect(&local).unwrap();
    assert_echoes(&socket, "before");
    tunnel.signal(Signal::INT);
    tunnel.wait_for("again to stop at once");
    assert_echoes(&socket, "after");
    drop(socket);
    tunnel.end().expect(0);
    // A second signal and a deadline don't wait for what stays open.
    for (drain, code, ends) in [("1h", 1, "stopped"), ("50ms", 0, "were reset")] {
        let tunnel = setup.tunnel(&["-L", &forward, "--drain", drain]);
        let socket = TcpStream::connect(forwarding(&tunnel).0).unwrap();
        assert_echoes(&socket, "open");
        tunnel.signal(Signal::INT);
        tunnel.wait_for("again to stop at once");
        if code == 1 {
            tunnel.signal(Signal::INT);
        }
        tunnel.end().expect(code).expect_stderr(ends);
        drop(socket);
    }
    setup.server.process.signal(Signal::TERM);
    setup.server.process.end().expect(0);
}

#[test]
fn what_is_not_allowed_is_reset_and_said() {
    let setup = Setup::new("tokio");
    let tunnel = setup.tunnel(&["-L", "0:127.0.0.1:1"]);
    let mut socket = TcpStream::connect(forwarding(&tunnel).0).unwrap();
    assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    tunnel.wait_for("the rules forbid it; the rules of the server's --tunnels");
    setup.tunnel(&["-R", "0.0.0.0:0:127.0.0.1:1"]).end().expect(4).expect_stderr("the rules forbid it");
    // An address that is taken is this side's.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = format!("{}:{}", taken.local_addr().unwrap(), setup.target);
    setup.tunnel(&["-L", &forward]).end().expect(1).expect_stderr("can't listen on");
}

#[test]
fn what_is_wrong_is_told_before_anything_listens() {
    let setup = Setup::new("tokio");
    for args in [&[][..], &["-L", "8080"], &["-D", "x"], &["-W", "h:1", "-D", "0"], &["-R", "a:b:c:d:e"]] {
        setup.tunnel(args).end().expect(2);
    }
    let demo = Server::demo("tokio", "json", &[]);
    let pipe = Process::start(&["tunnel", &demo.endpoint, "-W", "127.0.0.1:1"]).end();
    pipe.expect(4).expect_stderr("does the server run with --tunnels?");
    Process::start(&["tunnel", "ipc:///nowhere", "-D", "0", "--timeout", "50ms"]).end().expect(7);
    let (key, allow) = (setup.scratch.text("server"), setup.scratch.text("allowed"));
    let rules = setup.scratch.text("bad.toml");
    fs::write(&rules, "[[connect]]\nname = \"x\"\nusers = 7\n").unwrap();
    let serve = ["serve", "--bind", "tcp://127.0.0.1:0", "--tunnels", &rules];
    let ended = Process::start(&[&serve[..], &["--curve-key", &key, "--allow", &allow]].concat()).end();
    ended.expect(1).expect_stderr("bad.toml: line 3, column 9");
    Process::start(&serve).end().expect(2).expect_stderr("--curve-key");
}
