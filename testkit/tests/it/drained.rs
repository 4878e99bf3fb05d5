//! For how long a shutdown waits for a peer that stalls: as long as it may not have received a reply, and no longer. On virtual time.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::Multipart;
use callosum_proto::internals::wire::{CallName, Encoder, Message, PING, PONG, Payload, UPPER};
use callosum_proto::{OrderingKey, Text};
use callosum_runtime::auth::{CurveClient, KeySet, generate_keys};
use callosum_runtime::link::{
    MemoryReceiver, MemorySender, MessageReceiver, MessageSender, Received, memory,
};
use callosum_runtime::{Binder, Builder, Connector, Context, Dialect, Drained, Event, HandlerResult, Peer};
use callosum_testkit::world::{Host, Link, World};
use futures_util::StreamExt;
use futures_util::future::{FutureExt, join, join_all};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two heartbeats, one of each side.
const TWO_HEARTBEATS: Duration = Duration::from_secs(61);

/// A byte stream may take so long to close.
const LINGER: Duration = SECOND;

const GRACE: Duration = Duration::from_secs(20);

/// How long a handler runs.
const WORK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Setting {
    dialect: Dialect,
    curve: bool,
    heartbeats: bool,
}

/// All of them.
fn settings() -> impl Iterator<Item = Setting> {
    let dialects = [Dialect::One, Dialect::Two].into_iter();
    dialects.flat_map(|dialect| [false, true].map(move |curve| Setting { dialect, curve, heartbeats: true }))
}

/// A binder and a connector that call each other.
struct Party {
    server: Host,
    client: Host,
    binder: Binder,
    connector: Connector,
    setting: Setting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Binder,
    Connector,
}

fn with_work(builder: Builder, world: &World) -> Builder {
    let time = world.time();
    builder.handle("work", move |(): (), _: Context| {
        let time = time.clone();
        async move {
            time.sleep(WORK).await;
            HandlerResult::Ok("done".to_owned())
        }
    })
}

async fn meet(world: &World, setting: Setting) -> Party {
    let (server, client) = (world.host("server"), world.host("client"));
    let builder = |host: &Host| {
        let builder = with_work(host.builder(), world).dialect(setting.dialect);
        if setting.heartbeats { builder } else { builder.no_keepalive() }
    };
    let (mut ours, mut theirs) = (builder(&server), builder(&client));
    if setting.curve {
        let (server_keys, client_keys) = (generate_keys(), generate_keys());
        theirs = theirs.authenticator(CurveClient::new(client_keys.clone(), server_keys.public()));
        let keys = KeySet::new(server_keys);
        keys.admit(client_keys.public(), "client");
        ours = ours.authenticator(keys);
    }
    let (binder, driver) = ours.bind("tcp://server:1").await.expect("the port is free");
    server.spawn(async { drop(driver.await) });
    let (connector, driver) = theirs.connect("tcp://server:1").expect("it is an endpoint");
    client.spawn(async { drop(driver.await) });
    connector.peer().ready().await.expect("it is there");
    world.sleep(SECOND).await;
    Party { server, client, binder, connector, setting }
}

impl Party {
    /// The other side, as one side sees it.
    fn peer_of(&self, who: Who) -> Peer {
        match who {
            Who::Binder => self.binder.peers().remove(0),
            Who::Connector => self.connector.peer().clone(),
        }
    }

    /// One side answers a call of the other.
    async fn answers(&self, who: Who) {
        let other = if who == Who::Binder { Who::Connector } else { Who::Binder };
        let done: String = self.peer_of(other).invoke("work", &()).await.expect("it is answered");
        assert_eq!(done, "done");
    }

    /// The other side reads nothing from now on.
    fn stall(&self, world: &World) {
        world.partition(&self.server, &self.client);
    }

    /// How a shutdown of one side ends, and after how long.
    async fn shutdown(&self, world: &World, who: Who) -> (Drained, Duration) {
        let begun = world.elapsed();
        let drained = match who {
            Who::Binder => self.binder.shutdown(GRACE).await,
            Who::Connector => self.connector.shutdown(GRACE).await,
        };
        (drained, world.elapsed() - begun)
    }

    /// One side shuts down while the other reads nothing, and it waits for that no longer than for the byte stream.
    async fn shuts_down_at_once(&self, world: &World, who: Who) {
        self.stall(world);
        let (drained, took) = self.shutdown(world, who).await;
        assert_eq!(drained, Drained::Completely, "{who:?} {:?}", self.setting);
        assert!(took <= LINGER, "{took:?} {who:?} {:?}", self.setting);
    }

    /// One side shuts down while the other reads nothing: it waits as long as that lasts, and within the grace period.
    async fn waits(&self, world: &World, who: Who) {
        self.stall(world);
        let (drained, took) = self.shutdown(world, who).await;
        assert_eq!((drained, took), (Drained::DeadlinePassed, GRACE), "{who:?} {:?}", self.setting);
    }
}

/// Runs a test for both sides in each setting.
fn each<T: AsyncFn(&World, &Party, Who)>(settings: impl Iterator<Item = Setting>, test: T) {
    for setting in settings {
        for who in [Who::Binder, Who::Connector] {
            let world = World::new(0);
            world.run(async {
                let party = meet(&world, setting).await;
                test(&world, &party, who).await;
            });
        }
    }
}

#[test]
fn a_peer_that_stalls_after_a_heartbeat_holds_up_no_shutdown() {
    each(settings(), async |world, party, who| {
        party.answers(who).await;
        world.sleep(TWO_HEARTBEATS).await;
        party.shuts_down_at_once(world, who).await;
    });
}

#[test]
fn a_peer_that_stalls_with_a_reply_since_the_last_heartbeat_is_waited_for() {
    each(settings(), async |world, party, who| {
        party.answers(who).await;
        world.sleep(TWO_HEARTBEATS).await;
        party.answers(who).await;
        party.waits(world, who).await;
    });
    each(settings(), async |world, party, who| {
        party.answers(who).await;
        party.stall(world);
        let heals = async {
            world.sleep(5 * SECOND).await;
            world.heal(&party.server, &party.client);
        };
        let ((drained, took), ()) = join(party.shutdown(world, who), heals).await;
        assert_eq!(drained, Drained::Completely);
        assert!((5 * SECOND..5 * SECOND + 10 * MS).contains(&took), "{took:?}");
    });
}

#[test]
fn a_side_that_has_only_called_does_not_wait_for_a_peer_that_stalls() {
    each(settings(), async |world, party, who| {
        let other = if who == Who::Binder { Who::Connector } else { Who::Binder };
        party.answers(other).await;
        party.shuts_down_at_once(world, who).await;
    });
}

#[test]
fn a_probe_of_the_application_acknowledges_replies_without_heartbeats() {
    let without = || settings().map(|setting| Setting { heartbeats: false, ..setting });
    each(without(), async |world, party, who| {
        party.answers(who).await;
        world.sleep(TWO_HEARTBEATS).await;
        party.waits(world, who).await;
    });
    each(without(), async |world, party, who| {
        party.answers(who).await;
        party.peer_of(who).ping().await.expect("it is answered");
        party.shuts_down_at_once(world, who).await;
    });
    // Its answer comes after the reply, and says nothing of that.
    each(without(), async |world, party, who| {
        let peer = party.peer_of(who);
        let mut probe = pin!(peer.ping());
        assert!((&mut probe).now_or_never().is_none());
        party.answers(who).await;
        probe.await.expect("it is answered");
        party.waits(world, who).await;
    });
}

#[test]
fn replies_on_a_connection_that_is_lost_hold_up_no_shutdown() {
    each(settings(), async |world, party, who| {
        party.answers(who).await;
        let mut events = party.connector.events();
        world.reset(&party.server, &party.client);
        while !matches!(events.next().await, Some(Event::Connected(_))) {}
        // In dialect 1, a binder learns of the connection only when the connector says something.
        world.sleep(2 * MS).await;
        party.shuts_down_at_once(world, who).await;
    });
}

#[test]
fn two_sides_that_drain_at_once_wait_for_the_calls_and_not_for_each_other() {
    for (setting, seed) in settings().flat_map(|setting| (0..25).map(move |seed| (setting, seed))) {
        let world = World::new(seed);
        world.set_default_link(Link::default().jitter(5 * MS));
        world.run(async {
            let party = meet(&world, setting).await;
            let calls = [Who::Binder, Who::Connector].map(|who| {
                let peer = party.peer_of(who);
                join_all((0..20).map(|_| peer.invoke::<_, String>("work", &()).into_future()))
            });
            // All calls have arrived by the time, and most or none have been answered.
            let [first, second] = calls;
            let mut calls = pin!(join(first, second));
            assert!((&mut calls).now_or_never().is_none());
            world.sleep(WORK / 2 + MS * world.random_below(20) as u32).await;
            let apart = MS * world.random_below(10) as u32;
            let binder = party.shutdown(&world, Who::Binder);
            let connector = async {
                world.sleep(apart).await;
                party.shutdown(&world, Who::Connector).await
            };
            let (ends, (first, second)) = join(join(binder, connector), calls).await;
            for call in first.into_iter().chain(second) {
                assert_eq!(call.expect("it has begun before the shutdowns"), "done", "{setting:?} {seed}");
            }
            for (drained, took) in [ends.0, ends.1] {
                assert_eq!(drained, Drained::Completely);
                // The rest of the handlers, and a few round trips of up to 12 ms.
                assert!(took < WORK + 60 * MS, "{took:?} {setting:?} {seed}");
            }
        });
    }
}

/// A peer over a message link, by hand, in dialect 1.
struct ByHand {
    sender: MemorySender,
    receiver: MemoryReceiver,
    encoder: Encoder,
}

impl ByHand {
    async fn says(&self, message: Multipart) {
        self.sender.send(&Bytes::new(), message).await.expect("the other side is there");
    }

    async fn hears(&mut self) -> [Bytes; 3] {
        match self.receiver.receive().await {
            Ok(Received::Message { message, .. }) => message.into_three().expect("it has three frames"),
            other => panic!("{other:?}"),
        }
    }

    /// The answer to the next probe.
    async fn pong(&mut self) -> Multipart {
        let [marker, header, body] = self.hears().await;
        assert_eq!(marker, PING);
        Multipart::new(PONG, header, body)
    }

    /// Makes a call, and hears its result.
    async fn calls(&mut self, seq: u32) {
        let id = CallName { seq, method: Text::from("work"), key: OrderingKey::none() };
        let payload = Payload::Function(Bytes::from_static(b"null"));
        let call = self.encoder.encode(&Message { id, payload, compressed: false });
        self.says(call).await;
        assert_eq!(self.hears().await[0], UPPER);
    }
}

/// How a binder over a message link shuts down, and after how long, once its peer has done this and says nothing more.
fn over_a_message_link(test: impl AsyncFn(&mut ByHand)) -> (Drained, Duration) {
    let world = World::new(0);
    let server = world.host("server");
    world.run(async {
        let (hub, sender, receiver) = memory(64);
        let builder = with_work(server.builder(), &world).keepalive(10 * SECOND, 100);
        let (binder, driver) = builder.bind_link(sender, receiver);
        server.spawn(async { drop(driver.await) });
        let (sender, receiver) = hub.connect("peer");
        let mut peer = ByHand { sender, receiver, encoder: Encoder::default() };
        peer.says(Multipart::new(PING, Bytes::new(), Bytes::new())).await;
        assert_eq!(peer.hears().await[0], PONG);
        test(&mut peer).await;
        // What the peer has said last is read first.
        world.sleep(MS).await;
        let begun = world.elapsed();
        (binder.shutdown(GRACE).await, world.elapsed() - begun)
    })
}

#[test]
fn a_message_link_waits_a_second_for_a_peer_that_has_acknowledged_all_replies() {
    let has_called_nothing = over_a_message_link(async |_| {});
    assert_eq!(has_called_nothing, (Drained::Completely, SECOND));
    let has_answered_no_probe = over_a_message_link(async |peer| peer.calls(0).await);
    assert_eq!(has_answered_no_probe, (Drained::DeadlinePassed, GRACE));
    let has_answered_a_probe = over_a_message_link(async |peer| {
        peer.calls(0).await;
        let pong = peer.pong().await;
        peer.says(pong).await;
    });
    assert_eq!(has_answered_a_probe, (Drained::Completely, SECOND));
    let has_answered_an_earlier_probe = over_a_message_link(async |peer| {
        let pong = peer.pong().await;
        peer.calls(0).await;
        peer.says(pong).await;
    });
    assert_eq!(has_answered_an_earlier_probe, (Drained::DeadlinePassed, GRACE));
}
