//! Bodies whose destructors use the API, dropped wherever they can be: never under a lock, or the destructor would wait for itself.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::link::{LinkFailure, MessageReceiver, Received, memory};
use callosum_runtime::proto::Multipart;
use callosum_runtime::{
    BodyReader, Builder, CallError, Context, HandlerResult, InvokeError, Limits, Metadata, NotSent, Peer,
    Responder, Response,
};
use callosum_testkit::world::{Host, Link, Time, World};
use futures_util::future::{BoxFuture, FutureExt};

const MS: Duration = Duration::from_millis(1);

/// Bytes of a body that is not copied, of one that is a stream, and of one that no peer takes.
const BODY: usize = 4 << 10;
const LONG: usize = 300 << 10;
const TOO_LONG: usize = 2 << 20;

/// Bodies that were made, and those that were dropped.
#[derive(Clone, Default)]
struct Bodies(Arc<(AtomicUsize, AtomicUsize)>);

impl Bodies {
    fn make(&self, peer: &Peer, len: usize) -> Bytes {
        self.own(peer, vec![7; len])
    }

    fn own(&self, peer: &Peer, bytes: Vec<u8>) -> Bytes {
        self.0.0.fetch_add(1, Relaxed);
        Bytes::from_owner(Owner { bytes, peer: peer.clone(), bodies: self.clone() })
    }

    fn metadata(&self, peer: &Peer) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert("by an owner", self.make(peer, 100)).expect("it is within the limits");
        metadata
    }

    /// How many were made, and how many dropped.
    fn count(&self) -> (usize, usize) {
        (self.0.0.load(Relaxed), self.0.1.load(Relaxed))
    }

    fn check(&self) {
        let (made, dropped) = self.count();
        assert_eq!(made, dropped, "bodies made and dropped");
    }
}

struct Owner {
    bytes: Vec<u8>,
    peer: Peer,
    bodies: Bodies,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // This takes the lock of the dispatcher, and that of the peer.
        self.peer.stats();
        // This makes a call, and gives it up.
        drop(self.peer.invoke_raw("answer", Bytes::new()).into_future());
        self.bodies.0.1.fetch_add(1, Relaxed);
    }
}

/// Handlers that answer with such bodies, at once, late or as a stream.
fn with_handlers(builder: Builder, time: &Time, bodies: &Bodies) -> Builder {
    let (at_once, late, stream) = (bodies.clone(), bodies.clone(), bodies.clone());
    let (time, stream_time) = (time.clone(), time.clone());
    builder
        .limits(Limits::default().max_body(1 << 20))
        .handle_raw("answer", move |argument: Bytes, context: Context| {
            let bodies = at_once.clone();
            async move {
                // Python's dialect has none.
                let _ = context.set_reply_metadata(bodies.metadata(context.peer()));
                HandlerResult::Ok(bodies.make(context.peer(), argument.len().max(1)))
            }
        })
        .handle_raw("late", move |argument: Bytes, context: Context| {
            let (bodies, time) = (late.clone(), time.clone());
            async move {
                time.sleep(MS * time.random_below(40) as u32).await;
                HandlerResult::Ok(bodies.make(context.peer(), argument.len().max(1)))
            }
        })
        .handle_raw("never", |_, _| std::future::pending::<HandlerResult<Bytes>>())
        .handle_stream("stream", move |mut body: BodyReader, responder: Responder, context: Context| {
            let (bodies, time) = (stream.clone(), stream_time.clone());
            async move {
                let metadata = bodies.metadata(context.peer());
                let mut result = responder.metadata(metadata).begin().await?;
                while let Some(bytes) = futures_util::StreamExt::next(&mut body).await {
                    time.sleep(MS * time.random_below(10) as u32).await;
                    result.write_bytes(bodies.make(context.peer(), bytes?.len().max(1))).await?;
                }
                HandlerResult::Ok(())
            }
        })
}

async fn connect(
    world: &World,
    server: &Host,
    client: &Host,
    bodies: &Bodies,
) -> (Peer, impl FnOnce() + use<>) {
    let builder = with_handlers(server.builder(), &world.time(), bodies);
    let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
    server.spawn(async { drop(driver.await) });
    let builder = with_handlers(client.builder(), &world.time(), bodies);
    let (connector, driver) = builder.connect("tcp://server:1").expect("it is an endpoint");
    client.spawn(async { drop(driver.await) });
    let (server, client, peer) = (server.clone(), client.clone(), connector.peer().clone());
    let shut_down = move || {
        server.spawn(async move { _ = binder.shutdown(5 * MS).await });
        client.spawn(async move { _ = connector.shutdown(10 * MS).await });
    };
    (peer, shut_down)
}

/// A call of a random kind, with such a body.
fn call(world: &World, peer: &Peer, bodies: &Bodies) -> Response<Bytes> {
    let method = ["answer", "late"][world.random_below(2) as usize];
    let len = [1, BODY, LONG, TOO_LONG][world.random_below(4) as usize];
    let mut call = peer.invoke_raw(method, bodies.make(peer, len));
    if world.random_below(2) == 0 {
        call = call.key(["a", "b"][world.random_below(2) as usize]);
    }
    if world.random_below(4) == 0 {
        call = call.metadata(bodies.metadata(peer));
    }
    if world.random_below(4) == 0 {
        call = call.timeout(MS * world.random_below(30) as u32);
    }
    call.into_future()
}

/// A stream both ways, which ends somehow.
fn stream(world: &World, host: &Host, peer: &Peer, bodies: &Bodies) {
    let (peer, bodies, time) = (peer.clone(), bodies.clone(), world.time());
    let parts = world.random_below(20);
    let reads = world.random_below(20);
    host.spawn(async move {
        let Ok((mut writer, answer)) = peer.open("stream").stream() else { return };
        let writing = async {
            for _ in 0..parts {
                if writer.write_bytes(bodies.make(&peer, LONG)).await.is_err() {
                    return;
                }
            }
            if time.random_below(2) == 0 {
                // The call may be over.
                let _ = writer.finish();
            }
        };
        let reading = async {
            let Ok(mut result) = answer.await else { return };
            for _ in 0..reads {
                if futures_util::StreamExt::next(&mut result.body).await.is_none() {
                    return;
                }
            }
        };
        futures_util::future::select(std::pin::pin!(writing), std::pin::pin!(reading)).await;
    });
}

fn run(seed: u64) {
    let world = World::new(seed);
    let (server, client) = (world.host("server"), world.host("client"));
    world.set_default_link(Link::default().jitter(5 * MS));
    let bodies = Bodies::default();
    world.run(async {
        let (peer, shut_down) = connect(&world, &server, &client, &bodies).await;
        let mut calls = Vec::new();
        for _ in 0..60 {
            match world.random_below(12) {
                0 => world.reset(&server, &client),
                1 => world.partition(&server, &client),
                2 | 3 => world.heal(&server, &client),
                4 => peer.disconnect(),
                5 => stream(&world, &client, &peer, &bodies),
                6 | 7 if !calls.is_empty() => {
                    // Given up.
                    drop(calls.swap_remove(world.random_below(calls.len() as u64) as usize));
                }
                _ => calls.push(call(&world, &peer, &bodies)),
            }
            world.sleep(MS * world.random_below(8) as u32).await;
        }
        world.heal(&server, &client);
        if world.random_below(2) == 0 {
            shut_down();
            world.sleep(100 * MS).await;
        }
    });
    world.end();
    bodies.check();
}

#[test]
fn a_destructor_may_use_the_api_wherever_its_body_is_dropped() {
    (0..25).for_each(run);
}

#[test]
fn a_destructor_may_use_the_api_where_a_call_is_refused() {
    let world = World::new(1);
    let (server, client) = (world.host("server"), world.host("client"));
    let bodies = Bodies::default();
    world.run(async {
        let (peer, shut_down) = connect(&world, &server, &client, &bodies).await;
        let refused = peer.invoke_raw("answer", bodies.make(&peer, TOO_LONG)).await;
        assert!(
            matches!(refused, Err(CallError::NotSent(NotSent::Refused(InvokeError::BodyTooLarge { .. })))),
            "{refused:?}"
        );
        peer.ready().await.expect("it connects");
        shut_down();
        world.sleep(MS).await;
        let refused = peer.invoke_raw("answer", bodies.make(&peer, BODY)).await;
        assert!(matches!(refused, Err(CallError::NotSent(_))), "{refused:?}");
    });
    world.end();
    bodies.check();
}

/// Replies that wait for their order, and those that wait to be written, when their link ends.
#[test]
fn a_destructor_may_use_the_api_where_replies_wait() {
    let world = World::new(2);
    let (server, client) = (world.host("server"), world.host("client"));
    let bodies = Bodies::default();
    world.set_default_link(Link::default().bandwidth(16 << 20));
    world.run(async {
        let (peer, _shut_down) = connect(&world, &server, &client, &bodies).await;
        for end in ["reset", "disconnect", "crash"] {
            peer.ready().await.expect("it connects");
            let first = peer.invoke_raw("never", Bytes::new()).key("k").into_future();
            let later: Vec<_> = (0..20)
                .map(|_| peer.invoke_raw("answer", vec![0; BODY]).key("k").into_future())
                .chain((0..20).map(|_| peer.invoke_raw("answer", vec![0; LONG]).into_future()))
                .collect();
            // Some have come, and their replies can't leave.
            world.sleep(150 * MS).await;
            world.partition(&server, &client);
            world.sleep(50 * MS).await;
            let (made, dropped) = bodies.count();
            assert!(made >= dropped + 20, "{made} bodies were made, and {dropped} dropped");
            match end {
                "reset" => world.reset(&server, &client),
                "disconnect" => peer.disconnect(),
                _ => server.crash(),
            }
            drop((first, later));
            world.heal(&server, &client);
            world.sleep(50 * MS).await;
        }
    });
    world.end();
    bodies.check();
}

/// A message link whose messages have such destructors, once there is a peer.
struct Owned<R> {
    receiver: R,
    peer: Arc<OnceLock<Peer>>,
    bodies: Bodies,
}

impl<R: MessageReceiver> MessageReceiver for Owned<R> {
    fn receive(&mut self) -> BoxFuture<'_, Result<Received, LinkFailure>> {
        async {
            let received = self.receiver.receive().await?;
            let (Received::Message { from, message }, Some(peer)) = (&received, self.peer.get()) else {
                return Ok(received);
            };
            let owned = |frame: Bytes| self.bodies.own(peer, frame.to_vec());
            let message = Multipart::from_frames(message.clone().into_frames().map(owned));
            Ok(Received::Message { from: from.clone(), message: message.unwrap_or_default() })
        }
        .boxed()
    }
}

#[test]
fn messages_of_a_link_may_have_destructors_that_use_the_api() {
    let world = World::new(3);
    let (server, client) = (world.host("server"), world.host("client"));
    let bodies = Bodies::default();
    let peers = [Arc::new(OnceLock::new()), Arc::new(OnceLock::new())];
    world.run(async {
        let (hub, sender, receiver) = memory(16);
        let receiver = Owned { receiver, peer: peers[0].clone(), bodies: bodies.clone() };
        let builder = with_handlers(server.builder(), &world.time(), &bodies);
        let (binder, driver) = builder.bind_link(sender, receiver);
        server.spawn(async { drop(driver.await) });
        let (sender, receiver) = hub.connect("client");
        let receiver = Owned { receiver, peer: peers[1].clone(), bodies: bodies.clone() };
        let builder = with_handlers(client.builder(), &world.time(), &bodies);
        let (connector, driver) = builder.connect_link(sender, receiver);
        client.spawn(async { drop(driver.await) });
        connector.peer().ready().await.expect("it connects");
        let back = binder.peers().pop().expect("it is connected");
        assert!(peers[0].set(back.clone()).is_ok() && peers[1].set(connector.peer().clone()).is_ok());
        let mut calls: Vec<_> = (0..60)
            .map(|n| call(&world, if n % 3 == 0 { &back } else { connector.peer() }, &bodies))
            .collect();
        (0..3).for_each(|_| stream(&world, &client, connector.peer(), &bodies));
        world.sleep(20 * MS).await;
        calls.truncate(20);
        world.sleep(20 * MS).await;
        back.disconnect();
        world.sleep(20 * MS).await;
    });
    world.end();
    // The links had been given what they hold when they ended.
    drop(peers);
    bodies.check();
}
