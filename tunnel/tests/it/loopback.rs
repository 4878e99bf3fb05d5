//! Real sockets of loopback, on tokio.

use std::io;
use std::time::Duration;

use crate::support::{Anyone, end, free};
use callosum_runtime::rt::{from_now, until};
use callosum_runtime::{Binder, Connector, Limits};
use callosum_tokio::builder;
use callosum_tunnel::{End, Forward, ServerSettings, Tunnel, TunnelServer, TunnelSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a test owns: dropping it ends everything.
struct Sockets {
    tunnel: Tunnel,
    serving: TunnelServer,
    _binder: Binder,
    _connector: Connector,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Sockets {
    async fn new(limits: Limits) -> Self {
        let builder = builder().limits(limits.clone());
        let (serving, first) = TunnelServer::new(builder.runtime(), Anyone, ServerSettings::default());
        let (binder, second) = serving.add_to(builder).bind("tcp://127.0.0.1:0").await.unwrap();
        let (connector, third) =
            callosum_tokio::builder().limits(limits).connect(&binder.endpoints()[0]).unwrap();
        let (tunnel, fourth) = Tunnel::new(connector.peer(), connector.handlers(), TunnelSettings::default());
        let tasks = vec![
            tokio::spawn(first),
            tokio::spawn(async { drop(second.await) }),
            tokio::spawn(async { drop(third.await) }),
            tokio::spawn(fourth),
        ];
        Self { tunnel, serving, _binder: binder, _connector: connector, tasks }
    }

    /// A listener, and a forward to it.
    async fn forward(&self) -> (TcpListener, Forward) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string().parse().unwrap();
        (listener, self.tunnel.local(free(), target).await.unwrap())
    }

    /// Writes until the buffers on the way are full; returns how many bytes they took.
    async fn fill(&self, stream: &mut TcpStream) -> usize {
        let moved = || {
            let all = self.tunnel.connections().into_iter().chain(self.serving.connections());
            all.map(|connection| connection.to_target + connection.from_target).sum::<u64>()
        };
        let (chunk, mut sent) = (vec![7; 1 << 20], 0);
        loop {
            let before = moved();
            match within(FULL, stream.write(&chunk)).await {
                Some(written) => sent += written.unwrap(),
                None if moved() == before => return sent,
                None => {}
            }
        }
    }

    async fn pair(&self) -> (TcpStream, TcpStream) {
        let (listener, forward) = self.forward().await;
        let here = open(&forward).await;
        (here, listener.accept().await.unwrap().0)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn open(forward: &Forward) -> TcpStream {
    TcpStream::connect(forward.address().to_string()).await.unwrap()
}

/// Bytes that repeat so late, and at so odd a distance, that no part of a stream passes for another.
fn pattern() -> Vec<u8> {
    let mut word = 0x9E37_79B9_7F4A_7C15_u64;
    let next = std::iter::from_fn(|| {
        // xorshift64 (Marsaglia 2003).
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        Some(word as u8)
    });
    next.take(1_000_003).collect()
}

/// The bytes of a stream from a place on, as far as they are in one piece.
fn at(pattern: &[u8], place: u64, most: u64) -> &[u8] {
    let rest = &pattern[(place % pattern.len() as u64) as usize..];
    &rest[..rest.len().min(usize::try_from(most).unwrap_or(usize::MAX))]
}

async fn send(stream: &mut (impl tokio::io::AsyncWrite + Unpin), size: u64) {
    let (pattern, mut sent) = (pattern(), 0);
    while sent < size {
        let part = at(&pattern, sent, size - sent);
        stream.write_all(part).await.unwrap();
        sent += part.len() as u64;
    }
    stream.shutdown().await.unwrap();
}

async fn receive(stream: &mut (impl tokio::io::AsyncRead + Unpin), size: u64) {
    let (pattern, mut received, mut chunk) = (pattern(), 0, vec![0; 100_000]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        if read == 0 {
            break;
        }
        let mut part = &chunk[..read];
        while !part.is_empty() {
            let expected = at(&pattern, received, part.len() as u64);
            assert!(part.starts_with(expected), "after {received} bytes");
            received += expected.len() as u64;
            part = &part[expected.len()..];
        }
    }
    assert_eq!(received, size);
}

/// Bytes that go each way at once: 64 MiB, or as many MiB as `CALLOSUM_TUNNEL_MIB` says.
fn size() -> u64 {
    let given = std::env::var("CALLOSUM_TUNNEL_MIB").ok();
    given.map_or(64, |mib| mib.parse::<u64>().expect("CALLOSUM_TUNNEL_MIB is a number")) << 20
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_bytes_go_both_ways_at_once() {
    let size = size();
    let sockets = Sockets::new(Limits::default()).await;
    let mut events = sockets.tunnel.events();
    let (here, there) = sockets.pair().await;
    let ((mut read_here, mut write_here), (mut read_there, mut write_there)) =
        (here.into_split(), there.into_split());
    tokio::join!(
        send(&mut write_here, size),
        receive(&mut read_there, size),
        send(&mut write_there, size + 1),
        receive(&mut read_here, size + 1),
    );
    assert_eq!(end(&mut events).await, End::Closed);
    for totals in [sockets.tunnel.totals(), sockets.serving.totals()] {
        assert_eq!((totals[0].to_target, totals[0].from_target), (size, size + 1));
        assert_eq!((totals[0].connections, totals[0].refused), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_can_end_first() {
    let sockets = Sockets::new(Limits::default()).await;
    for client_first in [true, false] {
        let mut events = sockets.serving.events();
        let (here, there) = sockets.pair().await;
        let (mut first, mut second) = if client_first { (here, there) } else { (there, here) };
        send(&mut first, 1_000_000).await;
        receive(&mut second, 1_000_000).await;
        send(&mut second, 1_000_000).await;
        receive(&mut first, 1_000_000).await;
        assert_eq!(end(&mut events).await, End::Closed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_can_be_reset() {
    let sockets = Sockets::new(Limits::default()).await;
    for client_resets in [true, false] {
        let (mut events, mut serving) = (sockets.tunnel.events(), sockets.serving.events());
        let (here, there) = sockets.pair().await;
        let (mut first, mut second) = if client_resets { (here, there) } else { (there, here) };
        first.write_all(b"before").await.unwrap();
        // Read by the side next to it, and on its way to the other.
        let moved = || match client_resets {
            true => sockets.tunnel.connections()[0].to_target,
            false => sockets.serving.connections()[0].from_target,
        };
        while moved() < 6 {
            tokio::task::yield_now().await;
        }
        first.set_zero_linger().unwrap();
        drop(first);
        let mut read = Vec::new();
        let error = second.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(read, b"before");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let ends = (end(&mut events).await, end(&mut serving).await);
        let expected =
            if client_resets { (End::ResetHere, End::ResetThere) } else { (End::ResetThere, End::ResetHere) };
        assert_eq!(ends, expected);
    }
}

/// The output of `future`, or `None` if it takes longer.
async fn within<F: Future>(wait: Duration, future: F) -> Option<F::Output> {
    let runtime = builder().runtime().clone();
    until(&*runtime, from_now(&*runtime, wait), future).await
}

/// How one side resets while the other reads nothing.
#[derive(Clone, Copy, Debug)]
struct Unread {
    client_resets: bool,
    /// The side that reads nothing has ended its half before.
    other_has_ended: bool,
    /// The side that resets has ended its half before.
    has_ended: bool,
}

/// The end of one such connection, at the side that has read nothing.
async fn reset_unread(case: Unread) {
    let sockets = Sockets::new(Limits::default()).await;
    let (mut events, mut serving) = (sockets.tunnel.events(), sockets.serving.events());
    let (here, there) = sockets.pair().await;
    let (mut first, mut second) = if case.client_resets { (here, there) } else { (there, here) };
    if case.other_has_ended {
        second.shutdown().await.unwrap();
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "{case:?}");
    }
    sockets.fill(&mut first).await;
    if case.has_ended {
        first.shutdown().await.unwrap();
    }
    first.set_zero_linger().unwrap();
    drop(first);
    let ends = within(PASSED_ON, async { (end(&mut events).await, end(&mut serving).await) });
    let expected = match case.client_resets {
        true => (End::ResetHere, End::ResetThere),
        false => (End::ResetThere, End::ResetHere),
    };
    let ends = ends.await;
    let seen = (sockets.tunnel.connections(), sockets.serving.connections());
    assert_eq!(ends, Some(expected), "{case:?} {seen:?}");
    second.read_to_end(&mut Vec::new()).await.unwrap_err();
}

/// If nothing is taken or moved for so long, the buffers on the way are full.
const FULL: Duration = Duration::from_millis(500);

/// A socket is asked every 5 s, and what came before the reset is waited for as long.
const PASSED_ON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_passed_on_to_who_reads_nothing() {
    let ways = [(false, false), (true, false), (false, true)];
    let cases = [true, false].into_iter().flat_map(|client_resets| {
        ways.map(|(other_has_ended, has_ended)| Unread { client_resets, other_has_ended, has_ended })
    });
    let all = cases.map(|case| tokio::spawn(reset_unread(case)));
    let failed: Vec<_> =
        futures_util::future::join_all(all).await.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// One that has ended and closed its socket has not reset it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_wrote_before_it_closed_arrives_however_late() {
    let sockets = Sockets::new(Limits::default()).await;
    let (mut here, mut there) = sockets.pair().await;
    let sent = sockets.fill(&mut here).await;
    drop(here);
    within(Duration::from_secs(1), std::future::pending::<()>()).await;
    let mut read = Vec::new();
    there.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), sent);
}

/// As many connections as one peer may have besides 200; one of them is not read, and another is uploaded over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_and_one_that_stalls() {
    const CONNECTIONS: usize = 1_000;
    let sockets = Sockets::new(Limits::default()).await;
    let (listener, forward) = sockets.forward().await;
    let mut pairs = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let here = open(&forward).await;
        pairs.push((here, listener.accept().await.unwrap().0));
    }
    // Written to until no more is taken: the target does not read.
    let (mut stalled, unread) = pairs.pop().unwrap();
    let stalling = tokio::spawn(async move {
        let chunk = vec![0; 1 << 20];
        while stalled.write_all(&chunk).await.is_ok() {}
    });
    for round in 0..3_u8 {
        for (here, there) in &mut pairs {
            here.write_all(&[round; 100]).await.unwrap();
            there.write_all(&[round + 1; 100]).await.unwrap();
        }
        for (here, there) in &mut pairs {
            let mut read = [0; 100];
            there.read_exact(&mut read).await.unwrap();
            assert_eq!(read, [round; 100]);
            here.read_exact(&mut read).await.unwrap();
            assert_eq!(read, [round + 1; 100]);
        }
    }
    assert!(!stalling.is_finished());
    assert_eq!(sockets.serving.connections().len(), CONNECTIONS);
    drop(unread);
    stalling.await.unwrap();
}
