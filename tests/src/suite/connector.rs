//! What a connector does about a link that ends, or never was.

use std::time::Duration;

use callosum_runtime::{
    Binder, Builder, CallError, CloseCause, Context, DisconnectCause, DriverError, Endpoint, Event,
    HandlerResult, NotSent, Reconnect, SocketOptions, WhileDisconnected,
};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::rig::{Rig, Running, SOON, next_event};

const FAST: Reconnect =
    Reconnect::Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) };

async fn serve_at(rig: &Rig, endpoint: &Endpoint, gate: &Gate) -> (Binder, Running) {
    let builder = rig.builder().handle("echo", |n: Value, _| async move { HandlerResult::Ok(n) });
    let (binder, driver) = builder.bind(endpoint).await.expect("the endpoint is free again");
    gate.guard(binder.handlers(), "hold");
    (binder, rig.drive(driver))
}

fn eager(rig: &Rig) -> Builder {
    rig.builder().reconnect(FAST)
}

/// A connector finds its binder again after a restart; calls that were pending end with `Disconnected`, once, and
/// calls made meanwhile wait.
pub async fn binder_restarts(rig: Rig) {
    let gate = Gate::default();
    let (binder, mut driver) = serve_at(&rig, &rig.endpoint().parse().expect("an endpoint"), &gate).await;
    let endpoint = binder.endpoints().remove(0);
    let (connector, connector_driver) = rig.connect(eager(&rig), &endpoint);
    let mut events = connector.events();
    connector.peer().ready().await.expect("the binder is there");
    for round in 0..3 {
        let pending: Vec<_> = (0..10)
            .map(|n| {
                let peer = connector.peer().clone();
                rig.spawn(async move { peer.invoke::<_, Value>("hold", &n).await })
            })
            .collect();
        for _ in 0..10 {
            drop(gate.next().await);
        }
        driver.cut().await;
        next_event(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
        for call in pending {
            let error = call.join().await.expect_err("the binder is gone");
            assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
            assert!(error.may_have_run());
        }
        let stats = connector.peer().stats();
        assert_eq!((stats.calls_in_flight, stats.calls_failed), (0, 10 * (round + 1)));
        rig.until(|| gate.live() == 0).await;
        let cause = next_event(&mut events, |event| match event {
            Event::Reconnecting { cause, .. } => Some(cause),
            _ => None,
        });
        cause.await;
        assert!(!connector.peer().is_connected());

        let peer = connector.peer().clone();
        let meanwhile = rig.spawn(async move { peer.invoke::<_, Value>("echo", &round).await });
        rig.until(|| connector.peer().stats().calls_in_flight == 1).await;
        (_, driver) = serve_at(&rig, &endpoint, &gate).await;
        assert_eq!(meanwhile.join().await.expect("it waited for the link"), round);
        next_event(&mut events, |event| matches!(event, Event::Connected(_)).then_some(())).await;
        assert!(connector.peer().is_connected());
    }
    connector.shutdown(SOON).await;
    connector_driver.join().await.expect("it ends well");
    driver.cut().await;
}

/// Calls made while there is no link wait for it no longer than their timeout; they have not run.
pub async fn waiting_ends_with_the_timeout(rig: Rig) {
    let endpoint = unused(&rig).await;
    let (connector, driver) = rig.connect(eager(&rig), &endpoint);
    let argument = json!(1);
    let call = connector.peer().invoke::<_, Value>("echo", &argument).timeout(Duration::from_millis(30));
    let error = call.await.expect_err("there is nobody");
    assert!(matches!(error, CallError::TimedOut { sent: false }), "{error:?}");
    assert!(!error.may_have_run());
    driver.cut().await;
}

/// An address without a listener.
async fn unused(rig: &Rig) -> Endpoint {
    let (binder, driver) = rig.serve(rig.builder()).await;
    let endpoint = binder.endpoints().remove(0);
    binder.shutdown(SOON).await;
    driver.join().await.expect("it ends well");
    endpoint
}

/// If so configured, calls made while there is no link fail at once.
pub async fn failing_while_disconnected(rig: Rig) {
    let endpoint = unused(&rig).await;
    let (connector, driver) = rig.connect(eager(&rig).while_disconnected(WhileDisconnected::Fail), &endpoint);
    let error = connector.peer().invoke::<_, Value>("echo", &1).await.expect_err("there is nobody");
    assert!(matches!(error, CallError::NotSent(NotSent::NotConnected)), "{error:?}");
    assert!(!error.may_have_run());
    let (_, binder_driver) = serve_at(&rig, &endpoint, &Gate::default()).await;
    connector.peer().ready().await.expect("now there is somebody");
    let one: Value = connector.peer().invoke("echo", &1).await.expect("the binder answers");
    assert_eq!(one, 1);
    driver.cut().await;
    binder_driver.cut().await;
}

/// Without reconnecting, the driver ends with the cause, and so does everything that waits.
pub async fn never_reconnecting(rig: Rig) {
    let endpoint = unused(&rig).await;
    let (connector, driver) = rig.connect(rig.builder().reconnect(Reconnect::Never), &endpoint);
    let peer = connector.peer().clone();
    let waiting = rig.spawn(async move { peer.invoke::<_, Value>("echo", &1).await });
    let DriverError::Disconnected(cause) = driver.join().await.expect_err("there is nobody") else {
        panic!("another error");
    };
    assert!(matches!(cause, DisconnectCause::Io(_)), "{cause:?}");
    let error = waiting.join().await.expect_err("there is nobody");
    assert!(matches!(error, CallError::NotSent(NotSent::Disconnected(_))), "{error:?}");
    let cause = connector.peer().ready().await.expect_err("it never will be");
    assert!(matches!(cause, DisconnectCause::Io(_)), "the first cause stays: {cause:?}");

    let gate = Gate::default();
    let (binder, binder_driver) = serve_at(&rig, &endpoint, &gate).await;
    let builder = rig.builder().reconnect(Reconnect::Never);
    let (connector, driver) = rig.connect(builder, &endpoint);
    let own = Gate::default();
    own.guard(connector.handlers(), "hold");
    let back = rig.sole_peer(&binder).await;
    let peer = connector.peer().clone();
    let ours = rig.spawn(async move { peer.invoke::<_, Value>("hold", &1).await });
    let theirs = rig.spawn(async move { back.invoke::<_, Value>("hold", &2).await });
    let _both = (gate.next().await, own.next().await);
    binder_driver.cut().await;
    for call in [ours, theirs] {
        let error = call.join().await.expect_err("the link is gone");
        assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
    }
    let DriverError::Disconnected(cause) = driver.join().await.expect_err("the binder is gone") else {
        panic!("another error");
    };
    assert!(!matches!(cause, DisconnectCause::Shutdown), "{cause:?}");
    assert_eq!(own.live(), 0, "a driver that has ended has left no handler");
    let stats = connector.peer().stats();
    assert_eq!((stats.requests_running, stats.requests_failed), (0, 1));
    let error = connector.peer().invoke::<_, Value>("hold", &1).await.expect_err("it is over");
    assert!(matches!(error, CallError::NotSent(_)), "{error:?}");
}

/// Both sides can cut a link; calls end on both, and the connector comes back as a new peer.
pub async fn cut_by_hand(rig: Rig) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder(), eager(&rig)).await;
    gate.guard(pair.binder.handlers(), "hold");
    gate.guard(pair.connector.handlers(), "hold");
    let mut of_binder = pair.binder.events();
    let mut of_connector = pair.connector.events();
    let mut back = pair.back.clone();
    for side in 0..4 {
        let (ours, theirs) = (pair.peer().clone(), back.clone());
        let ours = rig.spawn(async move { ours.invoke::<_, Value>("hold", &1).await });
        let theirs = rig.spawn(async move { theirs.invoke::<_, Value>("hold", &2).await });
        let _both = (gate.next().await, gate.next().await);
        if side % 2 == 0 {
            pair.peer().disconnect()
        } else {
            back.disconnect()
        }
        for (of, call) in [ours, theirs].into_iter().enumerate() {
            let error = call.join().await.expect_err("the link is cut");
            let CallError::Disconnected(cause) = error else { panic!("{error:?}") };
            let is_ours = matches!(cause, DisconnectCause::Connection(CloseCause::Local));
            assert_eq!(is_ours, of == side % 2, "{cause:?}");
        }
        rig.until(|| gate.live() == 0).await;
        next_event(&mut of_connector, |event| matches!(event, Event::Disconnected { .. }).then_some(()))
            .await;
        // The new link may be there before the end of the old one is reported: to a binder they are two peers.
        let (mut gone, mut new) = (None, None);
        next_event(&mut of_binder, |event| {
            match event {
                Event::Connected(peer) => new = Some(peer),
                Event::Disconnected { peer, .. } => gone = Some(peer),
                _ => {}
            }
            (gone.is_some() && new.is_some()).then_some(())
        })
        .await;
        assert_eq!(gone, Some(back.id()));
        let error = back.invoke::<_, Value>("hold", &1).await.expect_err("that peer is gone for good");
        assert!(matches!(error, CallError::NotSent(NotSent::Disconnected(_))), "{error:?}");
        back.ready().await.expect_err("that peer is gone for good");
        let new = new.expect("both have been seen");
        assert_ne!(new.id(), back.id());
        back = new;
    }
    pair.end().await;
}

/// Events come in order, to every subscriber, and the stream ends with the driver.
pub async fn events(rig: Rig) {
    let (binder, driver) = rig.builder().bind(rig.endpoint()).await.expect("it is free");
    let (mut one, mut two) = (binder.events(), binder.events());
    let driver = rig.drive(driver);
    let (connector, connector_driver) =
        rig.builder().connect(&binder.endpoints()[0]).expect("it is an endpoint");
    let mut ours = connector.events();
    let connector_driver = rig.drive(connector_driver);
    let Some(Event::Connected(peer)) = one.next().await else { panic!("not connected") };
    assert_eq!(Some(&peer), binder.peers().first());
    let Some(Event::Connected(same)) = ours.next().await else { panic!("not connected") };
    assert_eq!(&same, connector.peer());
    connector.shutdown(SOON).await;
    connector_driver.join().await.expect("it ends well");
    assert!(matches!(ours.next().await, Some(Event::Disconnected { cause: DisconnectCause::Shutdown, .. })));
    assert!(ours.next().await.is_none());
    assert!(matches!(one.next().await, Some(Event::Draining { peer: going }) if going == peer.id()));
    let Some(Event::Disconnected { peer: gone, cause }) = one.next().await else {
        panic!("not disconnected")
    };
    assert_eq!(gone, peer.id());
    assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause:?}");
    binder.shutdown(SOON).await;
    driver.join().await.expect("it ends well");
    assert!(one.next().await.is_none());
    assert!(matches!(two.next().await, Some(Event::Connected(_))));
    assert!(matches!(two.next().await, Some(Event::Draining { .. })));
    assert!(matches!(two.next().await, Some(Event::Disconnected { .. })));
    assert!(two.next().await.is_none());
    assert!(binder.events().next().await.is_none(), "nothing happens any more");
}

/// A connector may start before its binder.
pub async fn connector_first(rig: Rig) {
    let endpoint = unused(&rig).await;
    let (connector, driver) = rig.connect(eager(&rig), &endpoint);
    let mut events = connector.events();
    next_event(&mut events, |event| matches!(event, Event::Reconnecting { .. }).then_some(())).await;
    let (_, binder_driver) = serve_at(&rig, &endpoint, &Gate::default()).await;
    let one: Value = connector.peer().invoke("echo", &1).await.expect("the binder comes");
    assert_eq!(one, 1);
    driver.cut().await;
    binder_driver.cut().await;
}

/// A peer that does not speak ZMTP is given up after the handshake's time, and a call that waits goes on waiting.
pub async fn silent_binder(rig: Rig) {
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port: 0 };
    let mut listener =
        rig.runtime().bind(&endpoint, SocketOptions::default()).await.expect("the system has ports");
    let endpoint = listener.endpoint().expect("it is bound");
    let limits = callosum_runtime::Limits::default().handshake_timeout(Duration::from_millis(30));
    let (connector, driver) = rig.connect(eager(&rig).limits(limits), &endpoint);
    let mut events = connector.events();
    let peer = connector.peer().clone();
    let waiting = rig.spawn(async move { peer.invoke::<_, Value>("echo", &5).await });
    let silent = listener.accept().await.expect("the connector comes");
    let cause = next_event(&mut events, |event| match event {
        Event::Reconnecting { cause, .. } => Some(cause),
        _ => None,
    });
    let cause = cause.await;
    assert!(matches!(cause, DisconnectCause::Protocol(_) | DisconnectCause::Connection(_)), "{cause:?}");
    drop((silent, listener));
    let (_, binder_driver) = serve_at(&rig, &endpoint, &Gate::default()).await;
    assert_eq!(waiting.join().await.expect("it never left, so it waits"), 5);
    driver.cut().await;
    binder_driver.cut().await;
}

/// Unread events can be dropped, also if a peer among them is the last that keeps its endpoint.
pub async fn events_left_unread(rig: Rig) {
    for cut in [true, false] {
        let pair = rig.pair(rig.builder(), eager(&rig)).await;
        let unread = [pair.binder.events(), pair.connector.events()];
        pair.peer().disconnect();
        let mut events = pair.binder.events();
        next_event(&mut events, |event| matches!(event, Event::Connected(_)).then_some(())).await;
        drop(events);
        pair.peer().ready().await.expect("it comes back");
        match cut {
            true => {
                pair.binder_driver.cut().await;
                pair.connector_driver.cut().await;
                drop((pair.binder, pair.connector, pair.back));
            }
            false => pair.end().await,
        }
        drop(unread);
    }
}

/// Right after a cut, a connector's peer can still be waited for: it comes back, on another link, which to the binder is another peer.
pub async fn ready_after_a_cut(rig: Rig) {
    let who = |(): (), context: Context| async move { HandlerResult::Ok(context.peer().id().number()) };
    let pair = rig.pair(rig.builder().handle("who", who), eager(&rig)).await;
    let mut before = None;
    for _ in 0..20 {
        let link: u64 = pair.peer().invoke("who", &()).await.expect("there is a link");
        assert_ne!(before.replace(link), Some(link), "the same link");
        pair.peer().disconnect();
        pair.peer().ready().await.expect("it comes back");
    }
    pair.end().await;
}
