//! `callosum tunnel` through `callosum serve --tunnels`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::common::gateway::Gateway;
use crate::common::terminal::{COLUMNS, OnTerminal};
use crate::common::{Ended, Process, RUNTIMES, Server, command, wait_until};
use rustix::process::Signal;

/// A server that lets alice connect to one port and listen on any, and a target that echoes on that port.
struct Setup {
    gateway: Gateway,
    target: String,
}

impl Setup {
    fn new(runtime: &'static str) -> Self {
        Self::spawn(runtime, Process::spawn)
    }

    /// One whose server starts like this.
    fn spawn(runtime: &'static str, spawn: impl FnOnce(Command) -> Process) -> Self {
        let target = echo();
        let port = target.rsplit_once(':').unwrap().1;
        let rules = format!(
            "[[connect]]\nname = \"echo\"\nusers = [\"alice\"]\nnetworks = [\"127.0.0.0/8\"]\nports = [{port}]\n\
             [[listen]]\nname = \"back\"\nusers = [\"alice\"]\naddresses = [\"127.0.0.1\"]\nports = [0]\n"
        );
        Self { gateway: Gateway::spawn(runtime, &rules, spawn), target }
    }

    fn tunnel(&self, more: &[&str]) -> Process {
        Process::spawn(self.command(more))
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut tunnel = command(&self.gateway.tunnel(more));
        tunnel.stdin(Stdio::piped());
        tunnel
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
    split(&tunnel.line())
}

fn split(line: &str) -> (String, String) {
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
        // A path stands for a Unix socket, as it does in -L.
        setup.tunnel(&["-W", "/nowhere"]).end().expect(4).expect_stderr("the rules forbid it");
    }
}

#[test]
fn what_is_open_is_drained_at_the_end() {
    let setup = Setup::new("tokio");
    let forward = format!("0:{}", setup.target);
    let closed = |ended: &Ended| ended.stderr.iter().filter(|line| line.contains("closed #")).count();
    let tunnel = setup.tunnel(&["-L", &forward]);
    let local = forwarding(&tunnel).0;
    let sockets = [(); 3].map(|()| TcpStream::connect(&local).unwrap());
    sockets.iter().for_each(|socket| assert_echoes(socket, "before"));
    tunnel.signal(Signal::INT);
    tunnel.wait_for("again to stop at once");
    sockets.iter().for_each(|socket| assert_echoes(socket, "after"));
    drop(sockets);
    // Each is told of, also the one that ends last.
    let ended = tunnel.end().expect(0);
    assert_eq!(closed(&ended), 3, "{ended:?}");
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
        let ended = tunnel.end().expect(code).expect_stderr(ends);
        assert_eq!(closed(&ended), usize::from(code == 0), "{ended:?}");
        drop(socket);
    }
    setup.gateway.server.process.signal(Signal::TERM);
    setup.gateway.server.process.end().expect(0);
}

/// The rows of the table's pictures, as cells: a forward, connections that are open and in all, bytes there and back in a second and
/// in all, and how many were refused.
fn rows(shown: &str) -> Vec<Vec<String>> {
    let shown = anstream::adapter::strip_str(shown).to_string();
    // Each line fills the terminal's, and no break follows.
    let lines = shown.split(['\r', '\n']).flat_map(|part| {
        let part: Vec<_> = part.chars().collect();
        part.chunks(COLUMNS).map(String::from_iter).collect::<Vec<_>>()
    });
    let cells = |line: String| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    lines.filter(|line| line.contains(" → ")).map(cells).collect()
}

#[test]
fn a_terminal_shows_a_table() {
    let setup = Setup::new("tokio");
    let mut command = setup.command(&["-L", &format!("0:{}", setup.target), "-L", "0:127.0.0.1:1"]);
    command.stdout(Stdio::piped());
    let mut terminal = OnTerminal::start(command);
    let (local, _) = split(&terminal.stdout_line());
    let (forbidden, _) = split(&terminal.stdout_line());
    let name = format!("{local} → {}", setup.target);
    // What the columns say besides rates, which depend on when they are drawn.
    let has = |open: &str, all: &str, bytes: &str| {
        let (name, expected) = (name.clone(), [open, all, bytes, bytes, "0"].map(str::to_owned));
        move |shown: &str| {
            let of_forward = |row: &&Vec<String>| row[0] == name;
            let cells = |row: &Vec<String>| {
                // A picture may not have come as a whole.
                let total = row.len().saturating_sub(3);
                [1, 2, total, total + 1, total + 2].map(|n| row.get(n).cloned().unwrap_or_default())
            };
            rows(shown).iter().filter(of_forward).any(|row| cells(row) == expected)
        }
    };
    terminal.wait_for(|shown| shown.contains("FORWARD"));
    terminal.wait_for(has("0", "0", "0 B"));
    let socket = TcpStream::connect(&local).unwrap();
    assert_echoes(&socket, "there and back");
    terminal.wait_for(has("1", "1", "14 B"));
    drop(socket);
    terminal.wait_for(has("0", "1", "14 B"));
    let first = rows(&terminal.text());
    assert!(first.iter().any(|row| row[0].ends_with("127.0.0.1:1")), "{first:?}");
    // A refusal has a reason, which the table does not tell.
    TcpStream::connect(&forbidden).unwrap().read(&mut [0]).unwrap_err();
    terminal.wait_for(|shown| shown.contains(&format!("refused #1 {forbidden}")));
    terminal.wait_for(|shown| shown.contains("the rules forbid it"));
    terminal.signal(Signal::INT);
    let shown = terminal.end();
    assert!(shown.contains("waiting for the open connections to end"), "{shown:?}");
    // The table is gone in the end, as is every line below the last note.
    assert!(!shown.contains("opened #"), "{shown:?}");
}

#[test]
fn a_stderr_that_nobody_reads_delays_no_connection_and_no_signal() {
    for runtime in RUNTIMES {
        let setup = Setup::new(runtime);
        let forward = format!("0:{}", setup.target);
        let (tunnel, stderr) = Process::spawn_unheard(setup.command(&["-L", &forward, "--drain", "1h"]));
        let local = forwarding(&tunnel).0;
        let first = TcpStream::connect(&local).unwrap();
        // The first line says that it is open, and finds no room.
        for _ in 0..10 {
            assert_echoes(&TcpStream::connect(&local).unwrap(), "another");
            assert_echoes(&first, "the first");
        }
        tunnel.signal(Signal::INT);
        wait_until("no more connections", || TcpStream::connect(&local).is_err());
        assert_echoes(&first, "drained");
        tunnel.signal(Signal::INT);
        assert_eq!(tunnel.end().code, Some(1));
        drop(stderr);
    }
}

#[test]
fn a_paused_terminal_delays_no_connection_and_no_signal() {
    let setup = Setup::new("tokio");
    let mut command = setup.command(&["-L", &format!("0:{}", setup.target), "--drain", "1h"]);
    command.stdout(Stdio::piped());
    let mut terminal = OnTerminal::start(command);
    let (local, _) = split(&terminal.stdout_line());
    let socket = TcpStream::connect(&local).unwrap();
    assert_echoes(&socket, "open");
    terminal.wait_for(|shown| shown.contains("FORWARD"));
    terminal.pause();
    terminal.signal(Signal::INT);
    wait_until("no more connections", || TcpStream::connect(&local).is_err());
    assert_echoes(&socket, "drained");
    terminal.signal(Signal::INT);
    assert!(!terminal.end_with(1).contains("waiting for the open connections"));
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
fn a_client_that_names_no_target_is_shown() {
    let setup = Setup::new("tokio");
    let tunnel = setup.tunnel(&["-D", "0"]);
    let mut client = TcpStream::connect(forwarding(&tunnel).0).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    tunnel.wait_for(&format!(" from {}: ", client.local_addr().unwrap()));
}

#[test]
fn brackets_around_a_host_are_those_of_ssh() {
    let setup = Setup::new("tokio");
    let target = setup.target.replace("127.0.0.1", "[127.0.0.1]");
    let mut tunnel = setup.tunnel(&["-W", &target]);
    tunnel.stdin().write_all(b"one\n").unwrap();
    assert_eq!(tunnel.end().expect(0).stdout, ["one"]);
}

/// The port is the system's choice, and may be another each time.
#[test]
fn another_port_on_the_other_side_is_told_even_when_quiet() {
    let setup = Setup::new("tokio");
    let tunnel = setup.tunnel(&["-q", "-R", &format!("0:{}", setup.target)]);
    let (first, _) = forwarding(&tunnel);
    let path = setup.gateway.scratch.path("rules.toml");
    let rules = fs::read_to_string(&path).unwrap();
    fs::write(&path, rules.split("[[listen]]").next().unwrap()).unwrap();
    let mut taken = None;
    wait_until("the listener is revoked", || {
        taken = TcpListener::bind(&first).ok();
        taken.is_some()
    });
    fs::write(&path, rules).unwrap();
    let (second, target) = forwarding(&tunnel);
    assert_ne!(first, second);
    assert_eq!(target, setup.target);
    assert_echoes(&TcpStream::connect(second).unwrap(), "there");
    tunnel.signal(Signal::TERM);
    let ended = tunnel.end().expect(0);
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn the_reason_of_a_lost_connection_is_shown_once() {
    let setup = Setup::new("tokio");
    let tunnel = setup.tunnel(&["-R", &format!("0:{}", setup.target)]);
    forwarding(&tunnel);
    fs::write(setup.gateway.scratch.path("allowed"), "# nobody\n").unwrap();
    let reason = "no connection to the server: the server did not admit this client";
    tunnel.wait_for(reason);
    // Further attempts fail likewise.
    setup.gateway.server.process.signal(Signal::TERM);
    setup.gateway.server.process.end().expect(0);
    tunnel.wait_for("no connection to the server: ");
    tunnel.signal(Signal::INT);
    let said = tunnel.end().expect(0).stderr.join("\n");
    assert!(!said.contains(reason) && !said.contains("not connected"), "{said}");
}

#[test]
fn a_server_that_is_drained_says_that_it_ended_the_connection() {
    let setup = Setup::spawn("tokio", |mut command| {
        command.args(["--drain", "50ms"]);
        Process::spawn(command)
    });
    let tunnel = setup.tunnel(&["-L", &format!("0:{}", setup.target)]);
    let socket = TcpStream::connect(forwarding(&tunnel).0).unwrap();
    assert_echoes(&socket, "open");
    setup.gateway.server.process.signal(Signal::TERM);
    tunnel.wait_for(": shut down");
    setup.gateway.server.process.end().expect(0);
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
    let (key, allow) = (setup.gateway.scratch.text("server"), setup.gateway.scratch.text("allowed"));
    let rules = setup.gateway.scratch.text("bad.toml");
    fs::write(&rules, "[[connect]]\nname = \"x\"\nusers = 7\n").unwrap();
    let serve = ["serve", "--bind", "tcp://127.0.0.1:0", "--tunnels", &rules];
    let ended = Process::start(&[&serve[..], &["--curve-key", &key, "--allow", &allow]].concat()).end();
    ended.expect(1).expect_stderr("bad.toml: line 3, column 9");
    Process::start(&serve).end().expect(2).expect_stderr("--curve-key");
}
