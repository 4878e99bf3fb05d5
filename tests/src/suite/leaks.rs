//! What is over leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use callosum_proto::internals::wire::{Hello, NONCE_LEN, PING, UPPER};
use callosum_proto::ordering::{Action, Arrival, Busy, KeyOrder, OrderingConfig, Scheduler};
use callosum_proto::{ConnectionId, Multipart, RequestId};
use callosum_runtime::Event;
use callosum_runtime::link::{MessageSender, memory};

use crate::gate::Alive;
use crate::rig::{Rig, SOON, next_event, poll_once};

/// The built-in scheduler. It counts the connections that end, and lives as long as anything of its endpoint does.
struct Watched {
    order: KeyOrder,
    forgotten: Arc<AtomicUsize>,
    _alive: Alive,
}

#[derive(Default)]
struct Watch {
    forgotten: Arc<AtomicUsize>,
    live: Arc<AtomicUsize>,
}

impl Watch {
    fn scheduler(&self) -> Box<dyn Scheduler> {
        let order = KeyOrder::new(OrderingConfig::default());
        Box::new(Watched { order, forgotten: self.forgotten.clone(), _alive: Alive::new(&self.live) })
    }

    fn forgotten(&self) -> usize {
        self.forgotten.load(Ordering::SeqCst)
    }

    fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }
}

impl Scheduler for Watched {
    fn arrive(&mut self, arrival: &Arrival) -> Result<(), Busy> {
        self.order.arrive(arrival)
    }

    fn ready(&mut self, request: RequestId, bytes: usize) -> Result<(), Busy> {
        self.order.ready(request, bytes)
    }

    fn finish(&mut self, request: RequestId) {
        self.order.finish(request);
    }

    fn withdraw(&mut self, request: RequestId) {
        self.order.withdraw(request);
    }

    fn forget_connection(&mut self, connection: ConnectionId) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.order.forget_connection(connection);
    }

    fn suspend(&mut self, request: RequestId) {
        self.order.suspend(request);
    }

    fn resume(&mut self, request: RequestId) {
        self.order.resume(request);
    }

    fn pause(&mut self, connection: ConnectionId) {
        self.order.pause(connection);
    }

    fn unpause(&mut self, connection: ConnectionId) {
        self.order.unpause(connection);
    }

    fn want_to_reply(&mut self, request: RequestId) -> bool {
        self.order.want_to_reply(request)
    }

    fn poll(&mut self) -> Option<Action> {
        self.order.poll()
    }

    fn running(&self) -> usize {
        self.order.running()
    }

    fn waiting(&self) -> usize {
        self.order.waiting()
    }

    fn is_idle(&self) -> bool {
        self.order.is_idle()
    }
}

/// First messages that look like the beginning of a connection, and are none.
fn false_starts() -> Vec<Multipart> {
    let junk = Bytes::from_static(b"junk");
    let frames = [vec![UPPER], vec![UPPER, junk.clone(), junk]];
    frames.into_iter().map(|frames| Multipart::from_frames(frames).expect("they are few")).collect()
}

/// A peer of a message link whose first message begins no connection leaves nothing behind, however often it tries.
pub async fn first_messages_that_begin_nothing(rig: Rig) {
    const ROUNDS: usize = 100;
    let watch = Watch::default();
    let (hub, sender, receiver) = memory(4);
    let (binder, driver) = rig.builder().scheduler(watch.scheduler()).bind_link(sender, receiver);
    let driver = rig.drive(driver);
    let mut events = binder.events();
    let (peer, replies) = hub.connect("peer");
    let hub_end = Bytes::new();
    for _ in 0..ROUNDS {
        for message in false_starts() {
            peer.send(&hub_end, message).await.expect("the hub is there");
        }
    }
    let hello = Hello { dialects: 1, nonce: [7; NONCE_LEN], max_body: 1 << 20, credit: None };
    let hello = Multipart::new(PING, hello.encode(), Bytes::new());
    peer.send(&hub_end, hello).await.expect("the hub is there");
    let connected = next_event(&mut events, |event| match event {
        Event::Connected(peer) => Some(peer),
        _ => None,
    })
    .await;
    assert_eq!(binder.peers(), [connected]);
    assert_eq!(watch.forgotten(), ROUNDS * false_starts().len());
    drop((peer, replies));
    binder.shutdown(SOON).await;
    driver.join().await.expect("it was shut down");
    drop((binder, events));
    rig.until(|| watch.live() == 0).await;
}

/// A connector that is cut while it shuts down without a link ends, and leaves nothing behind.
pub async fn cut_while_draining_without_a_link(rig: Rig) {
    let watch = Watch::default();
    let (gone, driver) = rig.serve(rig.builder()).await;
    let endpoint = gone.endpoints()[0].clone();
    driver.cut().await;
    let (connector, driver) = rig.connect(rig.builder().scheduler(watch.scheduler()), &endpoint);
    let peer = connector.peer().clone();
    let call = {
        let peer = peer.clone();
        rig.spawn(async move { peer.invoke_raw("late", Bytes::new()).await })
    };
    rig.until(|| peer.stats().calls_in_flight == 1).await;
    let mut shutdown = Box::pin(connector.shutdown(SOON));
    assert_eq!(poll_once(&mut shutdown).await, None, "a call waits for a link");
    peer.disconnect();
    shutdown.await;
    call.join().await.expect_err("it was cut");
    driver.join().await.expect("it was shut down");
    drop((connector, peer));
    rig.until(|| watch.live() == 0).await;
}
