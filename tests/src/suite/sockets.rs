//! What the trait `Runtime` promises of sockets and timers.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use callosum_runtime::rt::Listener;
use callosum_runtime::{Endpoint, SocketOptions};
use futures_util::{AsyncReadExt, AsyncWriteExt, FutureExt};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::rig::{PATIENCE, Rig};

async fn listen(rig: &Rig) -> Box<dyn Listener> {
    let endpoint: Endpoint = rig.endpoint().parse().expect("it is an endpoint");
    rig.runtime().bind(&endpoint, SocketOptions::default()).await.expect("the endpoint is free")
}

/// Futures of `accept` that are polled and dropped lose no stream.
pub async fn accepting_given_up(rig: Rig) {
    let mut listener = listen(&rig).await;
    let endpoint = listener.endpoint().expect("it listens");
    assert!(listener.accept().now_or_never().is_none(), "nobody has connected");
    const COUNT: u8 = 20;
    let mut clients = Vec::new();
    for n in 0..COUNT {
        let mut client = rig.open(&endpoint).await;
        client.write_all(&[n]).await.expect("there is room");
        clients.push(client);
    }
    for n in 0..COUNT {
        // Either this poll returns a stream, or it takes none and the next future returns it.
        let polled_once = listener.accept().now_or_never();
        let accepted = match polled_once {
            Some(accepted) => accepted,
            None => listener.accept().await,
        };
        let (mut stream, address) = accepted.expect("somebody has connected");
        let expected = match &endpoint {
            Endpoint::Tcp { .. } => "tcp://127.0.0.1:",
            _ => "ipc:///",
        };
        assert!(address.starts_with(expected), "{address}");
        let mut index = [0];
        stream.read_exact(&mut index).await.expect("each client has written");
        assert_eq!(index, [n], "streams come in the order in which they were connected");
    }
    assert!(listener.accept().now_or_never().is_none(), "all were accepted");
}

/// Connections wait to be accepted, more of them than the 128 that the standard library asks the system to keep. If the system kept
/// fewer, the last ones would not be connected while nobody accepts.
pub async fn many_wait_to_be_accepted(rig: Rig) {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let most = most.and_then(|most| most.trim().parse().ok()).unwrap_or(128);
    let mut listener = listen(&rig).await;
    let endpoint = listener.endpoint().expect("it listens");
    let mut clients = Vec::new();
    while clients.len() < most.min(512) {
        clients.push(rig.open(&endpoint).await);
    }
    for _ in clients {
        listener.accept().await.expect("it has connected");
    }
}

/// A Unix socket whose queue is full says so, and does not pass for one without a listener.
pub async fn a_full_queue_would_block(rig: Rig) {
    let endpoint = rig.endpoint().parse().expect("it is an endpoint");
    let Endpoint::Ipc(file) = &endpoint else { panic!("it is a Unix socket") };
    let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None);
    let listener = listener.expect("the system has them");
    rustix::net::bind(&listener, &SocketAddrUnix::new(file).expect("it is short")).expect("nothing is there");
    rustix::net::listen(&listener, 1).expect("it is bound");
    let mut waiting = Vec::new();
    let error = loop {
        match rig.runtime().connect(&endpoint, SocketOptions::default()).await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert!(!waiting.is_empty());
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    std::fs::remove_file(file).expect("it is there");
}

/// Closing a stream tells the peer that no more comes, though the stream is not dropped, and the peer can still write.
pub async fn half_closed(rig: Rig) {
    let mut listener = listen(&rig).await;
    let mut ours = rig.open(&listener.endpoint().expect("it listens")).await;
    let (mut theirs, _) = listener.accept().await.expect("somebody has connected");
    ours.write_all(b"all").await.expect("there is room");
    ours.close().await.expect("the peer is there");
    let mut read = Vec::new();
    theirs.read_to_end(&mut read).await.expect("the stream ends");
    assert_eq!(read, b"all");
    theirs.write_all(b"an answer").await.expect("there is room");
    theirs.close().await.expect("the peer is there");
    read.clear();
    ours.read_to_end(&mut read).await.expect("the stream ends");
    assert_eq!(read, b"an answer");
}

/// The timers of the TCP connections from one port to another, any if it is `None`, as Linux lists them: what each is for, and when it
/// goes off.
fn timers_of_connections(from: Option<u16>, to: Option<u16>) -> Vec<(String, Duration)> {
    const ESTABLISHED: &str = "01";
    let list = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux has it");
    let is =
        |address: &str, port: Option<u16>| port.is_none_or(|it| address.ends_with(&format!(":{it:04X}")));
    let connections = list.lines().skip(1).filter_map(|line| {
        // A number, both addresses, the state, the queues, and the timer with its time in hundredths of a second.
        let fields: Vec<_> = line.split_whitespace().collect();
        let (timer, ticks) = fields[5].split_once(':').expect("a timer has a time");
        let time = Duration::from_millis(10 * u64::from_str_radix(ticks, 16).expect("it is a number"));
        let found = fields[3] == ESTABLISHED && is(fields[1], from) && is(fields[2], to);
        found.then(|| (timer.to_owned(), time))
    });
    connections.collect()
}

/// An endpoint's options are set on the sockets that it accepts, and on those that it dials.
pub async fn options(rig: Rig) {
    const NONE: &str = "00";
    const KEEPALIVE: &str = "02";
    let builder = |idle| {
        let options = SocketOptions::default().keepalive(idle, Duration::from_secs(1));
        rig.builder().socket_options(options)
    };
    let (accepted, dialled) = (Duration::from_secs(20_000), Duration::from_secs(10_000));
    let pair = rig.pair(builder(accepted), builder(dialled)).await;
    let Endpoint::Tcp { port, .. } = pair.binder.endpoints()[0] else { panic!("it is TCP") };
    for (idle, from, to) in [(accepted, Some(port), None), (dialled, None, Some(port))] {
        let mut found = timers_of_connections(from, to);
        // Until what was sent is acknowledged, it shows the timer of retransmission.
        rig.until(|| {
            found = timers_of_connections(from, to);
            found.iter().all(|(timer, _)| [NONE, KEEPALIVE].contains(&&**timer))
        })
        .await;
        let [(timer, time)] = &found[..] else { panic!("one connection: {found:?}") };
        assert_eq!(timer, KEEPALIVE, "the system probes it");
        assert!((idle - PATIENCE..=idle).contains(time), "after {idle:?}, not in {time:?}");
    }
    pair.end().await;
}

/// A timer goes off, stays so until it is reset, and can be reset before and after.
pub async fn timers(rig: Rig) {
    let in_an_hour = || Instant::now() + Duration::from_secs(3600);
    let mut timer = rig.runtime().timer(in_an_hour());
    for _ in 0..2 {
        assert!(poll_fn(|cx| timer.as_mut().poll(cx)).now_or_never().is_none(), "it is early");
        timer.as_mut().reset(Instant::now());
        for _ in 0..2 {
            poll_fn(|cx| timer.as_mut().poll(cx)).await;
        }
        timer.as_mut().reset(in_an_hour());
    }
}
