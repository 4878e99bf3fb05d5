//! A manager that drives an agent: calls go both ways over the one connection that the agent opened.
//!
//! `cargo run -p callosum-examples --example bidirectional`

use std::error::Error;
use std::time::Duration;

use callosum_tokio::{Context, Event, HandlerResult, builder};
use futures_util::StreamExt;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The manager's method: agents call it while they work.
async fn progress(percent: u8, context: Context) -> HandlerResult<()> {
    println!("{} says: {percent} %", context.peer().id());
    Ok(())
}

/// The agent's method: the manager calls it, and is called back before it has its reply.
async fn pull_image(name: String, context: Context) -> HandlerResult<String> {
    for percent in [0_u8, 50, 100] {
        let () = context.peer().invoke("progress", &percent).timeout(TIMEOUT).await?;
    }
    Ok(format!("{name} is here"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (manager, driver) = builder().handle("progress", progress).bind("tcp://127.0.0.1:0").await?;
    let mut events = manager.events();
    let managing = tokio::spawn(driver);

    // The agent connects, so it can sit behind NAT; it serves all the same.
    let (agent, driver) = builder().handle("pull_image", pull_image).connect(&manager.endpoints()[0])?;
    let working = tokio::spawn(driver);

    // Who has connected is an event; `manager.peers()` lists all who are connected at the moment.
    let peer = loop {
        match events.next().await {
            Some(Event::Connected(peer)) => break peer,
            Some(other) => println!("{other:?}"),
            None => return Err("the manager has ended".into()),
        }
    };
    assert!(manager.peers().contains(&peer));

    let answer: String = peer.invoke("pull_image", "nginx").timeout(TIMEOUT).await?;
    println!("{answer}");
    assert_eq!(answer, "nginx is here");
    let stats = peer.stats();
    assert_eq!((stats.calls_done, stats.requests_done), (1, 3), "one call to the agent, three from it");

    agent.shutdown(TIMEOUT).await;
    manager.shutdown(TIMEOUT).await;
    working.await??;
    managing.await??;
    Ok(())
}
