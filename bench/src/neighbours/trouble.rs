//! What neighbours do.

use std::{
    future::IntoFuture as _,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use callosum_tokio::{Builder, Invocation, Limits, builder};
use clap::ValueEnum;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::Host;
use crate::{
    executor::{Executor as _, Tokio},
    load::{Client as _, body},
    peers::{RawTcp, Stack, announce, client_of, end_with_stdin},
};

/// What neighbours do to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trouble {
    /// A call that never ends, and 2,000 behind it whose streamed results wait for the turn of their key
    StuckKey,
    /// 17 connections that each stop in the middle of 7 arguments of 9 MB
    UnfinishedBodies,
    /// A connection that stops in the middle of 110 arguments of 600 kB
    Vanished,
    /// Thousands of connections with a call each that end at the same moment. Over plain TCP, they have made one
    Leaving,
}

/// Results that wait for their turn.
const WAITING: usize = 2_000;

/// Calls after which they are waited for, so that the server does not refuse them as too many.
const HANDED_OVER: usize = 50;

/// Handshakes at a time.
const AT_ONCE: usize = 64;

impl Trouble {
    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().to_owned()
    }
}

/// Makes trouble, prints a line once it is made, and goes on until stdin ends.
///
/// # Errors
/// A connection fails, or a call that is to wait has ended; the host has no such trouble.
pub fn make(host: Host, trouble: Trouble, server: SocketAddr, leaving: usize) -> Result<()> {
    ensure!(host.troubles().contains(&trouble), "{} has no such trouble", host.name());
    end_with_stdin();
    Tokio::block_on(async move {
        let waiting = Waiting::default();
        let mut open = Vec::new();
        match trouble {
            Trouble::StuckKey => stick(server, &waiting).await?,
            Trouble::UnfinishedBodies => {
                // They come in turns: each has sent more than half a megabyte, and none is complete.
                stop_amid(server, 17, 7, 9_000_000, 4_500_000, &waiting).await?;
            }
            // One comes after the other, so some are complete, and are answered.
            Trouble::Vanished => stop_amid(server, 1, 110, 600_000, 16_500_000, &Waiting::default()).await?,
            Trouble::Leaving => match host {
                Host::Callosum => wait_on(server, leaving, &waiting).await?,
                Host::RawTcp => open = stay(server, leaving).await?,
            },
        }
        announce(server);
        waiting.ended.notified().await;
        drop(open);
        bail!("a call has ended that was to wait")
    })
}

/// Calls that wait for as long as there is trouble.
#[derive(Clone, Default)]
struct Waiting {
    ended: Arc<Notify>,
}

impl Waiting {
    /// Makes a call, now.
    fn add(&self, call: Invocation<Bytes>) {
        let (call, ended) = (call.into_future(), self.ended.clone());
        tokio::spawn(async move {
            if let Err(error) = call.await {
                eprintln!("a call has failed that was to wait: {error}");
            }
            ended.notify_one();
        });
    }
}

/// An endpoint with limits so large that it keeps sending.
fn patient() -> Builder {
    let limits =
        Limits::default().max_outgoing_bytes(128 << 20).write_timeout(Duration::from_secs(24 * 60 * 60));
    builder().limits(limits)
}

async fn stick(server: SocketAddr, waiting: &Waiting) -> Result<()> {
    let peer = client_of(patient(), server).await?.peer();
    waiting.add(peer.invoke_raw("wait", body(0, 0)).key("stuck"));
    for n in 0..WAITING {
        waiting.add(peer.invoke_raw("streamed", body(0, 0)).key("stuck"));
        if n % HANDED_OVER == 0 || n + 1 == WAITING {
            // It comes behind them on the same connection, so they have all arrived, and their handlers have no slot any more.
            peer.invoke_raw("echo", body(0, 0)).await?;
        }
    }
    Ok(())
}

async fn stop_amid(
    server: SocketAddr,
    connections: usize,
    calls: usize,
    bytes: usize,
    passed_on: u64,
    waiting: &Waiting,
) -> Result<()> {
    for _ in 0..connections {
        let stops = stop_after(server, passed_on).await?;
        let peer = client_of(patient(), stops).await?.peer();
        (0..calls).for_each(|n| waiting.add(peer.invoke_raw("echo", body(n, bytes))));
    }
    Ok(())
}

/// Listens for one connection, and passes on to the server so many bytes of it, and no more.
async fn stop_after(server: SocketAddr, bytes: u64) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let (client, _) = listener.accept().await?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
        tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
        copy(&mut (&mut from_client).take(bytes), &mut to_server).await?;
        // Both ends stay open.
        std::future::pending::<std::io::Result<()>>().await
    });
    Ok(address)
}

async fn wait_on(server: SocketAddr, connections: usize, waiting: &Waiting) -> Result<()> {
    stream::iter(0..connections)
        .map(|_| async move {
            let peer = client_of(patient(), server).await?.peer();
            waiting.add(peer.invoke_raw("wait", body(0, 0)));
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// Connections that have made a call each.
async fn stay(server: SocketAddr, connections: usize) -> Result<Vec<<RawTcp as Stack>::Client>> {
    stream::iter(0..connections)
        .map(|_| async move {
            let client = RawTcp::connect(server).await?;
            client.echo(body(0, 0)).await?;
            anyhow::Ok(client)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
