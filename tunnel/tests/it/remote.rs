//! Remote forwards, on virtual time.

use std::time::Duration;

use crate::support::*;
use callosum_runtime::SocketOptions;
use callosum_testkit::world::check;
use callosum_tunnel::{
    Authorizer, End, ForwardError, ListenAddress, Permission, Reason, Requester, Target, TunnelEvent,
    TunnelSettings,
};
use futures_util::future::BoxFuture;
use futures_util::{AsyncReadExt, AsyncWriteExt};

/// The other side listens on its port 8080, and this side connects to its own port 80.
async fn remote(rig: &Rig) -> callosum_tunnel::Forward {
    rig.tunnel.remote("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:80".parse().unwrap()).await.unwrap()
}

#[test]
fn who_connects_there_arrives_here() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.client, "127.0.0.1:80").await;
        let forward = remote(&rig).await;
        assert_eq!(&**forward.name(), "127.0.0.1:8080 → 127.0.0.1:80");
        let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
        let mut there = connect(&rig.server, forward.address()).await.unwrap();
        let mut here = listener.accept().await.unwrap().0;
        write(&mut there, "ping").await;
        there.close().await.unwrap();
        expect(&mut here, "ping").await;
        expect_end(&mut here).await;
        write(&mut here, "pong").await;
        here.close().await.unwrap();
        expect(&mut there, "pong").await;
        expect_end(&mut there).await;
        assert_eq!((end(&mut events).await, end(&mut serving).await), (End::Closed, End::Closed));
        assert_eq!((rig.tunnel.totals()[0].to_target, rig.serving.totals()[0].to_target), (4, 4));
    });
}

#[test]
fn nobody_there_is_a_reset_where_somebody_connected() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        let forward = remote(&rig).await;
        let mut serving = rig.serving.events();
        let mut there = connect(&rig.server, forward.address()).await.unwrap();
        expect_reset(&mut there).await;
        assert_eq!(refusal(&mut serving).await, Reason::Refused);
    });
}

#[test]
fn the_listener_is_taken_up_again_after_a_reconnect() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.client, "127.0.0.1:80").await;
        let forward = remote(&rig).await;
        for _ in 0..3 {
            let mut events = rig.tunnel.events();
            world.reset(&rig.server, &rig.client);
            event(&mut events, |event| match event {
                TunnelEvent::ListenFailed { reason: Reason::NotConnected, .. } => Some(()),
                _ => None,
            })
            .await;
            let address = event(&mut events, |event| match event {
                TunnelEvent::Listening { address, .. } => Some(address),
                _ => None,
            })
            .await;
            assert_eq!(&address, forward.address());
            let mut there = connect(&rig.server, &address).await.unwrap();
            let mut here = listener.accept().await.unwrap().0;
            write(&mut there, "ping").await;
            expect(&mut here, "ping").await;
        }
    });
}

/// The wait for a link is no pause of those between attempts.
#[test]
fn the_pauses_begin_with_the_first_refusal() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let forward = remote(&rig).await;
        let mut events = rig.tunnel.events();
        world.reset(&rig.server, &rig.client);
        let mut next = async || {
            event(&mut events, |event| match event {
                TunnelEvent::ListenFailed { reason, after, .. } => Some((reason, after)),
                _ => None,
            })
            .await
        };
        assert_eq!(next().await, (Reason::NotConnected, Duration::ZERO));
        let (runtime, address) = (rig.server.runtime(), endpoint(forward.address()));
        let _taken = loop {
            match runtime.bind(&address, SocketOptions::default()).await {
                Ok(listener) => break listener,
                Err(_) => world.sleep(Duration::from_micros(100)).await,
            }
        };
        for seconds in [1, 2, 4] {
            assert_eq!(next().await, (Reason::AddressInUse, seconds * SECOND));
        }
    });
}

#[test]
fn a_closed_forward_listens_no_more_and_its_connections_go_on() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.client, "127.0.0.1:80").await;
        let forward = remote(&rig).await;
        let mut there = connect(&rig.server, forward.address()).await.unwrap();
        let mut here = listener.accept().await.unwrap().0;
        write(&mut there, "ping").await;
        expect(&mut here, "ping").await;
        forward.close();
        while connect(&rig.server, forward.address()).await.is_ok() {
            world.sleep(MS).await;
        }
        write(&mut here, "pong").await;
        expect(&mut there, "pong").await;
        assert!(rig.connector.handlers().names().is_empty(), "its method is gone");
        // The port is free again.
        remote(&rig).await;
    });
}

#[test]
fn why_the_other_side_does_not_listen_is_known_at_once() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let _taken = listen(&rig.server, "127.0.0.1:8080").await;
        let target: Target = "127.0.0.1:80".parse().unwrap();
        let failed = rig.tunnel.remote("127.0.0.1:8080".parse().unwrap(), target).await.unwrap_err();
        assert!(matches!(failed, ForwardError::Remote { reason: Reason::AddressInUse, .. }), "{failed}");
    });
}

/// Forbids all listening.
struct NoListeners;

impl Authorizer for NoListeners {
    fn connect<'a>(&'a self, _: &'a Requester, _: &'a Target) -> BoxFuture<'a, Option<Permission>> {
        Box::pin(std::future::ready(Some(Permission::new("anyone"))))
    }

    fn listen<'a>(&'a self, _: &'a Requester, _: &'a ListenAddress) -> BoxFuture<'a, Option<Permission>> {
        Box::pin(std::future::ready(None))
    }
}

#[test]
fn listening_can_be_forbidden() {
    check(0..3, |world| async move {
        let rig = Rig::with(&world, NoListeners, TunnelSettings::default()).await;
        let target: Target = "127.0.0.1:80".parse().unwrap();
        let failed = rig.tunnel.remote("127.0.0.1:8080".parse().unwrap(), target).await.unwrap_err();
        assert!(matches!(failed, ForwardError::Remote { reason: Reason::Forbidden, .. }), "{failed}");
    });
}

/// The method of a forward is there for the peer that listens, and for no other.
#[test]
fn others_can_not_use_a_forward() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        // This side is a binder for another client, which calls what only the server may.
        let (other, driver) = rig.server.builder().connect("tcp://server:7000").unwrap();
        rig.server.spawn(async { drop(driver.await) });
        let (tunnel, driver) =
            callosum_tunnel::Tunnel::new(other.peer(), rig.binder.handlers(), TunnelSettings::default());
        rig.server.spawn(driver);
        let _listener = listen(&rig.server, "127.0.0.1:80").await;
        tunnel.remote("127.0.0.1:8081".parse().unwrap(), "127.0.0.1:80".parse().unwrap()).await.unwrap();
        let names = rig.binder.handlers().names();
        let method = names.iter().find(|name| name.contains("incoming")).unwrap();
        let (_writer, answer) = rig.connector.peer().open(method).stream().unwrap();
        let error = answer.await.unwrap_err();
        assert_eq!(&*error.remote().unwrap().name, "TunnelForbidden");
    });
}

/// What a peer asks to be called back on is a method of tunnels, and no other.
#[test]
fn a_peer_can_not_have_just_any_method_called() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        for method in
            ["echo", "callosum.tunnel.incoming.", "callosum.tunnel.incoming.x", "callosum.tunnel.connect"]
        {
            let mut metadata = callosum_runtime::Metadata::new();
            metadata.insert("address", "127.0.0.1:0").unwrap();
            metadata.insert("method", method).unwrap();
            let answer = rig.connector.peer().open("callosum.tunnel.listen").metadata(metadata).send_raw("");
            let error = answer.unwrap().await.unwrap_err();
            assert_eq!(&*error.remote().unwrap().name, "TunnelMalformed", "{method}");
        }
    });
}

#[test]
fn a_reset_goes_both_ways() {
    check(0..10, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.client, "127.0.0.1:80").await;
        let forward = remote(&rig).await;
        for target_resets in [true, false] {
            let there = connect(&rig.server, forward.address()).await.unwrap();
            let here = listener.accept().await.unwrap().0;
            let (mut first, mut second) = if target_resets { (here, there) } else { (there, here) };
            write(&mut first, "before").await;
            expect(&mut second, "before").await;
            first.reset_on_drop();
            drop(first);
            assert!(second.read(&mut [0]).await.is_err());
        }
    });
}
