//! A client that opens connections, and makes calls on them, by commands: one [`Command`] a line on its stdin, answered with a
//! line of JSON on its stdout.

use std::{
    future::Future,
    io::{self, BufRead as _, Write as _},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, channel::mpsc, future::try_join_all};
use serde::{Deserialize, Serialize};

use crate::{
    executor::Executor,
    load::{Client, Sample, body},
};

/// Length of the bodies of the calls that it makes.
pub const BODY_BYTES: usize = 256 << 10;

/// A command for a holder.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Open so many more connections, one after the other.
    Open(usize),
    /// Make so many calls on each connection but the first: one after the other on each, at the same time on all.
    Call(usize),
}

/// Carries out the commands on stdin, with clients that `connect` makes, and holds them until stdin ends, and with it this process.
///
/// # Errors
/// A line is no command; a connection or a call fails.
pub async fn hold<E, C, F>(connect: impl Fn() -> F + Send) -> Result<()>
where
    E: Executor,
    C: Client,
    F: Future<Output = Result<C>> + Send,
{
    let (say, mut lines) = mpsc::unbounded();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            // Fails if the process is about to end.
            let _ = say.unbounded_send(line);
        }
        // The process that started this one holds the other end: this ends with it, however it ends, and whatever is under way.
        std::process::exit(0);
    });
    let mut clients = Vec::new();
    while let Some(line) = lines.next().await {
        let begun = Instant::now();
        let mut sample = Sample::default();
        match serde_json::from_str(&line).with_context(|| format!("{line:?} is no command"))? {
            Command::Open(connections) => {
                for _ in 0..connections {
                    clients.push(connect().await?);
                }
            }
            Command::Call(calls) => {
                let used = clients.iter().skip(1).cloned().enumerate();
                let tasks: Vec<_> = used.map(|(n, client)| E::spawn(call(client, n, calls))).collect();
                for nanos in try_join_all(tasks).await?.into_iter().flatten() {
                    *sample.latency_ns.entry(nanos).or_default() += 1;
                }
            }
        }
        sample.seconds = begun.elapsed().as_secs_f64();
        println!("{}", serde_json::to_string(&sample)?);
        io::stdout().flush()?;
    }
    Ok(())
}

async fn call(client: impl Client, n: usize, calls: usize) -> Result<Vec<u64>> {
    let sent: Bytes = body(n, BODY_BYTES);
    let mut latencies = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begun = Instant::now();
        let echoed = client.echo(sent.clone()).await?;
        latencies.push(begun.elapsed().as_nanos() as u64);
        ensure!(echoed == sent, "a body came back changed");
    }
    Ok(latencies)
}
