//! Local forwards, and what every tunnelled connection does, on virtual time.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::support::*;
use callosum_runtime::Drained;
use callosum_runtime::rt::{BoxSocket, Runtime, Timer, from_now};
use callosum_testkit::world::{Link, World, check};
use callosum_tunnel::{End, Reason, ServerSettings, Summary, TunnelEvents, TunnelSettings};
use futures_io::AsyncWrite;
use futures_util::future::{Either, select};
use futures_util::{AsyncReadExt, AsyncWriteExt, TryStreamExt};

#[test]
fn bytes_go_both_ways() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        let (mut here, mut there) = rig.through().await;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        write(&mut there, "pong").await;
        expect(&mut here, "pong").await;
    });
}

/// What the client sends leaves with the call: the target has it after one way through the tunnel, and not after three.
#[test]
fn the_first_bytes_do_not_wait_for_the_answer() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.local().await;
        let before = world.elapsed();
        let mut here = rig.open(&forward).await;
        write(&mut here, "ping").await;
        let mut there = listener.accept().await.unwrap().0;
        expect(&mut there, "ping").await;
        // The links of a host to itself, and to the target, have a latency of their own.
        assert!(world.elapsed() - before < 20 * MS, "{:?}", world.elapsed() - before);
    });
}

#[test]
fn either_side_ends_first_and_the_other_goes_on() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        for client_first in [true, false] {
            let mut events = rig.tunnel.events();
            let mut serving = rig.serving.events();
            let (here, there) = rig.through().await;
            let (mut first, mut second) = if client_first { (here, there) } else { (there, here) };
            write(&mut first, "all of it").await;
            first.close().await.unwrap();
            let mut read = Vec::new();
            second.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, b"all of it");
            world.sleep(60 * SECOND).await;
            write(&mut second, "an answer").await;
            second.close().await.unwrap();
            let mut read = Vec::new();
            first.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, b"an answer");
            assert_eq!((end(&mut events).await, end(&mut serving).await), (End::Closed, End::Closed));
        }
        assert!(rig.tunnel.connections().is_empty() && rig.serving.connections().is_empty());
    });
}

/// Each side reports that the connection was reset, and on which side.
async fn expect_reports_of_a_reset(client_resets: bool, near: &mut TunnelEvents, far: &mut TunnelEvents) {
    let expected = match client_resets {
        true => (End::ResetHere, End::ResetThere),
        false => (End::ResetThere, End::ResetHere),
    };
    assert_eq!((end(near).await, end(far).await), expected);
}

#[test]
fn a_reset_is_passed_on_after_the_bytes_before_it() {
    check(0..20, |world| async move {
        let rig = Rig::new(&world).await;
        for client_resets in [true, false] {
            let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
            let (here, there) = rig.through().await;
            let (mut first, mut second) = if client_resets { (here, there) } else { (there, here) };
            write(&mut first, "before").await;
            expect(&mut second, "before").await;
            let before = world.elapsed();
            first.reset_on_drop();
            drop(first);
            assert_eq!(expect_reset(&mut second).await, b"");
            assert!(world.elapsed() - before < SECOND, "at once");
            expect_reports_of_a_reset(client_resets, &mut events, &mut serving).await;
        }
    });
}

/// Nothing is written to the socket meanwhile, which would find out.
#[test]
fn a_reset_after_the_end_is_passed_on() {
    check(0..20, |world| async move {
        let rig = Rig::new(&world).await;
        for client_resets in [true, false] {
            let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
            let (here, there) = rig.through().await;
            let (mut first, mut second) = if client_resets { (here, there) } else { (there, here) };
            write(&mut first, "all of it").await;
            first.close().await.unwrap();
            expect(&mut second, "all of it").await;
            expect_end(&mut second).await;
            world.sleep(60 * SECOND).await;
            let before = world.elapsed();
            first.reset_on_drop();
            drop(first);
            expect_reports_of_a_reset(client_resets, &mut events, &mut serving).await;
            world.sleep(10 * MS).await;
            // Who has read the end reads it again.
            second.write_all(b"too late").await.unwrap_err();
            assert!(world.elapsed() - before < 6 * SECOND, "{:?}", world.elapsed() - before);
        }
    });
}

/// The socket is not read while the stream has no room, so a read does not find out. Nor does the other side notice the end of the
/// call by reading, while its socket takes nothing.
#[test]
fn a_reset_is_passed_on_to_who_reads_nothing() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        for (client_resets, has_ended) in [(true, false), (true, true), (false, false), (false, true)] {
            let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
            let (here, there) = rig.through().await;
            let (mut first, mut second) = if client_resets { (here, there) } else { (there, here) };
            if has_ended {
                second.close().await.unwrap();
                expect_end(&mut first).await;
            }
            fill(&world, &mut first).await;
            let before = world.elapsed();
            first.reset_on_drop();
            drop(first);
            expect_reports_of_a_reset(client_resets, &mut events, &mut serving).await;
            expect_reset(&mut second).await;
            assert!(world.elapsed() - before < 11 * SECOND, "{:?}", world.elapsed() - before);
        }
    });
}

/// A writer that is gone has not reset what it wrote: however late it is read. A Unix socket can't be written any more then.
#[test]
fn who_has_gone_after_writing_waits_for_its_reader() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        for listen_at in [free(), "unix:/run/here.sock".parse().unwrap()] {
            let mut listener = listen(&rig.target, "0.0.0.0:80").await;
            let target = format!("{TARGET}:80").parse().unwrap();
            let forward = rig.tunnel.local(listen_at, target).await.unwrap();
            let mut here = rig.open(&forward).await;
            let mut there = listener.accept().await.unwrap().0;
            // Until the socket is full and stays so: little room in the stream is used only when the relay is polled for another reason.
            let mut written = 0;
            loop {
                match fill(&world, &mut here).await {
                    0 => break,
                    more => written += more,
                }
                world.sleep(6 * SECOND).await;
            }
            drop(here);
            world.sleep(60 * SECOND).await;
            let mut read = vec![0; written];
            there.read_exact(&mut read).await.unwrap();
        }
    });
}

/// The client has ended, and goes before its target is connected: nobody connects for it any more.
#[test]
fn a_reset_after_the_end_gives_up_what_is_being_opened() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        world.partition(&rig.server, &rig.target);
        let forward = rig.local().await;
        let mut serving = rig.serving.events();
        let before = world.elapsed();
        let mut here = rig.open(&forward).await;
        here.close().await.unwrap();
        here.reset_on_drop();
        drop(here);
        refusal(&mut serving).await;
        assert!(world.elapsed() - before < 6 * SECOND, "{:?}", world.elapsed() - before);
    });
}

/// However much of it is still on its way when the reset is seen. The network of a world drops what a reset overtakes, so what counts
/// is what was written to the socket before it.
#[test]
fn what_was_read_before_a_reset_is_written_before_it() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        for client_resets in [true, false] {
            let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
            let (here, there) = rig.through().await;
            let (mut first, mut second) = if client_resets { (here, there) } else { (there, here) };
            let seen =
                |summary: Summary| [summary.to_target, summary.from_target][usize::from(!client_resets)];
            let sending = async {
                write(&mut first, vec![7; 300_000]).await;
                let read = || match client_resets {
                    true => rig.tunnel.connections()[0].to_target,
                    false => rig.serving.connections()[0].from_target,
                };
                while read() < 300_000 {
                    world.sleep(MS).await;
                }
                first.reset_on_drop();
                drop(first);
            };
            futures_util::future::join(sending, expect_reset(&mut second)).await;
            assert_eq!(seen(summary(&mut events).await), 300_000);
            assert_eq!(seen(summary(&mut serving).await), 300_000);
        }
    });
}

/// Holds what it is given until it is flushed, which takes two seconds, as one that writes on another thread does.
struct Slow {
    held: Vec<u8>,
    arrived: Arc<Mutex<Vec<u8>>>,
    runtime: Arc<dyn Runtime>,
    flush: Option<Pin<Box<dyn Timer>>>,
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { held, arrived, runtime, flush } = &mut *self;
        if !held.is_empty() {
            let timer = flush.get_or_insert_with(|| runtime.timer(from_now(&**runtime, 2 * SECOND)));
            ready!(timer.as_mut().poll(cx));
            *flush = None;
            arrived.lock().unwrap().append(held);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[test]
fn what_came_before_a_reset_is_flushed() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let output =
            Slow { held: Vec::new(), arrived: arrived.clone(), runtime: rig.client.runtime(), flush: None };
        let target = format!("{TARGET}:80").parse().unwrap();
        let input = futures_util::stream::pending::<io::Result<Vec<u8>>>().into_async_read();
        let pipe = rig.tunnel.pipe(target, input, output);
        let resetting = async {
            let mut there = listener.accept().await.unwrap().0;
            write(&mut there, vec![7; 100_000]).await;
            while rig.serving.connections()[0].from_target < 100_000 {
                world.sleep(MS).await;
            }
            there.reset_on_drop();
        };
        let (ended, ()) = futures_util::future::join(pipe, resetting).await;
        assert_eq!(ended, Ok(End::ResetThere));
        assert_eq!(arrived.lock().unwrap().len(), 100_000);
    });
}

/// A target that answers, takes no more and goes: what it had answered arrives, and then the reset, not an end.
#[test]
fn what_a_target_said_before_it_went_arrives() {
    check(0..20, |world| async move {
        let rig = Rig::new(&world).await;
        let (mut here, mut there) = rig.through().await;
        write(&mut there, "413 too large").await;
        drop(there);
        // Until the buffers on the way are full.
        while here.write_all(&[0; 100_000]).await.is_ok() {
            world.sleep(MS).await;
        }
        let mut read = Vec::new();
        let _ = here.read_to_end(&mut read).await;
        assert!(read.is_empty() || read == b"413 too large", "{read:?}");
    });
}

#[test]
fn a_client_that_reads_sees_the_end_of_a_target_that_went() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        let (mut here, mut there) = rig.through().await;
        write(&mut there, "bye").await;
        drop(there);
        expect(&mut here, "bye").await;
        expect_end(&mut here).await;
        // The handler reads the bytes, and reports that the target did not accept them.
        let _ = here.write_all(b"too late").await;
        world.sleep(SECOND).await;
        assert!(here.write_all(b"much too late").await.is_err());
    });
}

/// Writes as much as there is room for on the way, which is bounded; returns the number of bytes.
async fn fill(world: &World, socket: &mut BoxSocket) -> usize {
    let mut taken = 0;
    loop {
        let full = world.sleep(SECOND);
        let write = poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, &[7; 10_000]));
        match select(std::pin::pin!(write), std::pin::pin!(full)).await {
            Either::Left((size, _)) => taken += size.unwrap(),
            Either::Right(_) => return taken,
        }
    }
}

#[test]
fn a_writer_waits_for_its_reader_and_for_nobody_else() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.local().await;
        let mut stalled = rig.open(&forward).await;
        let mut unread = listener.accept().await.unwrap().0;
        let mut other = rig.open(&forward).await;
        let mut echo = listener.accept().await.unwrap().0;
        let taken = fill(&world, &mut stalled).await;
        assert!(taken > 100_000 && taken < 4_000_000, "{taken} bytes");
        let before = world.elapsed();
        for _ in 0..10 {
            write(&mut other, "ping").await;
            expect(&mut echo, "ping").await;
            write(&mut echo, "pong").await;
            expect(&mut other, "pong").await;
        }
        assert!(world.elapsed() - before < 500 * MS, "ten round trips of 20 ms and a little");
        // The reader goes on, and gets all of it.
        let mut read = vec![0; taken];
        unread.read_exact(&mut read).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
    });
}

/// What is on its way was taken from the one socket and not by the other: of it, each side holds what it says in the crate's docs.
#[test]
fn a_connection_that_stalls_holds_no_more_than_it_may() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        for host in [&rig.client, &rig.server] {
            world.set_link(host, host, Link::default().fragments(false).buffer(1 << 20));
        }
        world.set_link(&rig.server, &rig.target, Link::default().fragments(false));
        for stalls_there in [true, false] {
            let (here, there) = rig.through().await;
            let (mut writer, _unread) = if stalls_there { (here, there) } else { (there, here) };
            loop {
                let writing = std::pin::pin!(writer.write(&[7; 1 << 20]));
                let full = std::pin::pin!(world.sleep(SECOND));
                if let Either::Right(_) = select(writing, full).await {
                    break;
                }
            }
            let moved = [rig.tunnel.connections(), rig.serving.connections()].map(|connections| {
                let connection = connections.last().unwrap();
                connection.to_target + connection.from_target
            });
            let held = moved[0].abs_diff(moved[1]);
            let limits = 256 * 1024 + 256 * 1024;
            assert!(held >= limits, "what it waits for is credit: {held} bytes");
            assert!(held <= limits + 64 * 1024 + 128 * 1024, "{held} bytes");
        }
    });
}

#[test]
fn the_reason_of_a_failure_travels() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        for (target, expected) in [
            ("10.0.0.5:81", Reason::Refused),
            ("db.internal:81", Reason::Refused),
            ("10.9.9.9:80", Reason::Unreachable),
            ("nowhere.internal:80", Reason::Unreachable),
            ("unheard.of:80", Reason::UnknownHost),
            ("unix:/nobody/listens", Reason::Refused),
        ] {
            let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
            let forward = rig.tunnel.local(free(), target.parse().unwrap()).await.unwrap();
            let mut here = rig.open(&forward).await;
            expect_reset(&mut here).await;
            assert_eq!(
                (refusal(&mut events).await, refusal(&mut serving).await),
                (expected, expected),
                "{target}"
            );
            assert_eq!(rig.tunnel.pipe(target.parse().unwrap(), &[][..], Vec::new()).await, Err(expected));
        }
    });
}

#[test]
fn a_target_that_never_answers_times_out() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        world.partition(&rig.server, &rig.target);
        let forward = rig.local().await;
        let before = world.elapsed();
        let mut events = rig.tunnel.events();
        let mut here = rig.open(&forward).await;
        expect_reset(&mut here).await;
        assert_eq!(refusal(&mut events).await, Reason::TimedOut);
        let took = world.elapsed() - before;
        assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
    });
}

#[test]
fn the_first_address_that_answers_is_taken() {
    check(0..3, |world| async move {
        let names = Names::default().with("two.internal", &["10.9.9.9", TARGET]);
        let settings = ServerSettings::default().resolver(names);
        let (rig, serving, tunnelling) =
            Rig::undriven(&world, Anyone, settings, TunnelSettings::default()).await;
        rig.server.spawn(serving);
        rig.client.spawn(tunnelling);
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.local(free(), "two.internal:80".parse().unwrap()).await.unwrap();
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
    });
}

#[test]
fn unix_sockets_at_both_ends() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.server, "unix:/run/db.sock").await;
        let listen_at = "unix:/run/here.sock".parse().unwrap();
        let forward = rig.tunnel.local(listen_at, "unix:/run/db.sock".parse().unwrap()).await.unwrap();
        assert_eq!(forward.name().to_string(), "unix:/run/here.sock → unix:/run/db.sock");
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        here.close().await.unwrap();
        expect_end(&mut there).await;
    });
}

/// A Unix target that is busy accepts later, and is waited for, as the system waits for a TCP target.
#[test]
fn a_unix_target_whose_backlog_is_full_is_waited_for() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let address = "unix:/run/db.sock";
        let mut listener = listen(&rig.server, address).await;
        let mut waiting = Vec::new();
        while let Ok(socket) = connect(&rig.server, &address.parse().unwrap()).await {
            waiting.push(socket);
        }
        let forward = rig.tunnel.local(free(), address.parse().unwrap()).await.unwrap();
        let mut here = rig.open(&forward).await;
        world.sleep(5 * SECOND).await;
        for _ in waiting {
            listener.accept().await.unwrap();
        }
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
    });
}

#[test]
fn a_unix_target_that_never_accepts_times_out() {
    check(0..2, |world| async move {
        let rig = Rig::new(&world).await;
        let address = "unix:/run/db.sock";
        let _listener = listen(&rig.server, address).await;
        let mut waiting = Vec::new();
        while let Ok(socket) = connect(&rig.server, &address.parse().unwrap()).await {
            waiting.push(socket);
        }
        let before = world.elapsed();
        let refused = rig.tunnel.pipe(address.parse().unwrap(), &[][..], Vec::new()).await;
        assert_eq!(refused, Err(Reason::TimedOut));
        let took = world.elapsed() - before;
        assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
    });
}

#[test]
fn a_lost_link_resets_both_ends_and_the_listener_stays() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.local().await;
        let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        world.reset(&rig.server, &rig.client);
        expect_reset(&mut here).await;
        expect_reset(&mut there).await;
        assert_eq!((end(&mut events).await, end(&mut serving).await), (End::LinkLost, End::LinkLost));
        // It waits for the link.
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "again").await;
        expect(&mut there, "again").await;
    });
}

#[test]
fn what_connects_without_a_link_waits_so_long_and_is_refused() {
    check(0..5, |world| async move {
        let rig = Rig::with(&world, Anyone, TunnelSettings::default().wait_for_link(7 * SECOND)).await;
        let forward = rig.local().await;
        let mut events = rig.tunnel.events();
        world.partition(&rig.server, &rig.client);
        while rig.connector.peer().is_connected() {
            world.sleep(SECOND).await;
        }
        let before = world.elapsed();
        let mut here = rig.open(&forward).await;
        expect_reset(&mut here).await;
        assert_eq!(refusal(&mut events).await, Reason::NotConnected);
        let took = world.elapsed() - before;
        assert!(took >= 7 * SECOND && took < 8 * SECOND, "{took:?}");
    });
}

/// A forward owns what it is sent through.
#[test]
fn dropping_a_driver_ends_forwards_that_it_has_not_polled() {
    check(0..3, |world| async move {
        let settings = (ServerSettings::default(), TunnelSettings::default());
        let (rig, serving, tunnelling) = Rig::undriven(&world, Anyone, settings.0, settings.1).await;
        rig.server.spawn(serving);
        let forward = rig.local().await;
        drop(tunnelling);
        assert!(connect(&rig.client, forward.address()).await.is_err(), "nobody listens any more");
    });
}

#[test]
fn dropping_a_driver_ends_everything_under_it() {
    check(0..5, |world| async move {
        for client_side in [true, false] {
            let world = std::sync::Arc::new(callosum_testkit::world::World::new(world.seed()));
            let inner = world.clone();
            world.run(async move {
                let world = inner;
                let settings = (ServerSettings::default(), TunnelSettings::default());
                let (rig, serving, tunnelling) = Rig::undriven(&world, Anyone, settings.0, settings.1).await;
                let (stop, stopped) = async_channel::bounded::<()>(1);
                let (dropped, other, host) = match client_side {
                    true => (tunnelling, serving, &rig.client),
                    false => (serving, tunnelling, &rig.server),
                };
                host.spawn(async move {
                    let stopped = std::pin::pin!(stopped.recv());
                    futures_util::future::select(dropped, stopped).await;
                });
                rig.server.spawn(other);
                let (mut here, mut there) = rig.through().await;
                write(&mut here, "ping").await;
                expect(&mut there, "ping").await;
                let forward = rig.local().await;
                stop.send(()).await.unwrap();
                expect_reset(&mut here).await;
                expect_reset(&mut there).await;
                let refused = match connect(&rig.client, forward.address()).await {
                    Ok(mut here) => here.read(&mut [0]).await.is_err(),
                    Err(_) => true,
                };
                assert!(refused);
                assert!(rig.tunnel.connections().is_empty() && rig.serving.connections().is_empty());
            });
            world.end();
        }
    });
}

#[test]
fn a_drain_lets_connections_end_until_its_deadline() {
    check(0..5, |world| async move {
        for finishes in [true, false] {
            for client_side in [true, false] {
                let world = std::sync::Arc::new(callosum_testkit::world::World::new(world.seed()));
                let inner = world.clone();
                world.run(async move { drain(&inner, finishes, client_side).await });
                world.end();
            }
        }
    });
}

async fn drain(world: &std::sync::Arc<callosum_testkit::world::World>, finishes: bool, client_side: bool) {
    let rig = Rig::new(world).await;
    let (mut here, mut there) = rig.through().await;
    let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
    let forward = rig.local().await;
    let draining = async {
        match client_side {
            true => rig.tunnel.drain(5 * SECOND).await,
            false => rig.serving.drain(5 * SECOND).await,
        }
    };
    let using = async {
        world.sleep(SECOND).await;
        write(&mut here, "still there").await;
        expect(&mut there, "still there").await;
        // Nothing new.
        if let Ok(mut new) = connect(&rig.client, forward.address()).await {
            expect_reset(&mut new).await;
        }
        if finishes {
            here.close().await.unwrap();
            there.close().await.unwrap();
            expect_end(&mut here).await;
            expect_end(&mut there).await;
        } else {
            expect_reset(&mut here).await;
            expect_reset(&mut there).await;
        }
    };
    let (drained, ()) = futures_util::future::join(draining, using).await;
    let ends = (end(&mut events).await, end(&mut serving).await);
    match (finishes, client_side) {
        (true, _) => assert_eq!((drained, ends), (Drained::Completely, (End::Closed, End::Closed))),
        (false, true) => {
            assert_eq!((drained, ends), (Drained::DeadlinePassed, (End::ShutDown, End::ResetThere)));
        }
        (false, false) => {
            assert_eq!((drained, ends), (Drained::DeadlinePassed, (End::ShutDown, End::ShutDown)));
        }
    }
    let limit = Duration::from_secs(6);
    assert!(finishes || world.elapsed() < limit, "{:?}", world.elapsed());
}
