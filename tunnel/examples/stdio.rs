//! One connection through a tunnel over stdin and stdout.
//!
//! ```text
//! cargo run -p callosum-tunnel --example forward -- serve 127.0.0.1:7000 tunnel/rules.example.toml
//! cargo build -p callosum-tunnel --example stdio
//! ssh -o ProxyCommand='target/debug/examples/stdio 127.0.0.1:7000 %h:%p' HOST
//! ```
//!
//! With a secret key in a file, and the server's public key in another, the connection to the server is under CURVE.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use blocking::Unblock;
use callosum_runtime::auth::{CurveClient, load_keys, load_public_key};
use callosum_tokio::builder;
use callosum_tunnel::{Target, Tunnel, TunnelSettings};

async fn pipe(server: &str, target: Target, keys: Option<(&str, &str)>) -> Result<(), Box<dyn Error>> {
    let mut builder = builder();
    if let Some((own, of_server)) = keys {
        builder = builder.authenticator(CurveClient::new(load_keys(own)?, load_public_key(of_server)?));
    }
    let (connector, driver) = builder.connect(format!("tcp://{server}"))?;
    let link = tokio::spawn(driver);
    let (tunnel, driver) = Tunnel::new(connector.peer(), connector.handlers(), TunnelSettings::default());
    tokio::spawn(driver);
    // Without the buffers of `Stdin` and `Stdout`, and on threads that don't keep the process from ending.
    let input = Unblock::new(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let output = Unblock::new(File::from(io::stdout().as_fd().try_clone_to_owned()?));
    let end = tunnel.pipe(target, input, output).await?;
    connector.shutdown(Duration::from_secs(1)).await;
    link.await??;
    eprintln!("{end}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [server, target] => pipe(server, target.parse()?, None).await,
        [server, target, own, of_server] => pipe(server, target.parse()?, Some((own, of_server))).await,
        _ => Err("usage: stdio SERVER TARGET [SECRET_KEY_FILE SERVER_KEY_FILE]".into()),
    }
}
