//! Both sides of a tunnel: a server with rules, and a local forward through it.
//!
//! ```text
//! cargo run -p callosum-tunnel --example forward -- serve 127.0.0.1:7000 tunnel/rules.example.toml
//! cargo run -p callosum-tunnel --example forward -- to 127.0.0.1:7000 127.0.0.1:8080 example.com:80
//! curl http://127.0.0.1:8080/
//! ```
//!
//! Without keys everybody who reaches the server is the user `anonymous`, so it binds loopback only; `Builder::authenticator` is
//! what makes it more than a demonstration.

use std::error::Error;
use std::time::Duration;

use callosum_tokio::builder;
use callosum_tunnel::{RuleSet, ServerSettings, Tunnel, TunnelEvent, TunnelServer, TunnelSettings};
use futures_util::StreamExt;

async fn serve(at: &str, rules: &str) -> Result<(), Box<dyn Error>> {
    let rules = RuleSet::open(rules)?.anonymous("anonymous");
    let builder = builder();
    let (server, tunnels) = TunnelServer::new(builder.runtime(), rules, ServerSettings::default());
    let (binder, driver) = server.add_to(builder).bind(format!("tcp://{at}")).await?;
    println!("serving at {}", binder.endpoints()[0]);
    tokio::spawn(tunnels);
    driver.await?;
    Ok(())
}

async fn forward(server: &str, listen: &str, target: &str) -> Result<(), Box<dyn Error>> {
    let (connector, driver) = builder().connect(format!("tcp://{server}"))?;
    let link = tokio::spawn(driver);
    let (tunnel, driver) = Tunnel::new(connector.peer(), connector.handlers(), TunnelSettings::default());
    let forwarding = tokio::spawn(driver);
    let mut events = tunnel.events();
    let forward = tunnel.local(listen.parse()?, target.parse()?).await?;
    println!("forwarding {}", forward.name());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                TunnelEvent::Closed(summary) => println!(
                    "{}: {} bytes there, {} back, in {:?}",
                    summary.end, summary.to_target, summary.from_target, summary.duration
                ),
                TunnelEvent::Refused { reason, .. } => println!("refused: {reason}"),
                _ => {}
            }
        }
    });
    tokio::signal::ctrl_c().await?;
    tunnel.drain(Duration::from_secs(5)).await;
    forwarding.await?;
    connector.shutdown(Duration::from_secs(1)).await;
    link.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", at, rules] => serve(at, rules).await,
        ["to", server, listen, target] => forward(server, listen, target).await,
        _ => Err("usage: forward serve ADDRESS RULES | forward to SERVER LISTEN TARGET".into()),
    }
}
