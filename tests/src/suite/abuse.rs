//! Peers that do their worst, and an honest client beside them, all of whose calls succeed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::internals::wire::Payload;
use callosum_proto::internals::wire::{PING, UPPER};
use callosum_proto::zmtp::LinkError;
use callosum_proto::{Multipart, OrderingKey};
use callosum_runtime::rt::BoxStream;
use callosum_runtime::{
    Binder, Builder, CloseCause, Connector, Context, DisconnectCause, Event, Events, HandlerResult, Limits,
    OrderingMode, Peer,
};
use futures_util::FutureExt;
use futures_util::future::join;
use serde_json::Value;

use crate::gate::{Alive, Gate};
use crate::raw::RawPeer;
use crate::rig::{Rig, Running, next_event};

/// Messages of a flood.
pub(super) const MANY: u32 = 100_000;

/// Messages that leave at once, before the attacker reads the answers to them.
pub(super) const BATCH: u32 = 500;

/// How long an honest call may take at the most, whatever goes on beside it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Honest calls that are served beside a flood, at the least: one for every ten batches, so that it does not matter what else
/// the machine has to do.
pub(super) const BESIDE_FLOOD: u32 = MANY / BATCH / 10;

/// A binder, and an honest client of it.
pub(super) struct Scene {
    pub(super) rig: Rig,
    pub(super) binder: Binder,
    binder_driver: Running,
    pub(super) honest: Connector,
    honest_driver: Running,
    pub(super) events: Events,
}

impl Scene {
    pub(super) async fn new(rig: &Rig, builder: Builder) -> Self {
        Self::with(rig, builder, rig.builder()).await
    }

    pub(super) async fn with(rig: &Rig, builder: Builder, honest: Builder) -> Self {
        let builder = builder.handle_raw("echo", |body, _| async move { HandlerResult::Ok(body) });
        let (binder, binder_driver) = rig.serve(builder).await;
        let (honest, honest_driver) = rig.connect(honest, &binder.endpoints()[0]);
        honest.peer().ready().await.expect("the binder is there");
        let events = binder.events();
        Self { rig: rig.clone(), binder, binder_driver, honest, honest_driver, events }
    }

    pub(super) async fn open(&self) -> BoxStream {
        self.rig.open(&self.binder.endpoints()[0]).await
    }

    /// A peer that keeps to no rules.
    pub(super) async fn attacker(&self) -> RawPeer<BoxStream> {
        RawPeer::connect(self.open().await).await
    }

    /// The same in dialect 2, which gives so much credit: to each stream, and to all.
    pub(super) async fn attacker_2(&self, credit: (u64, u64)) -> RawPeer<BoxStream> {
        RawPeer::connect_2(self.open().await, credit).await
    }

    /// The attacker, as the binder sees it.
    pub(super) async fn attacker_seen(&self) -> Peer {
        self.rig.peers(&self.binder, 2).await.into_iter().max_by_key(Peer::id).expect("there are two")
    }

    /// One honest call after another as long as the attack goes on, and at least ten. Each succeeds within [`PATIENCE`], and
    /// `served` of them or more before the attack is over: 0 where it may be over before anybody can be served.
    pub(super) async fn beside<T>(&self, served: u32, attack: impl Future<Output = T>) -> T {
        let over = AtomicBool::new(false);
        let honest = async {
            let mut meanwhile = 0;
            for n in 0_u32.. {
                if n >= 10 && over.load(Ordering::SeqCst) {
                    break;
                }
                let body = Bytes::from(n.to_be_bytes().to_vec());
                let call = self.honest.peer().invoke_raw("echo", body.clone()).timeout(PATIENCE);
                let reply = call.key(["j", "k", "l"][n as usize % 3]).await;
                assert_eq!(reply.expect("an honest call succeeds"), body);
                meanwhile += u32::from(!over.load(Ordering::SeqCst));
            }
            meanwhile
        };
        let attack = attack.inspect(|_| over.store(true, Ordering::SeqCst));
        let (meanwhile, output) = join(honest, attack).await;
        assert!(meanwhile >= served, "only {meanwhile} honest calls were served meanwhile");
        output
    }

    /// How the binder parts from a peer.
    pub(super) async fn disconnected(&mut self) -> DisconnectCause {
        next_event(&mut self.events, |event| match event {
            Event::Disconnected { cause, .. } => Some(cause),
            _ => None,
        })
        .await
    }

    pub(super) async fn end(self) {
        assert_eq!(self.honest.peer().stats().calls_failed, 0);
        self.honest_driver.cut().await;
        self.binder_driver.cut().await;
    }
}

/// Calls and cancels at once, again and again: no more handlers live at a time than may, each call is answered once, and
/// none is left.
pub async fn flood_of_cancels(rig: Rig) {
    const PLACES: usize = 4;
    let (live, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (counter, peak) = (live.clone(), most.clone());
    let builder = rig.builder().max_concurrency(PLACES).handle("hold", move |_: Value, _| {
        let (alive, peak) = (Alive::new(&counter), peak.clone());
        peak.fetch_max(counter.load(Ordering::SeqCst), Ordering::SeqCst);
        async move {
            let _alive = alive;
            std::future::pending::<HandlerResult<()>>().await
        }
    });
    let scene = Scene::new(&rig, builder).await;
    let mut attacker = scene.attacker().await;
    let seen = scene.attacker_seen().await;
    scene
        .beside(BESIDE_FLOOD, async {
            for first in (0..MANY).step_by(BATCH as usize) {
                for seq in first..first + BATCH {
                    let call = Payload::Function("1".into());
                    for payload in [call, Payload::Cancel] {
                        let message = attacker.message(seq, ("hold", OrderingKey::none()), payload, false);
                        attacker.queue(message);
                    }
                }
                attacker.flush().await;
                for _ in 0..BATCH {
                    let (_, answer) = attacker.hear().await;
                    assert_eq!(answer, Payload::Cancelled);
                }
            }
        })
        .await;
    assert_eq!(live.load(Ordering::SeqCst), 0, "whatever was cancelled has ended");
    assert!(most.load(Ordering::SeqCst) <= PLACES, "{most:?} handlers at a time");
    let stats = seen.stats();
    assert_eq!((stats.requests_running, stats.requests_queued, stats.anomalies), (0, 0, 0));
    assert_eq!(stats.requests_failed, u64::from(MANY));
    scene.end().await;
}

/// Probes of both kinds, whose sender reads the answers.
pub async fn flood_of_pings(rig: Rig) {
    let scene = Scene::new(&rig, rig.builder()).await;
    let mut attacker = scene.attacker().await;
    let zmtp = b"\x04\x07\x04PING\0\0".repeat(BATCH as usize);
    scene
        .beside(BESIDE_FLOOD, async {
            for _ in (0..MANY).step_by(BATCH as usize) {
                for _ in 0..BATCH {
                    attacker.queue(Multipart::new(PING, Bytes::new(), Bytes::from_static(b"probe")));
                }
                attacker.flush().await;
                for _ in 0..BATCH {
                    let answer = attacker.receive().await;
                    assert_eq!(
                        (&answer.frames()[0][..], &answer.frames()[2][..]),
                        (&b"PONG"[..], &b"probe"[..])
                    );
                }
                attacker.write(&zmtp).await;
            }
            attacker.call(1, "echo", "still there").await;
            attacker.hear().await;
        })
        .await;
    scene.end().await;
}

/// Probes whose sender does not read the answers: it is cut off.
pub async fn pings_without_reading(rig: Rig) {
    let limits = Limits::default().write_timeout(Duration::from_millis(200));
    let mut scene = Scene::new(&rig, rig.builder().limits(limits)).await;
    let body = Bytes::from(vec![0; 32 * 1024]);
    let mut attacker = scene.attacker().await;
    let attack = async move {
        loop {
            attacker.queue(Multipart::new(PING, Bytes::new(), body.clone()));
            if attacker.try_flush().await.is_err() {
                return;
            }
        }
    };
    scene.beside(1, attack).await;
    let cause = scene.disconnected().await;
    assert!(matches!(cause, DisconnectCause::Connection(CloseCause::PeerNotReading)), "{cause:?}");
    scene.end().await;
}

/// Unknown markers, replies to calls that never were, cancellations of none, and calls with a name in use: all are dropped
/// and counted, to the last.
pub async fn flood_of_nonsense(rig: Rig) {
    let gate = Gate::default();
    let scene = Scene::new(&rig, rig.builder()).await;
    gate.guard(scene.binder.handlers(), "hold");
    let mut attacker = scene.attacker().await;
    let seen = scene.attacker_seen().await;
    attacker.call(7, "hold", "1").await;
    let held = gate.next().await;
    let nothing = || ("nothing", OrderingKey::none());
    let nonsense = [
        Multipart::new("NOISE".into(), Bytes::new(), Bytes::new()),
        Multipart::new(UPPER, Bytes::from_static(b"\xc1"), Bytes::new()),
        Multipart::from_frames([UPPER]).expect("a frame is a message"),
        attacker.message(1, nothing(), Payload::Result("1".into()), false),
        attacker.message(2, nothing(), Payload::Cancelled, false),
        attacker.message(3, nothing(), Payload::Cancel, false),
        attacker.message(7, ("hold", OrderingKey::none()), Payload::Function("1".into()), false),
    ];
    scene
        .beside(BESIDE_FLOOD, async {
            for _ in (0..MANY).step_by(BATCH as usize) {
                for message in
                    nonsense.iter().flat_map(|message| std::iter::repeat_n(message, BATCH as usize))
                {
                    attacker.queue(message.clone());
                }
                attacker.flush().await;
                attacker.call(8, "echo", "good").await;
                assert_eq!(attacker.hear().await.0.id.seq, 8);
            }
        })
        .await;
    assert_eq!(seen.stats().anomalies, nonsense.len() as u64 * u64::from(MANY));
    assert_eq!(gate.started(), 1, "a call runs once");
    held.release(1);
    assert_eq!(attacker.hear().await.0.id.seq, 7);
    scene.end().await;
}

/// Messages of too many frames are dropped, and one without an end, or of too many bytes, ends the link.
pub async fn endless_multipart(rig: Rig) {
    let mut scene = Scene::new(&rig, rig.builder()).await;
    let mut attacker = scene.attacker().await;
    let seen = scene.attacker_seen().await;
    let mut many = b"\x01\x01x".repeat(1_023);
    many.extend(b"\x00\x01x");
    scene
        .beside(10, async {
            for _ in 0..500 {
                attacker.write(&many).await;
            }
            attacker.call(1, "echo", "good").await;
            attacker.hear().await;
        })
        .await;
    assert_eq!(seen.stats().anomalies, 500);
    drop(attacker);
    scene.disconnected().await;

    let mut large = b"\x03".to_vec();
    large.extend((1_u64 << 20).to_be_bytes());
    large.resize(large.len() + (1 << 20), 0);
    for frame in [b"\x01\x00".to_vec(), b"\x01\x01x".repeat(100), large] {
        let mut attacker = scene.attacker().await;
        scene.beside(0, async move { while attacker.try_write(&frame).await.is_ok() {} }).await;
        let cause = scene.disconnected().await;
        let DisconnectCause::Protocol(error) = &cause else { panic!("{cause:?}") };
        assert!(
            matches!(**error, LinkError::TooManyFrames { max: 1_024 } | LinkError::TooLarge { .. }),
            "{error:?}"
        );
    }
    scene.end().await;
}

/// Peers that go silent after their handshake, or right after ZMTP's, and do not even answer its PINGs, are given up.
pub async fn half_open_after_the_handshake(rig: Rig) {
    // Who says nothing by then counts as one that knows only dialect 1.
    let limits = Limits::default().handshake_timeout(Duration::from_secs(1));
    let builder = rig.builder().limits(limits).keepalive(Duration::from_secs(1), 2);
    let mut scene = Scene::new(&rig, builder).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(scene.attacker().await);
        silent.push(RawPeer::mute(scene.open().await).await);
    }
    let mut events = scene.binder.events();
    let first = next_event(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(()));
    scene.beside(10, first).await;
    for _ in 0..silent.len() {
        let cause = scene.disconnected().await;
        let DisconnectCause::Protocol(error) = &cause else { panic!("{cause:?}") };
        assert_eq!(**error, LinkError::KeepaliveTimedOut);
    }
    for attacker in silent {
        attacker.until_closed().await;
    }
    scene.beside(0, scene.rig.peers(&scene.binder, 1)).await;
    scene.end().await;
}

/// A key whose handler hangs, and a queue full of calls behind it: calls with other keys, and without, go on.
pub async fn key_that_hangs(rig: Rig) {
    let gate = Gate::default();
    let scene =
        Scene::new(&rig, rig.builder().ordering(OrderingMode::KeySerialized).max_concurrency(2)).await;
    gate.guard(scene.binder.handlers(), "hold");
    let mut attacker = scene.attacker().await;
    let seen = scene.attacker_seen().await;
    // The key hangs on when the attacker has said everything: the ten honest calls that are made in any case are beside it.
    scene
        .beside(0, async {
            for seq in 0..3_000 {
                let key = OrderingKey::text("hangs");
                let message = attacker.message(seq, ("hold", key), Payload::Function("1".into()), false);
                attacker.queue(message);
            }
            attacker.flush().await;
            for _ in 0..3_000 - 1_001 {
                let (header, answer) = attacker.hear().await;
                assert!(matches!(answer, Payload::Error(_)), "{header:?} {answer:?}");
            }
        })
        .await;
    assert_eq!((seen.stats().requests_running, seen.stats().requests_queued), (1, 1_000));
    assert_eq!(gate.started(), 1);
    scene.end().await;
}

/// Calls whose handlers call back to peers that never answer: with one place for handlers, honest calls that nest go on.
pub async fn call_backs_that_nobody_answers(rig: Rig) {
    async fn bounce(depth: u32, context: Context) -> HandlerResult<u32> {
        match depth {
            0 => Ok(0),
            _ => Ok(1 + context.peer().invoke::<_, u32>("bounce", &(depth - 1)).await?),
        }
    }
    let builder = || rig.builder().max_concurrency(1).handle("bounce", bounce);
    let scene = Scene::with(&rig, builder(), builder()).await;
    let mut attacker = scene.attacker().await;
    let seen = scene.attacker_seen().await;
    scene
        .beside(10, async {
            for seq in 0..500 {
                attacker.call(seq, "bounce", "5").await;
                let (header, call) = attacker.hear().await;
                assert!(matches!(call, Payload::Function(_)), "{header:?} {call:?}");
            }
            for _ in 0..20 {
                let depth: u32 = scene.honest.peer().invoke("bounce", &20).await.expect("it nests");
                assert_eq!(depth, 20);
            }
        })
        .await;
    assert_eq!((seen.stats().requests_running, seen.stats().calls_in_flight), (500, 500));
    drop(attacker);
    scene.rig.until(|| seen.stats().requests_running == 0).await;
    scene.end().await;
}
