//! rathole, whose server accepts what its client connects to the target.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::program::{Program, Scratch, find, free_port};

const INSTALL: &str = "cargo install rathole --no-default-features --features server,client,noise";

/// How long the two may take until connections are accepted.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// Starts both, the near one first, and waits until it accepts.
pub(super) fn start(
    scratch: &Scratch,
    noise: bool,
    workers: usize,
    target: SocketAddr,
) -> Result<(SocketAddr, [Program; 2])> {
    let near = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let between = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let transport = if noise { noise_settings()? } else { [String::new(), String::new()] };
    let settings = |side: &str, [bind, service]: [String; 2], transport: &str| {
        format!(
            "[{side}]\n{bind}\ndefault_token = \"bench\"\n{transport}\n[{side}.services.bench]\n{service}\n"
        )
    };
    let at = |name: &str, address: SocketAddr| format!("{name} = \"{address}\"");
    let server = settings("server", [at("bind_addr", between), at("bind_addr", near)], &transport[0]);
    let client = settings("client", [at("remote_addr", between), at("local_addr", target)], &transport[1]);
    let mut programs = [run(scratch, "server", &server, workers)?, run(scratch, "client", &client, workers)?];
    let begun = Instant::now();
    // It accepts once the client has told the server of the service.
    while TcpStream::connect(near).is_err() {
        for program in &mut programs {
            program.ensure_runs()?;
        }
        ensure!(begun.elapsed() < STARTS_WITHIN, "rathole does not accept after {STARTS_WITHIN:?}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok((near, programs))
}

fn run(scratch: &Scratch, side: &str, settings: &str, workers: usize) -> Result<Program> {
    let file = scratch.path(&format!("{side}.toml"));
    fs::write(&file, settings)?;
    let mut command = Command::new(find("rathole", INSTALL)?);
    command.arg(format!("--{side}")).arg(file);
    command.env("RUST_LOG", "error").env("TOKIO_WORKER_THREADS", workers.to_string());
    Program::start(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

/// What the server and the client are told of Noise, in the default pattern: the client knows the server's key.
fn noise_settings() -> Result<[String; 2]> {
    let output = Command::new(find("rathole", INSTALL)?).arg("--genkey").output()?;
    let printed = String::from_utf8(output.stdout)?;
    let key = |name: &str| {
        let mut lines = printed.lines().skip_while(|line| !line.starts_with(name)).skip(1);
        lines.next().map(str::trim).with_context(|| format!("rathole --genkey has printed no {name}"))
    };
    let transport = |side: &str, field: &str, key: &str| {
        format!("[{side}.transport]\ntype = \"noise\"\n[{side}.transport.noise]\n{field} = \"{key}\"")
    };
    Ok([
        transport("server", "local_private_key", key("Private Key")?),
        transport("client", "remote_public_key", key("Public Key")?),
    ])
}
