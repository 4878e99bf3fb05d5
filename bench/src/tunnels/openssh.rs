//! `ssh -L` over TCP to an `sshd` of its own, both with their default ciphers.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::program::{Program, Scratch, find, free_port};
use crate::process::{Server, Starting};

const INSTALL: &str = "apt-get install --yes openssh-client openssh-server && mkdir -p /run/sshd";

/// How long `ssh` may take until it connects.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// Starts both, and waits until the near one accepts.
pub(super) fn start(scratch: &Scratch, target: SocketAddr) -> Result<(Server, Program)> {
    for name in ["host", "user"] {
        let mut command = Command::new(find("ssh-keygen", INSTALL)?);
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(scratch.path(name));
        let status = command.status()?;
        ensure!(status.success(), "ssh-keygen ended with {status}");
    }
    let host_key = fs::read_to_string(scratch.path("host.pub"))?;
    fs::write(scratch.path("known_hosts"), format!("bench {host_key}"))?;
    let settings = scratch.path("sshd_config");
    fs::write(&settings, sshd_settings(scratch))?;
    let sshd = find("sshd", INSTALL)?;
    // As inetd does: the system chooses the port, and the process serves one connection.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut starting = Starting::new(ssh(scratch, listener.local_addr()?.port(), target)?)?;
    let stream = accept(&listener, &mut starting)?;
    let program = serve(&sshd, &settings, stream)?;
    let near = starting
        .listening()
        .with_context(|| format!("ssh did not log in; is there a /run/sshd? {INSTALL}"))?;
    Ok((near, program))
}

fn sshd_settings(scratch: &Scratch) -> String {
    format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nLogLevel ERROR\n",
        scratch.path("host").display(),
        scratch.path("user.pub").display(),
    )
}

/// Says where it accepts once it does, and ends when its stdin does.
fn ssh(scratch: &Scratch, server: u16, target: SocketAddr) -> Result<Command> {
    let near = free_port()?;
    let mut command = Command::new(find("ssh", INSTALL)?);
    // No settings or keys of the user who measures.
    command.args(["-F", "none"]).env_remove("SSH_AUTH_SOCK");
    let options = [
        format!("UserKnownHostsFile={}", scratch.path("known_hosts").display()),
        format!("IdentityFile={}", scratch.path("user").display()),
        "GlobalKnownHostsFile=none".to_owned(),
        "HostKeyAlias=bench".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "BatchMode=yes".to_owned(),
        "ExitOnForwardFailure=yes".to_owned(),
        "LogLevel=ERROR".to_owned(),
    ];
    for option in &options {
        command.args(["-o", option]);
    }
    command.args(["-p", &server.to_string(), "-L", &format!("127.0.0.1:{near}:{target}"), "127.0.0.1"]);
    command.arg(format!("echo {near}; exec cat"));
    Ok(command)
}

fn accept(listener: &TcpListener, starting: &mut Starting) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let begun = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) => ensure!(error.kind() == std::io::ErrorKind::WouldBlock, error),
        }
        starting.ensure_runs()?;
        ensure!(begun.elapsed() < CONNECTS_WITHIN, "ssh did not connect within {CONNECTS_WITHIN:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn serve(sshd: &Path, settings: &Path, stream: TcpStream) -> Result<Program> {
    let stream = OwnedFd::from(stream);
    let mut command = Command::new(sshd);
    command.args(["-i", "-e", "-f"]).arg(settings);
    command.stdin(Stdio::from(stream.try_clone()?)).stdout(Stdio::from(stream));
    Program::start(&mut command)
}
