//! Peers whose address and identity the transport has established.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use callosum_runtime::auth::{Admission, FnAuthenticator, Identity, generate_keys};
use callosum_runtime::link::{LinkFailure, MessageReceiver, MessageSender, Received};
use callosum_runtime::proto::Multipart;
use callosum_runtime::{
    Binder, CallError, Connector, Context, DisconnectCause, DriverError, Event, HandlerResult, Limits, Peer,
    duplex,
};
use futures_util::future::BoxFuture;

use crate::rig::{Rig, Running, SOON, next_event};

/// One half of a message link between two peers, such as a WebSocket.
struct Outgoing(async_channel::Sender<Multipart>);

/// The other half.
struct Incoming(async_channel::Receiver<Multipart>);

impl MessageSender for Outgoing {
    fn send<'a>(&'a self, _: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        Box::pin(async move {
            let sent = self.0.send(message).await;
            sent.map_err(|_| Arc::new(io::Error::from(io::ErrorKind::BrokenPipe)) as LinkFailure)
        })
    }
}

impl MessageReceiver for Incoming {
    fn receive(&mut self) -> BoxFuture<'_, Result<Received, LinkFailure>> {
        Box::pin(async move {
            Ok(match self.0.recv().await {
                Ok(message) => Received::Message { from: Bytes::new(), message },
                Err(_) => Received::Gone { peer: Bytes::new() },
            })
        })
    }
}

/// Both ends of a message link.
fn link() -> [(Outgoing, Incoming); 2] {
    let (there, from_here) = async_channel::bounded(16);
    let (back, from_there) = async_channel::bounded(16);
    [(Outgoing(there), Incoming(from_there)), (Outgoing(back), Incoming(from_here))]
}

/// Who calls, and from where, as a handler sees it.
async fn whoami(_: (), context: Context) -> HandlerResult<(Option<String>, String)> {
    let user = context.identity().map(|identity| identity.user_id.clone());
    HandlerResult::Ok((user, context.peer().info().address))
}

async fn asked(peer: &Peer) -> (Option<String>, String) {
    peer.invoke("whoami", &()).await.expect("it is answered")
}

async fn end(binder: Binder, driver: Running) {
    binder.shutdown(SOON).await;
    driver.join().await.expect("it was shut down");
    let (ours, _theirs) = duplex(64);
    assert!(matches!(binder.accept_as(ours, "late", "nobody"), Err(DisconnectCause::Shutdown)));
}

/// A byte stream can be accepted with an identity, also at a binder whose other clients need CURVE.
pub async fn stream_with_identity(rig: Rig) {
    let refusing = FnAuthenticator::new(generate_keys(), |_| async { Admission::Refuse });
    for builder in [rig.builder(), rig.builder().authenticator(refusing)] {
        let (binder, driver) = builder.handle("whoami", whoami).binder();
        let driver = rig.drive(driver);
        let mut connectors = Vec::new();
        for name in ["alice", "bob"] {
            let (ours, theirs) = duplex(4_096);
            let identity = Identity { metadata: [("team".into(), "red".into())].into(), ..name.into() };
            binder.accept_as(theirs, format!("tls://{name}"), identity).expect("there is room");
            let (connector, running) = rig.builder().connect_stream(ours);
            let running = rig.drive(running);
            assert_eq!(asked(connector.peer()).await, (Some(name.into()), format!("tls://{name}")));
            connectors.push((connector, running));
        }
        for peer in rig.peers(&binder, 2).await {
            let identity = peer.info().identity.expect("it was accepted as somebody");
            assert_eq!(identity.metadata["team"], "red");
            assert_eq!(peer.info().public_key, None);
        }
        for (connector, running) in connectors {
            connector.shutdown(SOON).await;
            running.join().await.expect("it was shut down");
        }
        end(binder, driver).await;
    }
}

/// The same over message links, each with one peer; and either side may close one.
pub async fn link_with_identity(rig: Rig) {
    let (binder, driver) = rig.builder().handle("whoami", whoami).binder();
    let driver = rig.drive(driver);
    let mut events = binder.events();
    let join = |name: &str| -> (Connector, Running) {
        let [(sender, receiver), (theirs, from_them)] = link();
        binder.accept_link(theirs, from_them, format!("ws://{name}"), name).expect("there is room");
        let (connector, running) = rig.builder().connect_link(sender, receiver);
        (connector, rig.drive(running))
    };
    let (alice, of_alice) = join("alice");
    let (bob, of_bob) = join("bob");
    assert_eq!(asked(alice.peer()).await, (Some("alice".into()), "ws://alice".into()));
    assert_eq!(asked(bob.peer()).await, (Some("bob".into()), "ws://bob".into()));
    let peers = rig.peers(&binder, 2).await;
    let back = peers.into_iter().find(|peer| peer.info().address == "ws://alice").expect("she is there");
    back.disconnect();
    let gone = |event| match event {
        Event::Disconnected { peer, .. } => Some(peer),
        _ => None,
    };
    assert_eq!(next_event(&mut events, gone).await, back.id());
    // The halves of the link were dropped, so the other side learns of it.
    let error = of_alice.join().await.expect_err("its link has ended");
    assert!(matches!(error, DriverError::Disconnected(_)), "{error:?}");
    let error = back.invoke::<_, ()>("whoami", &()).await.expect_err("that peer is gone for good");
    assert!(matches!(error, CallError::NotSent(_)), "{error:?}");
    assert_eq!(asked(bob.peer()).await.0.as_deref(), Some("bob"), "another link is not concerned");
    bob.shutdown(SOON).await;
    of_bob.join().await.expect("it was shut down");
    rig.peers(&binder, 0).await;
    binder.shutdown(SOON).await;
    driver.join().await.expect("it was shut down");
}

/// Links that say nothing have the places of handshakes, and are evicted for others.
pub async fn silent_links_are_evicted(rig: Rig) {
    let limits = Limits::default().max_handshakes(2);
    let (binder, driver) = rig.builder().limits(limits).handle("whoami", whoami).binder();
    let driver = rig.drive(driver);
    let mut events = binder.events();
    let mut silent = Vec::new();
    for _ in 0..5 {
        let [ours, (theirs, from_them)] = link();
        binder.accept_link(theirs, from_them, "nowhere", "nobody").expect("another is evicted for it");
        silent.push(ours);
        if silent.len() > 2 {
            let evicted = |event| match event {
                Event::Refused { cause, .. } => Some(cause),
                _ => None,
            };
            let cause = next_event(&mut events, evicted).await;
            assert!(matches!(cause, DisconnectCause::TooManyHandshakes), "{cause:?}");
        }
    }
    let [(sender, receiver), (theirs, from_them)] = link();
    binder.accept_link(theirs, from_them, "somewhere", "alice").expect("another is evicted for it");
    let (connector, running) = rig.builder().connect_link(sender, receiver);
    let running = rig.drive(running);
    assert_eq!(asked(connector.peer()).await.0.as_deref(), Some("alice"));
    connector.shutdown(SOON).await;
    running.join().await.expect("it was shut down");
    drop(silent);
    binder.shutdown(SOON).await;
    driver.join().await.expect("it was shut down");
}
