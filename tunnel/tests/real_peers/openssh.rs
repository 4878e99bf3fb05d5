//! `ssh` whose connection goes over the standard streams of a program that holds one end of a tunnel.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};

use callosum_runtime::auth::save_keys;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use crate::body;
use crate::gateway::{Gateway, NAME, Security, USER};
use crate::programs::{Scratch, find, need_directory, printed, run, text};

/// An SSH server of its own: its keys, its settings, and whom it lets in.
struct Sshd {
    port: u16,
    user: String,
    /// How each of its processes has ended.
    ended: UnboundedReceiver<ExitStatus>,
    _accepting: JoinSet<()>,
}

impl Sshd {
    async fn start(scratch: &Scratch) -> Self {
        let mut command = Command::new(find("id"));
        command.arg("-un");
        let user = text(&printed(run(command, b"").await)).trim().to_owned();
        if user == "root" {
            // Where it confines itself before a user is known; as another user it does not.
            need_directory("/run/sshd");
        }
        for name in ["host", "user"] {
            let mut command = Command::new(find("ssh-keygen"));
            command.args(["-q", "-t", "ed25519", "-N", "", "-f", &scratch.path(name)]);
            printed(run(command, b"").await);
        }
        let settings = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nLogLevel ERROR\n",
            scratch.path("host"),
            scratch.path("user.pub"),
        );
        let file = scratch.path("sshd_config");
        std::fs::write(&file, settings).unwrap();
        // As inetd does: the system chooses the port, and a process serves one connection.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, ended) = unbounded_channel();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut processes = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (mut process, sender) = (sshd(&file, stream), sender.clone());
                processes.spawn(async move { sender.send(process.wait().await.unwrap()) });
            }
        });
        Self { port, user, ended, _accepting: accepting }
    }
}

/// Serves one connection. Dropping it kills it.
fn sshd(settings: &str, stream: TcpStream) -> Child {
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let stream = OwnedFd::from(stream);
    tokio::process::Command::new(find("sshd"))
        .args(["-i", "-e", "-f", settings])
        .stdin(Stdio::from(stream.try_clone().unwrap()))
        .stdout(Stdio::from(stream))
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The program that `ssh` is to connect through, as a command line.
fn proxy_command(gateway: &Gateway, scratch: &Scratch, security: Security) -> String {
    // Beside the folder of the tests' programs.
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().with_file_name("examples").join("stdio");
    let build = "build it with `cargo build -p callosum-tunnel --examples`";
    assert!(example.is_file(), "there is no {}; {build}", example.display());
    let mut command = format!("'{}' {} %h:%p", example.display(), gateway.server);
    if let Some((client, server)) = &gateway.keys {
        let (own, of_server) = (scratch.path("client-curve"), scratch.path("server-curve"));
        save_keys(client, &own).unwrap();
        let public = save_keys(server, of_server).unwrap();
        command += &format!(" '{own}' '{}'", public.display());
    }
    assert_eq!(security == Security::Curve, gateway.keys.is_some());
    command
}

fn ssh(sshd: &Sshd, scratch: &Scratch, proxy_command: &str, port: u16, command: &str) -> Command {
    let mut ssh = Command::new(find("ssh"));
    let options = [
        format!("ProxyCommand={proxy_command}"),
        format!("UserKnownHostsFile={}", scratch.path("known_hosts")),
        format!("IdentityFile={}", scratch.path("user")),
        "GlobalKnownHostsFile=none".to_owned(),
        "HostKeyAlias=peer".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "BatchMode=yes".to_owned(),
    ];
    // Nothing of the user who runs the tests.
    ssh.args(["-F", "none"]).env_remove("SSH_AUTH_SOCK");
    for option in &options {
        ssh.args(["-o", option]);
    }
    ssh.args(["-p", &port.to_string(), &format!("{}@{NAME}", sshd.user), command]);
    ssh
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_over_standard_streams() {
    let body = body(3_000_000);
    let scratch = Scratch::new("openssh");
    let mut sshd = Sshd::start(&scratch).await;
    let host_key = std::fs::read_to_string(scratch.path("host.pub")).unwrap();
    std::fs::write(scratch.path("known_hosts"), format!("peer {host_key}")).unwrap();
    let rules = format!(
        r#"
        [[connect]]
        name = "SSH"
        users = ["{USER}"]
        hosts = ["{NAME}"]
        networks = ["127.0.0.1"]
        ports = [{}]
        "#,
        sshd.port
    );
    for security in Security::BOTH {
        let gateway = Gateway::new(security, &rules).await;
        let proxy_command = proxy_command(&gateway, &scratch, security);
        let echoed = printed(run(ssh(&sshd, &scratch, &proxy_command, sshd.port, "cat"), &body).await);
        assert!(echoed == body, "{security:?}: {} bytes", echoed.len());
        // It learns that the connection has ended.
        sshd.ended.recv().await.unwrap();
        let status = run(ssh(&sshd, &scratch, &proxy_command, sshd.port, "exit 7"), b"").await.status;
        assert_eq!(status.code(), Some(7), "{security:?}");
        sshd.ended.recv().await.unwrap();

        let forbidden = run(ssh(&sshd, &scratch, &proxy_command, 1, "true"), b"").await;
        let said = text(&forbidden.stderr);
        assert_eq!(forbidden.status.code(), Some(255), "{security:?}: {said}");
        assert!(said.contains("Forbidden"), "{security:?}: {said}");
    }
}
