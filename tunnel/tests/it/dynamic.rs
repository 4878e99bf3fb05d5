//! Dynamic forwards, and connections over a stream that is there already, on virtual time.

use crate::support::*;
use callosum_runtime::rt::BoxSocket;
use callosum_runtime::{Drained, SocketOptions};
use callosum_testkit::world::{Host, check};
use callosum_tunnel::{End, HandshakeError, Reason, TunnelEvent, TunnelEvents, TunnelSettings};
use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};

const GREETING: &[u8] = &[5, 1, 0];

/// A SOCKS5 request for a name.
fn socks(name: &str, port: u16) -> Vec<u8> {
    let mut request = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    request
}

/// Greets, asks, and gives the code of the reply.
async fn ask(socket: &mut BoxSocket, request: &[u8]) -> u8 {
    write(socket, GREETING).await;
    expect(socket, [5, 0]).await;
    write(socket, request).await;
    let mut reply = [0; 10];
    socket.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[0], 5);
    reply[1]
}

async fn head(socket: &mut BoxSocket) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn socks5_by_name_and_by_address() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let by_address = [5, 1, 0, 1, 10, 0, 0, 5, 0, 80].to_vec();
        for request in [socks(TARGET_NAME, 80), socks(TARGET, 80), by_address] {
            let mut events = rig.tunnel.events();
            let mut here = rig.open(&forward).await;
            assert_eq!(ask(&mut here, &request).await, 0);
            let mut there = listener.accept().await.unwrap().0;
            write(&mut here, "ping").await;
            expect(&mut there, "ping").await;
            write(&mut there, "pong").await;
            there.close().await.unwrap();
            expect(&mut here, "pong").await;
            expect_end(&mut here).await;
            here.close().await.unwrap();
            let summary = summary(&mut events).await;
            assert_eq!(summary.end, End::Closed);
            // Without those of SOCKS5.
            assert_eq!((summary.to_target, summary.from_target), (4, 4));
        }
    });
}

#[test]
fn http_connect_with_the_first_bytes_behind_it() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let mut here = rig.open(&forward).await;
        write(&mut here, "CONNECT db.internal:80 HTTP/1.1\r\nHost: db.internal:80\r\n\r\nearly").await;
        let mut there = listener.accept().await.unwrap().0;
        expect(&mut there, "early").await;
        assert!(head(&mut here).await.starts_with("HTTP/1.1 200 "));
        write(&mut there, "pong").await;
        expect(&mut here, "pong").await;
    });
}

#[test]
fn a_client_learns_why_in_its_own_protocol() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        for (name, code, status, reason) in [
            (TARGET, 5, "502", Reason::Refused),
            ("nowhere.internal", 4, "502", Reason::Unreachable),
            ("unheard.of", 4, "502", Reason::UnknownHost),
        ] {
            let mut events = rig.tunnel.events();
            let mut here = rig.open(&forward).await;
            assert_eq!(ask(&mut here, &socks(name, 81)).await, code, "{name}");
            expect_end(&mut here).await;
            drop(here);
            assert_eq!(refusal(&mut events).await, reason);
            let mut here = rig.open(&forward).await;
            write(&mut here, format!("CONNECT {name}:81 HTTP/1.1\r\n\r\n")).await;
            let head = head(&mut here).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            drop(here);
            assert_eq!(refusal(&mut events).await, reason);
        }
    });
}

#[test]
fn a_client_that_was_refused_outlasts_no_drain() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let mut here = rig.open(&forward).await;
        assert_eq!(ask(&mut here, &socks(TARGET, 81)).await, 5);
        let before = world.elapsed();
        // It knows, and does not close.
        assert_eq!(rig.tunnel.drain(SECOND).await, Drained::Completely);
        assert!(world.elapsed() - before < 100 * MS, "{:?}", world.elapsed() - before);
        expect_end(&mut here).await;
    });
}

#[test]
fn a_refusal_is_seen_at_once_and_its_client_has_time_to_read_it() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let mut events = rig.tunnel.events();
        let before = world.elapsed();
        let mut here = rig.open(&forward).await;
        assert_eq!(ask(&mut here, &socks(TARGET, 81)).await, 5);
        assert_eq!(refusal(&mut events).await, Reason::Refused);
        assert!(world.elapsed() - before < SECOND, "{:?}", world.elapsed() - before);
        assert!(rig.tunnel.connections().is_empty());
        expect_end(&mut here).await;
        // The other half has the time of a handshake.
        write(&mut here, "still there").await;
        world.sleep(11 * SECOND).await;
        here.write_all(b"too late").await.unwrap_err();
    });
}

/// Each protocol has a code for it.
#[test]
fn a_client_learns_that_there_are_too_many_or_that_no_more_are_opened() {
    check(0..3, |world| async move {
        let rig = Rig::with(&world, Anyone, TunnelSettings::default().max_connections(1)).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let mut first = rig.open(&forward).await;
        assert_eq!(ask(&mut first, &socks(TARGET, 80)).await, 0);
        let mut there = listener.accept().await.unwrap().0;
        let http = format!("CONNECT {TARGET}:80 HTTP/1.1\r\n\r\n");
        let mut here = rig.open(&forward).await;
        assert_eq!(ask(&mut here, &socks(TARGET, 80)).await, 1, "one too many");
        let mut here = rig.open(&forward).await;
        write(&mut here, &http).await;
        assert!(head(&mut here).await.starts_with("HTTP/1.1 503 "));
        let mut early = [rig.open(&forward).await, rig.open(&forward).await];
        let draining = rig.tunnel.drain(60 * SECOND);
        let asking = async {
            world.sleep(SECOND).await;
            assert_eq!(ask(&mut early[0], &socks(TARGET, 80)).await, 3, "no more");
            write(&mut early[1], &http).await;
            assert!(head(&mut early[1]).await.starts_with("HTTP/1.1 503 "));
            there.close().await.unwrap();
            first.close().await.unwrap();
        };
        assert_eq!(futures_util::future::join(draining, asking).await.0, Drained::Completely);
    });
}

/// However long it goes on.
#[test]
fn a_client_that_was_refused_and_sends_on_is_reset() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        for request in [&b"CONNECT 10.0.0.5:81 HTTP/1.1\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n"] {
            let mut here = rig.open(&forward).await;
            write(&mut here, request).await;
            head(&mut here).await;
            let before = world.elapsed();
            while here.write_all(&[0; 1_000]).await.is_ok() {}
            assert!(world.elapsed() - before < SECOND, "{:?}", world.elapsed() - before);
        }
    });
}

/// Nobody connects for it any more. What it sends meanwhile is the target's.
#[test]
fn a_client_that_resets_while_its_target_is_connected_is_noticed() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        world.partition(&rig.server, &rig.target);
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
        let before = world.elapsed();
        let mut here = rig.open(&forward).await;
        write(&mut here, [GREETING, &socks(TARGET, 80)].concat()).await;
        expect(&mut here, [5, 0]).await;
        write(&mut here, "early").await;
        world.sleep(SECOND).await;
        here.reset_on_drop();
        drop(here);
        assert_eq!(
            (refusal(&mut events).await, refusal(&mut serving).await),
            (Reason::Failed, Reason::Failed)
        );
        assert!(world.elapsed() - before < 2 * SECOND, "{:?}", world.elapsed() - before);
        world.heal(&rig.server, &rig.target);
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let mut here = rig.open(&forward).await;
        write(&mut here, [GREETING, &socks(TARGET, 80)].concat()).await;
        expect(&mut here, [5, 0]).await;
        write(&mut here, vec![7; 10_000]).await;
        let mut there = listener.accept().await.unwrap().0;
        expect(&mut there, vec![7; 10_000]).await;
        here.close().await.unwrap();
        expect_end(&mut there).await;
    });
}

#[test]
fn what_is_neither_protocol_is_closed_and_what_is_silent_is_too() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let mut here = rig.open(&forward).await;
        write(&mut here, [4, 1, 0, 80]).await;
        expect_end(&mut here).await;
        let mut here = rig.open(&forward).await;
        write(&mut here, "GET / HTTP/1.1\r\n\r\n").await;
        assert!(head(&mut here).await.starts_with("HTTP/1.1 405 "));
        let before = world.elapsed();
        let mut here = rig.open(&forward).await;
        write(&mut here, GREETING).await;
        expect(&mut here, [5, 0]).await;
        expect_reset(&mut here).await;
        assert!(world.elapsed() - before >= 10 * SECOND, "the time that a handshake has");
    });
}

/// Clients that say nothing keep nobody out, and are seen.
#[test]
fn the_oldest_handshake_is_evicted() {
    check(0..2, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let mut events = rig.tunnel.events();
        let before = world.elapsed();
        let mut silent = Vec::new();
        for _ in 0..1_024 {
            silent.push(rig.open(&forward).await);
        }
        let mut here = rig.open(&forward).await;
        assert_eq!(ask(&mut here, &socks(TARGET, 80)).await, 0);
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        assert!(world.elapsed() - before < 5 * SECOND, "{:?}", world.elapsed() - before);
        expect_reset(&mut silent[0]).await;
        assert_eq!(handshake_error(&mut events).await, HandshakeError::Evicted);
        // The others have their time.
        expect_reset(&mut silent[1]).await;
        assert_eq!(handshake_error(&mut events).await, HandshakeError::TimedOut);
    });
}

/// Nor do clients of one address keep those of another out, however many there are.
#[test]
fn clients_of_one_address_evict_no_other() {
    check(0..2, |world| async move {
        let rig = Rig::new(&world).await;
        let _listener = listen(&rig.target, "0.0.0.0:80").await;
        rig.tunnel.dynamic("0.0.0.0:1080".parse().unwrap()).await.unwrap();
        let [honest, flood] = ["10.0.0.7", "10.0.0.8"].map(|address| world.host(address));
        let open = async |host: &Host| {
            let endpoint = "tcp://client:1080".parse().unwrap();
            host.runtime().connect(&endpoint, SocketOptions::default()).await.unwrap()
        };
        let mut here = open(&honest).await;
        write(&mut here, GREETING).await;
        expect(&mut here, [5, 0]).await;
        let mut silent = Vec::new();
        for _ in 0..1_100 {
            silent.push(open(&flood).await);
        }
        expect_reset(&mut silent[0]).await;
        write(&mut here, socks(TARGET, 80)).await;
        let mut reply = [0; 10];
        here.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply[..2], [5, 0]);
    });
}

#[test]
fn failed_handshakes_are_seen() {
    check(0..2, |world| async move {
        let rig = Rig::new(&world).await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let mut events = rig.tunnel.events();
        // A client that goes by itself is none.
        drop(rig.open(&forward).await);
        for (request, expected) in [(&b"\x04\x01"[..], "0x04"), (b"GET / HTTP/1.1\r\n\r\n", "CONNECT")] {
            let mut here = rig.open(&forward).await;
            write(&mut here, request).await;
            // It has not closed yet.
            let HandshakeError::Malformed(error) = handshake_error(&mut events).await else { panic!() };
            assert!(error.contains(expected), "{error}");
        }
    });
}

#[test]
fn a_flood_of_failed_handshakes_pushes_no_other_event_out() {
    const FLOOD: u64 = 2_000;
    check(0..2, |world| async move {
        let rig = Rig::new(&world).await;
        let mut events = rig.tunnel.events();
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        let malformed = async || {
            let mut here = rig.open(&forward).await;
            write(&mut here, [4]).await;
            expect_end(&mut here).await;
        };
        for _ in 0..FLOOD {
            malformed().await;
        }
        let first = events.next().await;
        assert!(matches!(first, Some(TunnelEvent::Listening { .. })), "{first:?}");
        world.sleep(SECOND).await;
        malformed().await;
        rig.tunnel.drain(SECOND).await;
        let (mut reported, mut unreported) = (0, 0);
        while let Some(event) = events.next().await {
            let TunnelEvent::HandshakeFailed { unreported: more, .. } = event else { panic!("{event:?}") };
            (reported, unreported) = (reported + 1, unreported + more);
        }
        assert_eq!(reported + unreported, FLOOD + 1);
        let seconds = world.elapsed().as_secs() + 1;
        assert!(reported <= 16 * seconds, "{reported} in {seconds} s");
    });
}

/// Why the next handshake fails.
async fn handshake_error(events: &mut TunnelEvents) -> HandshakeError {
    event(events, |event| match event {
        TunnelEvent::HandshakeFailed { error, .. } => Some(error),
        _ => None,
    })
    .await
}

#[test]
fn without_a_link_a_client_is_told_after_a_while() {
    check(0..3, |world| async move {
        let rig = Rig::with(&world, Anyone, TunnelSettings::default().wait_for_link(SECOND)).await;
        let forward = rig.tunnel.dynamic(free()).await.unwrap();
        world.partition(&rig.server, &rig.client);
        while rig.connector.peer().is_connected() {
            world.sleep(SECOND).await;
        }
        let mut here = rig.open(&forward).await;
        assert_eq!(ask(&mut here, &socks(TARGET, 80)).await, 3);
    });
}

#[test]
fn a_pipe_is_one_connection() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let (input, mut to_input) = callosum_runtime::duplex(100);
        let (output, mut from_output) = callosum_runtime::duplex(100);
        let piping = rig.tunnel.pipe("db.internal:80".parse().unwrap(), input, output);
        let using = async {
            let mut there = listener.accept().await.unwrap().0;
            to_input.write_all(b"ping").await.unwrap();
            to_input.close().await.unwrap();
            expect(&mut there, "ping").await;
            expect_end(&mut there).await;
            write(&mut there, "pong").await;
            there.close().await.unwrap();
            let mut read = Vec::new();
            from_output.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, b"pong");
        };
        assert_eq!(futures_util::future::join(piping, using).await.0, Ok(End::Closed));
    });
}
