//! `callosum tunnel` with `curl` through `-D`, and with `ssh` through `-W`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::common::gateway::Gateway;
use crate::common::scratch::Scratch;
use crate::common::{RUNTIMES, command};
use rustix::process::Signal;

const INSTALL: &str = "apt-get install --yes curl openssh-client openssh-server && mkdir -p /run/sshd";

/// A program of others.
fn program(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian's daemons are in /usr/sbin, which not every user looks at.
    let mut directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = directories.find_map(|directory| Some(directory.join(name)).filter(|path| path.is_file()));
    Command::new(found.unwrap_or_else(|| panic!("{name} is not installed: {INSTALL}")))
}

/// Runs a program to its end, with `input` at its standard input.
fn run(command: &mut Command, input: Vec<u8>) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Fails if the program ends before it has read everything; its status tells why.
    let writing = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

#[track_caller]
fn printed(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn body(scratch: &Scratch) -> Vec<u8> {
    std::fs::read(scratch.file("body", 1_000_000, 1)).unwrap()
}

fn rules(port: u16) -> String {
    format!(
        "[[connect]]\nname = \"by address\"\nusers = [\"alice\"]\nnetworks = [\"127.0.0.1\"]\nports = [{port}]\n\
         [[connect]]\nname = \"by name\"\nusers = [\"alice\"]\nhosts = [\"localhost\"]\n\
         networks = [\"127.0.0.1\"]\nports = [{port}]\n"
    )
}

/// A listener of loopback, whose connections are served until this process ends.
fn serve(each: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || each(socket));
        }
    });
    port
}

/// Answers one request with its own body.
fn web(socket: TcpStream) {
    let (mut socket, mut length, mut line) = (BufReader::new(socket), 0, String::new());
    while line != "\r\n" {
        line.clear();
        socket.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    socket.get_mut().write_all(&[head.as_bytes(), &body].concat()).unwrap();
}

#[test]
fn curl_through_a_dynamic_forward() {
    let port = serve(web);
    for runtime in RUNTIMES {
        let gateway = Gateway::new(runtime, &rules(port));
        let body = body(&gateway.scratch);
        let tunnel = crate::common::Process::spawn(command(&gateway.tunnel(&["-D", "0"])));
        let line = tunnel.line();
        let proxy = line.strip_prefix("forwarding ").unwrap().split_once(" → ").unwrap().0;
        let curl = |options: &[&str], url: &str| {
            let mut curl = program("curl");
            // Without the user's own settings; `-q` must come first.
            curl.args(["-q", "--silent", "--show-error", "--noproxy", ""]).args(options);
            curl.args(["--header", "Expect:", "--data-binary", "@-", url]);
            run(&mut curl, body.clone())
        };
        let (socks5, connect) = (format!("socks5h://{proxy}"), format!("http://{proxy}"));
        for options in [&["--proxy", &*socks5][..], &["--proxytunnel", "--proxy", &connect]] {
            for host in ["127.0.0.1", "localhost"] {
                let echoed = printed(curl(options, &format!("http://{host}:{port}/")));
                assert!(echoed == body, "{runtime}, {options:?}, {host}: {} bytes", echoed.len());
            }
        }
        let forbidden = curl(&["--proxy", &socks5], "http://127.0.0.1:1/");
        assert_eq!(forbidden.status.code(), Some(97), "{}", String::from_utf8_lossy(&forbidden.stderr));
        tunnel.signal(Signal::TERM);
        tunnel.end().expect(0);
    }
}

/// The five lines of the README, each with what is here in place of the names that are an example.
#[test]
fn the_readmes_tunnel() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, section) = readme.split_once("\n## A tunnel\n").unwrap();
    let block = section.split("```").nth(1).unwrap().strip_prefix("text\n").unwrap();
    let [keys, serving, tunnel, forwarded, proxied] = block.lines().collect::<Vec<_>>()[..] else {
        panic!("five lines: {block}");
    };
    let port = serve(web);
    let scratch = Scratch::new();
    let start = |line: &str, replaced: &[(&str, &str)]| {
        // A shell takes the quotes away.
        let words = line.split(' ').skip(1).map(|word| word.trim_matches('\'')).map(|word| {
            let found = replaced.iter().find(|(example, _)| word.contains(example));
            found.map_or_else(|| word.to_owned(), |(example, here)| word.replace(example, here))
        });
        let mut command = command(&words.collect::<Vec<_>>());
        command.current_dir(scratch.path(""));
        command
    };
    let mut shell = Command::new("sh");
    let binary = Path::new(env!("CARGO_BIN_EXE_callosum")).parent().unwrap();
    let path = std::env::join_paths([binary, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    printed(run(shell.args(["-c", keys]).env("PATH", path).current_dir(scratch.path("")), Vec::new()));
    std::fs::write(scratch.path("rules.toml"), rules(port)).unwrap();

    let server = crate::common::Process::spawn(start(serving, &[("tcp://*:5555", "tcp://127.0.0.1:0")]));
    let endpoint = server.line().strip_prefix("listening on ").unwrap().to_owned();
    let forward = format!("0:127.0.0.1:{port}");
    let replaced =
        [("tcp://SERVER:5555", &*endpoint), ("8080:app.internal:80", &forward), ("1080", "127.0.0.1:0")];
    let tunnel = crate::common::Process::spawn(start(tunnel, &replaced));
    let [local, proxy] = [(); 2].map(|()| {
        let line = tunnel.line();
        line.strip_prefix("forwarding ").unwrap().split_once(" → ").unwrap().0.to_owned()
    });
    let wiki = format!("localhost:{port}");
    for line in [forwarded, proxied] {
        let replaced = [("localhost:8080", &local), ("localhost:1080", &proxy), ("wiki.internal", &wiki)];
        let words = start(line, &replaced.map(|(example, here)| (example, &**here)));
        let mut curl = program("curl");
        curl.args(["-q", "--silent", "--show-error", "--noproxy", &local, "--include"])
            .args(words.get_args());
        let head = printed(run(&mut curl, Vec::new()));
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{line}: {}", String::from_utf8_lossy(&head));
    }
    for process in [tunnel, server] {
        process.signal(Signal::TERM);
        process.end().expect(0);
    }
}

/// An SSH server of its own, as inetd has it: a process for each connection, which ends with that.
fn sshd(scratch: &Scratch) -> u16 {
    for name in ["host", "user"] {
        let mut keygen = program("ssh-keygen");
        printed(run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &scratch.text(name)]), Vec::new()));
    }
    let settings = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nLogLevel ERROR\n",
        scratch.text("host"),
        scratch.text("user.pub"),
    );
    let file = scratch.text("sshd_config");
    std::fs::write(&file, settings).unwrap();
    let file: &'static str = file.leak();
    serve(move |socket| {
        let socket = OwnedFd::from(socket);
        let mut sshd = program("sshd");
        sshd.args(["-i", "-e", "-f", file])
            .stdin(socket.try_clone().unwrap())
            .stdout(socket)
            .stderr(Stdio::null());
        let mut child = sshd.spawn().unwrap();
        // The command has the socket too.
        drop(sshd);
        child.wait().unwrap();
    })
}

#[test]
fn ssh_through_standard_streams() {
    let scratch = Scratch::new();
    let user = String::from_utf8(printed(run(program("id").arg("-un"), Vec::new()))).unwrap();
    if user.trim() == "root" {
        assert!(Path::new("/run/sshd").is_dir(), "there is no /run/sshd: {INSTALL}");
    }
    let port = sshd(&scratch);
    let host_key = std::fs::read_to_string(scratch.path("host.pub")).unwrap();
    std::fs::write(scratch.path("known_hosts"), format!("peer {host_key}")).unwrap();
    let gateway = Gateway::new("tokio", &rules(port));
    let words = gateway.tunnel(&["-W", "%h:%p"]);
    let proxy_command = format!("'{}' '{}'", env!("CARGO_BIN_EXE_callosum"), words.join("' '"));
    let ssh = |port: u16, command: &str, input: Vec<u8>| {
        let mut ssh = program("ssh");
        // Nothing of the user who runs the tests.
        ssh.args(["-F", "none"]).env_remove("SSH_AUTH_SOCK").env("XDG_CONFIG_HOME", "/nowhere");
        for option in [
            format!("ProxyCommand={proxy_command}"),
            format!("UserKnownHostsFile={}", scratch.text("known_hosts")),
            format!("IdentityFile={}", scratch.text("user")),
            "GlobalKnownHostsFile=none".to_owned(),
            "HostKeyAlias=peer".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "BatchMode=yes".to_owned(),
        ] {
            ssh.args(["-o", &option]);
        }
        run(ssh.args(["-p", &port.to_string(), &format!("{}@localhost", user.trim()), command]), input)
    };
    let body = body(&gateway.scratch);
    let echoed = printed(ssh(port, "cat", body.clone()));
    assert!(echoed == body, "{} bytes", echoed.len());
    assert_eq!(ssh(port, "exit 7", Vec::new()).status.code(), Some(7));
    let forbidden = ssh(1, "true", Vec::new());
    let said = String::from_utf8_lossy(&forbidden.stderr);
    assert!(forbidden.status.code() == Some(255) && said.contains("the rules forbid it"), "{said}");
}
