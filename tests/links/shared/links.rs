//! Message links, whatever the executor. Included by the tests on each runtime, which bring `run` and `spawn`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, join_all, select};

use crate::callosum::link::{
    Hub, MemoryReceiver, MemorySender, MessageReceiver, MessageSender, Received, memory,
};
use crate::callosum::proto::{Anomaly, Multipart};
use crate::callosum::{
    Binder, Builder, CallError, CloseCause, Connector, Context, Dialect, DisconnectCause, Drained, Driver,
    DriverError, Event, HandlerResult, InvokeError, Limits, NotSent, OrderingKey, Peer, Refusal, Response,
    builder,
};
use crate::common::{Ending, connected, disconnected, drive, echo, for_ever};
use crate::run;
use callosum_proto::internals::wire::{CallName, Encoder, Hello, Message, NONCE_LEN, PING, PONG, Payload};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

/// Intervals to try one after another, until the machine is fast enough for what has to happen in one.
fn longer_and_longer() -> impl Iterator<Item = Duration> {
    (0..).map(|n| SHORT * (1 << n))
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn echoing() -> Builder {
    builder().handle_raw("echo", echo).handle_raw("for ever", for_ever)
}

fn bind(builder: Builder) -> (Hub, Binder) {
    let (hub, binder, driver) = bind_driven(builder);
    let _ending = drive(driver);
    (hub, binder)
}

fn bind_driven(builder: Builder) -> (Hub, Binder, Driver) {
    let (hub, sender, receiver) = memory(4);
    let (binder, driver) = builder.bind_link(sender, receiver);
    (hub, binder, driver)
}

/// A connector, and how its driver ends.
fn connect(hub: &Hub, id: &'static str, builder: Builder) -> (Connector, Ending) {
    let (sender, receiver) = hub.connect(id);
    let (connector, driver) = builder.connect_link(sender, receiver);
    (connector, drive(driver))
}

async fn call(peer: &Peer, text: &'static str) -> Result<Bytes, CallError> {
    peer.invoke_raw("echo", bytes(text)).timeout(PATIENCE).await
}

async fn assert_echoes(peer: &Peer) {
    assert_eq!(call(peer, "good").await.unwrap(), "good");
}

fn is_connection_end(cause: &DisconnectCause, expected: CloseCause) -> bool {
    matches!(cause, DisconnectCause::Connection(cause) if *cause == expected)
}

/// A peer that is played by the test.
struct Raw {
    sender: MemorySender,
    receiver: MemoryReceiver,
    encoder: Encoder,
}

impl Raw {
    fn connect(hub: &Hub, id: &'static str) -> Self {
        let (sender, receiver) = hub.connect(id);
        Self { sender, receiver, encoder: Encoder::default() }
    }

    async fn send(&self, frames: &[Bytes]) {
        let message = Multipart::from_frames(frames.iter().cloned()).unwrap_or_default();
        self.sender.send(&Bytes::new(), message).await.unwrap();
    }

    /// One whose connection is established.
    async fn greeted(hub: &Hub, binder: &Binder) -> Self {
        let mut events = binder.events();
        let mut raw = Self::connect(hub, "raw");
        raw.say_hello().await;
        connected(&mut events).await;
        assert_eq!(raw.next().await.unwrap().frames()[0], PONG);
        raw
    }

    async fn say_hello(&self) {
        let hello = Hello { dialects: 1, nonce: [7; NONCE_LEN], max_body: 1 << 20, credit: None };
        self.send(&[PING, hello.encode(), Bytes::new()]).await;
    }

    async fn call(&mut self, seq: u32) {
        let id = CallName { method: "echo".into(), key: OrderingKey::none(), seq };
        let payload = Payload::Function(bytes("raw"));
        let message = self.encoder.encode(&Message { id, payload, compressed: false });
        self.sender.send(&Bytes::new(), message).await.unwrap();
    }

    async fn next(&mut self) -> Option<Multipart> {
        match self.receiver.receive().await.unwrap() {
            Received::Message { message, .. } => Some(message),
            _ => None,
        }
    }
}

#[test]
fn calls_go_both_ways() {
    run(async {
        let (hub, binder) = bind(builder().handle_raw("ask back", async |body: Bytes, context: Context| {
            HandlerResult::Ok(context.peer().invoke_raw("echo", body.clone()).await?)
        }));
        let mut events = binder.events();
        let (connector, _ending) = connect(&hub, "a", echoing());
        let answer = connector.peer().invoke_raw("ask back", bytes("there and back")).timeout(PATIENCE).await;
        assert_eq!(answer.unwrap(), "there and back");

        let peer = connected(&mut events).await;
        assert_echoes(&peer).await;
        assert_eq!(peer.info().routing_id, "a");
        assert!(peer.info().max_body.is_some());
        assert!(peer.stats().bytes_sent > 0 && peer.stats().bytes_received > 0);
    });
}

#[test]
fn many_peers_share_a_link() {
    run(async {
        const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let (hub, binder) = bind(echoing());
        let connectors = NAMES.map(|id| {
            connect(&hub, id, builder().handle_raw("name", async |_, _| HandlerResult::Ok(bytes(id)))).0
        });
        join_all(connectors.iter().map(async |connector| {
            let calls = join_all((0..50).map(|_| call(connector.peer(), "one of many"))).await;
            assert!(calls.iter().all(|result| result.as_ref().unwrap() == "one of many"));
        }))
        .await;

        let peers = binder.peers();
        assert_eq!(peers.len(), NAMES.len());
        for peer in peers {
            let name = peer.invoke_raw("name", Bytes::new()).timeout(PATIENCE).await.unwrap();
            assert_eq!(name, peer.info().routing_id);
        }
    });
}

#[test]
fn a_restarted_peer_gets_a_new_connection() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut events = binder.events();
        let (former, _) = connect(&hub, "a", echoing());
        let peer = connected(&mut events).await;
        let body = Bytes::new();
        let pending = peer.invoke_raw("for ever", body.clone()).into_future();
        let pending = running(pending, former.peer()).await;
        let (newcomer, _ending) = connect(&hub, "a", echoing());
        let result = pending.await;
        let Err(CallError::Disconnected(cause)) = result else { panic!("{result:?}") };
        assert!(is_connection_end(&cause, CloseCause::PeerRestarted), "{cause:?}");
        assert!(is_connection_end(&disconnected(&mut events).await, CloseCause::PeerRestarted));
        assert_echoes(newcomer.peer()).await;
        let peers = binder.peers();
        assert_eq!(peers.len(), 1);
        assert_ne!(peers[0], peer);
        assert_echoes(&peers[0]).await;
        assert_eq!(peer.stats().calls_failed, 1);
    });
}

#[test]
fn keepalive_finds_a_dead_peer() {
    run(async {
        let (hub, binder) = bind(builder().keepalive(SHORT, 2));
        let mut events = binder.events();
        let raw = Raw::connect(&hub, "dead");
        raw.say_hello().await;
        let peer = connected(&mut events).await;
        let result = peer.invoke_raw("echo", Bytes::new()).await;
        let Err(CallError::Disconnected(cause)) = result else { panic!("{result:?}") };
        assert!(is_connection_end(&cause, CloseCause::KeepaliveTimedOut), "{cause:?}");
        assert!(is_connection_end(&disconnected(&mut events).await, CloseCause::KeepaliveTimedOut));
        assert!(binder.peers().is_empty());
    });
}

#[test]
fn keepalive_keeps_a_silent_peer() {
    run(async {
        for interval in longer_and_longer() {
            let (hub, binder) = bind(builder().keepalive(interval, 2));
            let mut events = binder.events();
            let mut raw = Raw::connect(&hub, "silent");
            raw.say_hello().await;
            connected(&mut events).await;
            let mut answered = 0;
            while answered < 5
                && let Some(message) = raw.next().await
            {
                let [marker, header, body] = message.into_three().unwrap();
                if marker == PING {
                    raw.send(&[PONG, header, body]).await;
                    answered += 1;
                }
            }
            // It is given up if the machine has no time for it to answer.
            if answered == 5 && binder.peers().len() == 1 {
                break;
            }
        }
    });
}

#[test]
fn a_connector_finds_out_that_it_was_forgotten() {
    run(async {
        for interval in longer_and_longer() {
            let (hub, binder) = bind(echoing());
            let mut events = binder.events();
            let (connector, ending) = connect(&hub, "a", builder().keepalive(interval, 2));
            let peer = connected(&mut events).await;
            let body = Bytes::new();
            let pending = connector.peer().invoke_raw("for ever", body.clone()).into_future();
            // Both may end too early if the machine has no time for the binder to answer.
            let result = match select(pending, std::pin::pin!(until_it_runs(&peer))).await {
                Either::Left(_) => continue,
                Either::Right((Err(_), _)) => continue,
                Either::Right((Ok(()), pending)) => {
                    peer.disconnect();
                    pending.await
                }
            };
            let Err(CallError::Disconnected(cause)) = result else { panic!("{result:?}") };
            assert!(is_connection_end(&cause, CloseCause::KeepaliveTimedOut), "{cause:?}");
            assert!(matches!(ending.await.unwrap(), Err(DriverError::Disconnected(_))));
            assert!(binder.peers().is_empty());
            break;
        }
    });
}

#[test]
fn a_peer_that_leaves_is_forgotten_at_once() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut events = binder.events();
        let (sender, receiver) = hub.connect("a");
        let (connector, driver) = builder().connect_link(sender, receiver);
        {
            let ready = std::pin::pin!(connector.peer().ready());
            select(driver, ready).await;
        }
        let peer = connected(&mut events).await;
        // A probe that can't be sent any more may tell first.
        let cause = disconnected(&mut events).await;
        assert!(matches!(cause, DisconnectCause::PeerClosed | DisconnectCause::Link(_)), "{cause:?}");
        assert!(matches!(call(&peer, "too late").await, Err(CallError::NotSent(_))));
        assert!(binder.peers().is_empty());
    });
}

#[test]
fn shutdown_drains_both_sides() {
    run(async {
        let (started, starts) = async_channel::bounded::<()>(16);
        let (hub, binder, driver) = bind_driven(builder().handle_raw("slow", move |body: Bytes, _| {
            let started = started.clone();
            async move {
                started.send(()).await.expect("the test waits for it");
                HandlerResult::Ok(body)
            }
        }));
        let _ending = drive(driver);
        let (connector, ending) = connect(&hub, "a", echoing());
        let body = bytes("in time");
        let calls = join_all((0..8).map(|_| connector.peer().invoke_raw("slow", body.clone()).into_future()));
        let shutdown = async {
            for _ in 0..8 {
                starts.recv().await.unwrap();
            }
            binder.shutdown(PATIENCE).await
        };
        let (results, drained) = futures_util::join!(calls, shutdown);
        assert!(results.iter().all(|result| result.as_ref().unwrap() == "in time"));
        assert_eq!(drained, Drained::Completely);
        // With the binder, the link has gone; a probe that can't be sent any more may tell first.
        assert!(matches!(
            ending.await.unwrap(),
            Err(DriverError::Disconnected(DisconnectCause::PeerClosed | DisconnectCause::Link(_)))
        ));

        let (hub, _binder) = bind(echoing());
        let (connector, ending) = connect(&hub, "a", echoing());
        assert_echoes(connector.peer()).await;
        assert_eq!(connector.shutdown(PATIENCE).await, Drained::Completely);
        ending.await.unwrap().unwrap();
    });
}

/// Waits until a handler runs for a call of this peer.
async fn until_it_runs(callee: &Peer) -> Result<(), CallError> {
    while callee.stats().requests_running == 0 {
        callee.ping().await?;
    }
    Ok(())
}

/// Waits until a handler runs for a call that never ends; gives the call back.
async fn running(call: Response<Bytes>, callee: &Peer) -> Response<Bytes> {
    match select(call, std::pin::pin!(until_it_runs(callee))).await {
        Either::Left((result, _)) => panic!("the call has ended: {result:?}"),
        Either::Right((runs, call)) => {
            runs.unwrap();
            call
        }
    }
}

#[test]
fn calls_are_refused_while_draining() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut events = binder.events();
        let (connector, _ending) = connect(&hub, "a", echoing());
        let peer = connected(&mut events).await;
        let body = Bytes::new();
        let pending = connector.peer().invoke_raw("for ever", body.clone()).into_future();
        let pending = running(pending, &peer).await;
        let refused = async {
            while call(&peer, "not yet").await.is_ok() {}
            let refused = call(connector.peer(), "late").await;
            drop(pending);
            refused
        };
        let (drained, refused) = futures_util::join!(binder.shutdown(PATIENCE), refused);
        assert_eq!(drained, Drained::Completely);
        // Which of the two depends on whether it has heard the goodbye.
        match &refused {
            Err(CallError::Rejected(info)) => assert_eq!(Refusal::of(info), Some(Refusal::ShuttingDown)),
            Err(CallError::NotSent(NotSent::Refused(InvokeError::PeerDraining))) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_deadline_of_a_shutdown_cuts_what_is_left() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut events = binder.events();
        let (connector, _ending) = connect(&hub, "a", echoing());
        let peer = connected(&mut events).await;
        let body = Bytes::new();
        let pending = connector.peer().invoke_raw("for ever", body.clone()).into_future();
        let pending = running(pending, &peer).await;
        assert_eq!(binder.shutdown(SHORT).await, Drained::DeadlinePassed);
        let result = pending.await;
        assert!(matches!(result, Err(CallError::Disconnected(DisconnectCause::PeerClosed))), "{result:?}");
    });
}

#[test]
fn a_drained_link_waits_until_the_peer_has_received_its_replies() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut raw = Raw::greeted(&hub, &binder).await;
        raw.call(0).await;
        assert_eq!(raw.next().await.unwrap().frames()[0], "UPPER");
        let mut shutdown = Box::pin(binder.shutdown(PATIENCE));
        let probe = match select(&mut shutdown, Box::pin(raw.next())).await {
            Either::Left((drained, _)) => panic!("{drained:?} before it has asked"),
            Either::Right((probe, _)) => probe.expect("the link lives").into_three().unwrap(),
        };
        let [marker, header, body] = probe;
        assert_eq!(marker, PING);
        raw.send(&[PONG, header, body]).await;
        assert_eq!(shutdown.await, Drained::Completely);
        assert!(raw.next().await.is_none());
    });
}

#[test]
fn a_drained_link_gives_up_a_silent_peer_that_has_called_nothing() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut raw = Raw::greeted(&hub, &binder).await;
        assert_eq!(binder.shutdown(PATIENCE).await, Drained::Completely);
        assert_eq!(raw.next().await.expect("it is asked").frames()[0], PING);
        assert!(raw.next().await.is_none());
    });
}

/// Everything that is no message of Callosum, and more frames than any has.
fn garbage() -> Vec<Vec<Bytes>> {
    let junk = bytes("junk");
    vec![
        vec![],
        vec![Bytes::new()],
        vec![junk.clone(); 3],
        vec![junk.clone(); 9],
        vec![bytes("UPPER")],
        vec![bytes("UPPER"), junk.clone(), junk.clone()],
        vec![bytes("UPPER"), bytes("\u{5}"), Bytes::new()],
        vec![PONG, junk.clone(), junk.clone()],
        vec![PING],
        vec![PING, Bytes::new(), junk],
    ]
}

#[test]
fn garbage_begins_no_connection() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut events = binder.events();
        let raw = Raw::connect(&hub, "raw");
        for frames in garbage() {
            raw.send(&frames).await;
        }
        raw.say_hello().await;
        let peer = connected(&mut events).await;
        assert_eq!(peer.stats().anomalies, 0, "it is the first connection");
        assert_eq!(binder.peers(), [peer]);
    });
}

#[test]
fn garbage_between_calls_does_no_harm() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut events = binder.events();
        let mut raw = Raw::connect(&hub, "raw");
        raw.say_hello().await;
        let pong = raw.next().await.unwrap();
        assert_eq!(pong.frames()[0], PONG);
        for (seq, frames) in garbage().iter().enumerate() {
            raw.send(frames).await;
            raw.call(seq as u32).await;
            let mut reply = raw.next().await.unwrap();
            while reply.frames()[0] == PONG {
                reply = raw.next().await.unwrap();
            }
            assert!(reply.frames()[2].windows(3).any(|piece| piece == b"raw"));
        }
        let peer = connected(&mut events).await;
        assert!(matches!(events.next().await, Some(Event::Downgraded { dialect: Dialect::One, .. })));
        let anomaly = events.next().await;
        assert!(matches!(anomaly, Some(Event::Anomaly { anomaly: Anomaly::NotAMessage, .. })), "{anomaly:?}");
        assert_eq!(peer.stats().anomalies, 8);
        assert_eq!(peer.stats().requests_done, garbage().len() as u64);
    });
}

#[test]
fn a_peer_that_floods_and_does_not_read_is_given_up() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut events = binder.events();
        let raw = Raw::connect(&hub, "flood");
        raw.say_hello().await;
        connected(&mut events).await;
        let (connector, _ending) = connect(&hub, "good", echoing());
        let flood = async {
            let probe = [PING, Bytes::new(), Bytes::from(vec![0; 32 * 1024])];
            let end = std::pin::pin!(disconnected(&mut events));
            let flood = std::pin::pin!(async {
                loop {
                    raw.send(&probe).await;
                }
            });
            match select(flood, end).await {
                Either::Right((cause, _)) => cause,
                Either::Left((never, _)) => never,
            }
        };
        let calls = async {
            for _ in 0..100 {
                assert_echoes(connector.peer()).await;
            }
        };
        let (cause, ()) = futures_util::join!(flood, calls);
        assert!(is_connection_end(&cause, CloseCause::PeerNotReading), "{cause:?}");
        assert_echoes(connector.peer()).await;
    });
}

#[test]
fn a_peer_that_does_not_read_delays_nobody() {
    run(async {
        let limits = Limits::default().write_timeout(Duration::from_millis(200));
        let (hub, binder) = bind(echoing().limits(limits));
        let mut events = binder.events();
        let raw = Raw::connect(&hub, "slow");
        raw.say_hello().await;
        let slow = connected(&mut events).await;
        let (connector, _ending) = connect(&hub, "good", echoing());
        let body = Bytes::new();
        let stuck = join_all((0..16).map(|_| slow.invoke_raw("echo", body.clone()).into_future()));
        let good = async {
            for _ in 0..100 {
                assert_echoes(connector.peer()).await;
            }
            slow.is_connected()
        };
        let (stuck, _) = futures_util::join!(stuck, good);
        assert!(stuck.iter().all(Result::is_err));
        assert!(is_connection_end(&disconnected(&mut events).await, CloseCause::PeerNotReading));
        assert_eq!(slow.stats().calls_failed, 16);
        assert_echoes(connector.peer()).await;
    });
}

#[test]
fn the_number_of_peers_is_limited() {
    run(async {
        let limits = Limits::default().max_link_peers(1);
        let (hub, binder) = bind(echoing().limits(limits));
        let mut events = binder.events();
        let (first, _) = connect(&hub, "a", echoing());
        connected(&mut events).await;
        let (refused, second) = hub.connect("b");
        let raw = Raw { sender: refused, receiver: second, encoder: Encoder::default() };
        raw.say_hello().await;
        let event = events.next().await;
        let Some(Event::Refused { cause: DisconnectCause::TooManyPeers, .. }) = event else {
            panic!("{event:?}")
        };

        assert_eq!(first.shutdown(PATIENCE).await, Drained::Completely);
        disconnected(&mut events).await;
        raw.say_hello().await;
        assert_eq!(connected(&mut events).await.info().routing_id, "b");
    });
}

#[test]
fn a_python_peer_needs_no_hello() {
    run(async {
        let (hub, binder) = bind(echoing());
        let mut events = binder.events();
        let mut raw = Raw::connect(&hub, "python");
        raw.send(&[PING, Bytes::new(), Bytes::new()]).await;
        assert_eq!(raw.next().await, Multipart::from_frames([PONG, Bytes::new(), Bytes::new()]));
        assert!(connected(&mut events).await.info().max_body.is_none());

        let mut raw = Raw::connect(&hub, "no word before");
        raw.call(0).await;
        assert_eq!(raw.next().await.unwrap().frames()[0], "UPPER");
    });
}

#[test]
fn a_connector_without_an_answer_gives_up() {
    run(async {
        let (hub, _sender, _receiver) = memory(4);
        let limits = { Limits::default().handshake_timeout(SHORT) };
        let (connector, ending) = connect(&hub, "a", builder().limits(limits));
        let result = call(connector.peer(), "anybody?").await;
        assert!(matches!(result, Err(CallError::NotSent(_))), "{result:?}");
        let ending = ending.await.unwrap();
        let Err(DriverError::Disconnected(cause)) = ending else { panic!("{ending:?}") };
        assert!(is_connection_end(&cause, CloseCause::HandshakeTimedOut), "{cause:?}");
    });
}

#[test]
fn a_link_that_fails_ends_its_driver() {
    run(async {
        let (hub, binder, driver) = bind_driven(echoing());
        drop(hub);
        let result = driver.await;
        assert!(matches!(result, Err(DriverError::Disconnected(DisconnectCause::Link(_)))), "{result:?}");
        assert!(binder.peers().is_empty());
    });
}
