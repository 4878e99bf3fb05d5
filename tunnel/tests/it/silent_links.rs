//! Links that fall silent while their clients go on, as behind a middlebox that forgets connections; under CURVE, on virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::*;
use callosum_runtime::auth::{CurveClient, CurveKeyPair, KeySet, generate_keys};
use callosum_runtime::rt::{BoxSocket, Runtime};
use callosum_runtime::{Binder, Builder, Connector};
use callosum_testkit::world::{Host, Link, World, check};
use callosum_tunnel::{
    Authorizer, Forward, ForwardError, Reason, ServerSettings, Tunnel, TunnelEvent, TunnelEvents,
    TunnelServer, TunnelSettings,
};
use futures_util::future::{join, pending, select};
use futures_util::io::copy;
use futures_util::{AsyncReadExt, AsyncWriteExt};

/// A server behind a middlebox, and the keys that it admits.
struct Net {
    world: Arc<World>,
    server: Host,
    middlebox: Host,
    target: Host,
    /// The middlebox drops what the server sends.
    deaf: Arc<AtomicBool>,
    admitted: KeySet,
    keys: CurveKeyPair,
    serving: TunnelServer,
    _binder: Binder,
}

/// A client's program, until it is dropped.
struct Program {
    host: Host,
    tunnel: Tunnel,
    connector: Connector,
}

impl Net {
    async fn new(world: &Arc<World>, authorizer: impl Authorizer, settings: ServerSettings) -> Self {
        let secure = |builder: Builder, admitted: &KeySet| builder.authenticator(admitted.clone());
        Self::with(world, authorizer, settings, secure).await
    }

    /// One whose server is made like this.
    async fn with(
        world: &Arc<World>,
        authorizer: impl Authorizer,
        settings: ServerSettings,
        secure: impl FnOnce(Builder, &KeySet) -> Builder,
    ) -> Self {
        let (server, middlebox, target) = (world.host("server"), world.host("middlebox"), world.host(TARGET));
        world.set_default_link(Link::default().latency(10 * MS));
        let keys = generate_keys();
        let admitted = KeySet::new(keys.clone());
        let builder = secure(server.builder(), &admitted);
        let (serving, following) = TunnelServer::new(builder.runtime(), authorizer, settings);
        let (binder, driver) = serving.add_to(builder).bind("tcp://server:7000").await.unwrap();
        server.spawn(following);
        server.spawn(async { drop(driver.await) });
        let mut listener = bind(&*middlebox.runtime(), "0.0.0.0:7000").await;
        let (runtime, deaf) = (middlebox.runtime(), Arc::<AtomicBool>::default());
        let is_deaf = deaf.clone();
        middlebox.spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                runtime.spawn(Box::pin(pass_on(runtime.clone(), here, is_deaf.clone())));
            }
        });
        let (world, _binder) = (world.clone(), binder);
        Self { world, server, middlebox, target, deaf, admitted, keys, serving, _binder }
    }

    /// New keys, which are admitted as this user's.
    fn admit(&self, user: &str) -> CurveKeyPair {
        let keys = generate_keys();
        self.admitted.admit(keys.public(), user);
        keys
    }

    /// A program on a host of its own.
    async fn start(&self, name: &str, keys: &CurveKeyPair) -> Program {
        self.start_on(self.world.host(name), keys).await
    }

    async fn start_on(&self, host: Host, keys: &CurveKeyPair) -> Program {
        let builder = host.builder().authenticator(CurveClient::new(keys.clone(), self.keys.public()));
        Self::connect(host, builder).await
    }

    async fn connect(host: Host, builder: Builder) -> Program {
        let (connector, driver) = builder.connect("tcp://middlebox:7000").unwrap();
        host.spawn(async { drop(driver.await) });
        let settings = TunnelSettings::default();
        let (tunnel, driver) = Tunnel::new(connector.peer(), connector.handlers(), settings);
        host.spawn(driver);
        connector.peer().ready().await.unwrap();
        Program { host, tunnel, connector }
    }

    /// Ends the program's connection, of which the server learns nothing.
    fn cut(&self, program: &Program) {
        self.world.reset(&program.host, &self.middlebox);
    }
}

/// Passes bytes on both ways, and never that one side has gone.
async fn pass_on(runtime: Arc<dyn Runtime>, here: BoxSocket, is_deaf: Arc<AtomicBool>) {
    let endpoint = "tcp://server:7000".parse().unwrap();
    let there = runtime.connect(&endpoint, Default::default()).await.unwrap();
    let ((from_here, mut to_here), (mut from_there, mut to_there)) = (here.split(), there.split());
    // That of a connection which is deaf once stays so: a part of its bytes is missing.
    let back = async {
        let mut buffer = vec![0; 10_000];
        while let Ok(size @ 1..) = from_there.read(&mut buffer).await {
            if is_deaf.load(Relaxed) {
                pending::<()>().await;
            }
            to_here.write_all(&buffer[..size]).await?;
        }
        std::io::Result::Ok(())
    };
    let _ = join(copy(from_here, &mut to_there), back).await;
    pending::<()>().await;
}

impl Program {
    async fn remote(&self) -> Result<Forward, ForwardError> {
        self.tunnel.remote("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:80".parse().unwrap()).await
    }

    /// A forward of each of these ports.
    async fn remote_of(&self, ports: std::ops::Range<u16>) {
        for port in ports {
            let address = format!("127.0.0.1:{port}").parse().unwrap();
            self.tunnel.remote(address, "127.0.0.1:80".parse().unwrap()).await.unwrap();
        }
    }
}

fn is_in_use(result: Result<Forward, ForwardError>) -> bool {
    matches!(result, Err(ForwardError::Remote { reason: Reason::AddressInUse, .. }))
}

/// Waits until a forward listens again.
async fn listening(events: &mut TunnelEvents) {
    event(events, |event| match event {
        TunnelEvent::Listening { .. } => Some(()),
        _ => None,
    })
    .await;
}

/// Waits until so many forwards listen again; panics if one is refused meanwhile.
async fn all_listen(client: &Program, events: &mut TunnelEvents, forwards: usize) {
    for _ in 0..forwards {
        event(events, |event| match event {
            TunnelEvent::Listening { .. } => Some(()),
            TunnelEvent::ListenFailed { reason, .. } if reason != Reason::NotConnected => panic!("{reason}"),
            _ => None,
        })
        .await;
    }
    assert!(client.connector.peer().is_connected());
}

#[test]
fn a_listener_is_handed_over_to_the_new_link() {
    check(0..3, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default()).await;
        let keys = net.admit("alice");
        let client = net.start("client", &keys).await;
        let mut listener = listen(&client.host, "127.0.0.1:80").await;
        let forward = client.remote().await.unwrap();
        for _ in 0..3 {
            let mut events = client.tunnel.events();
            let before = world.elapsed();
            net.cut(&client);
            listening(&mut events).await;
            let took = world.elapsed() - before;
            assert!(took < 10 * SECOND, "{took:?}");
            let mut there = connect(&net.server, forward.address()).await.unwrap();
            let mut here = listener.accept().await.unwrap().0;
            write(&mut there, "ping").await;
            expect(&mut here, "ping").await;
        }
    });
}

/// Nothing of it is known to the server but its keys.
#[test]
fn a_program_that_is_started_again_takes_its_listener_over() {
    check(0..3, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default()).await;
        let keys = net.admit("alice");
        let client = net.start("client", &keys).await;
        client.remote().await.unwrap();
        client.host.crash();
        let again = net.start_on(client.host.clone(), &keys).await;
        let before = world.elapsed();
        again.remote().await.unwrap();
        assert!(world.elapsed() - before < 6 * SECOND, "{:?}", world.elapsed() - before);
    });
}

/// Many listeners, more than there are probes of a link at a time.
#[test]
fn many_listeners_are_handed_over_at_once() {
    check(0..2, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default()).await;
        let keys = net.admit("alice");
        let client = net.start("client", &keys).await;
        client.remote_of(8000..8050).await;
        let mut events = client.tunnel.events();
        let before = world.elapsed();
        net.cut(&client);
        all_listen(&client, &mut events, 50).await;
        assert!(world.elapsed() - before < 10 * SECOND, "{:?}", world.elapsed() - before);
    });
}

#[test]
fn clients_of_one_user_do_not_take_a_listener_from_each_other() {
    check(0..3, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default()).await;
        let keys = net.admit("alice");
        let (first, second) = (net.start("first", &keys).await, net.start("second", &keys).await);
        let _forward = first.remote().await.unwrap();
        let mut events = first.tunnel.events();
        for _ in 0..20 {
            assert!(is_in_use(second.remote().await));
            world.sleep(10 * SECOND).await;
        }
        // The one that falls silent loses it to the other, and does not get it back by returning.
        world.partition(&first.host, &net.middlebox);
        net.cut(&first);
        second.remote().await.unwrap();
        world.heal(&first.host, &net.middlebox);
        let mut lost = async || {
            event(&mut events, |event| match event {
                TunnelEvent::ListenFailed { reason, .. } if reason != Reason::NotConnected => Some(reason),
                TunnelEvent::Listening { .. } => panic!("it got it back"),
                _ => None,
            })
            .await
        };
        for _ in 0..10 {
            assert_eq!(lost().await, Reason::AddressInUse);
        }
        assert!(second.connector.peer().is_connected());
    });
}

/// A link on which the probe is lost, or waits behind much else, and something comes all the same.
#[test]
fn what_sends_something_is_not_silent() {
    check(0..3, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default()).await;
        let keys = net.admit("alice");
        let (first, second) = (net.start("first", &keys).await, net.start("second", &keys).await);
        let forward = first.remote().await.unwrap();
        let mut listener = listen(&first.host, "127.0.0.1:80").await;
        let _there = connect(&net.server, forward.address()).await.unwrap();
        let mut here = listener.accept().await.unwrap().0;
        net.deaf.store(true, Relaxed);
        // The answer to the second does not come through the middlebox either.
        let asking = std::pin::pin!(second.remote());
        let sending = async {
            for _ in 0..20 {
                write(&mut here, "something").await;
                world.sleep(SECOND).await;
            }
        };
        select(asking, std::pin::pin!(sending)).await;
        assert_eq!(net.serving.connections().len(), 1, "the first link is there");
    });
}

/// Neither another user nor the same one with another key, who may be on another machine.
#[test]
fn nobody_else_takes_a_listener_over() {
    check(0..3, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default()).await;
        let [alice, same_user, bob] = ["alice", "alice", "bob"].map(|user| net.admit(user));
        let client = net.start("client", &alice).await;
        client.remote().await.unwrap();
        let others = [net.start("other", &same_user).await, net.start("bob", &bob).await];
        client.host.crash();
        for other in &others {
            let before = world.elapsed();
            assert!(is_in_use(other.remote().await));
            assert!(world.elapsed() - before < SECOND, "nobody is probed");
        }
    });
}

/// Whether they are the same is unknown.
#[test]
fn peers_without_an_identity_take_nothing_over() {
    check(0..3, |world| async move {
        let net = Net::with(&world, Anyone, ServerSettings::default(), |builder, _| builder).await;
        let start = async |name| {
            let host = world.host(name);
            let builder = host.builder();
            Net::connect(host, builder).await
        };
        let (first, second) = (start("first").await, start("second").await);
        first.remote().await.unwrap();
        first.host.crash();
        let before = world.elapsed();
        assert!(is_in_use(second.remote().await));
        assert!(world.elapsed() - before < SECOND, "nobody is probed");
        drop(net);
    });
}

#[test]
fn a_silent_link_does_not_use_up_its_users_connections() {
    check(0..3, |world| async move {
        let rules = "
            [[connect]]\nname = \"one\"\nusers = [\"alice\"]\nnetworks = [\"10.0.0.0/8\"]\nports = [80]\nmax_connections = 1
            [[connect]]\nname = \"any\"\nusers = [\"bob\"]\nnetworks = [\"10.0.0.0/8\"]\nports = [80]
            [[listen]]\nname = \"listen\"\nusers = [\"bob\"]\naddresses = [\"127.0.0.1\"]\nports = [0]
        ";
        let rules = callosum_tunnel::RuleSet::new(callosum_tunnel::Rules::parse(rules).unwrap());
        let settings = ServerSettings::default().max_connections_per_user(1).max_listeners_per_user(1);
        let net = Net::new(&world, rules, settings).await;
        let mut listener = listen(&net.target, "0.0.0.0:80").await;
        for user in ["alice", "bob"] {
            let keys = net.admit(user);
            let client = net.start(user, &keys).await;
            let target: callosum_tunnel::Target = format!("{TARGET}:80").parse().unwrap();
            let forward = client.tunnel.local(free(), target).await.unwrap();
            let held = connect(&client.host, forward.address()).await.unwrap();
            let _held = (held, listener.accept().await.unwrap());
            net.cut(&client);
            world.sleep(SECOND).await;
            client.connector.peer().ready().await.unwrap();
            let mut events = client.tunnel.events();
            expect_reset(&mut connect(&client.host, forward.address()).await.unwrap()).await;
            assert_eq!(refusal(&mut events).await, Reason::Busy);
            world.sleep(6 * SECOND).await;
            let mut here = connect(&client.host, forward.address()).await.unwrap();
            let mut there = listener.accept().await.unwrap().0;
            write(&mut here, "ping").await;
            expect(&mut there, "ping").await;
            let connections = net.serving.connections();
            let of_user = connections.iter().filter(|held| held.info.user.as_deref() == Some(user));
            assert_eq!(of_user.count(), 1);
        }
        // A listener counts, too.
        let keys = net.admit("bob");
        let client = net.start("listening", &keys).await;
        let remote = async || client.tunnel.remote(free(), "127.0.0.1:80".parse().unwrap()).await;
        remote().await.unwrap();
        net.cut(&client);
        let mut events = client.tunnel.events();
        let before = world.elapsed();
        listening(&mut events).await;
        assert!(world.elapsed() - before < 10 * SECOND, "{:?}", world.elapsed() - before);
        let refused = remote().await;
        assert!(matches!(refused, Err(ForwardError::Remote { reason: Reason::Busy, .. })), "one at a time");
    });
}

/// The address is another user's, and what falls silent for a while holds a connection only.
#[test]
fn a_link_that_does_not_hold_the_address_is_not_probed() {
    check(0..3, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default()).await;
        let [alice, bob] = ["alice", "bob"].map(|user| net.admit(user));
        let other = net.start("bob", &bob).await;
        other.remote().await.unwrap();
        let client = net.start("client", &alice).await;
        let elsewhere = "127.0.0.1:8081".parse().unwrap();
        client.tunnel.remote(elsewhere, "127.0.0.1:80".parse().unwrap()).await.unwrap();
        let again = net.start("again", &alice).await;
        world.partition(&client.host, &net.middlebox);
        let before = world.elapsed();
        assert!(is_in_use(again.remote().await));
        assert!(world.elapsed() - before < SECOND, "nobody is probed");
    });
}

#[test]
fn a_server_that_drains_probes_nobody() {
    check(0..3, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default()).await;
        let keys = net.admit("alice");
        let target: callosum_tunnel::Target = format!("{TARGET}:80").parse().unwrap();
        let mut listener = listen(&net.target, "0.0.0.0:80").await;
        let client = net.start("client", &keys).await;
        client.remote().await.unwrap();
        let forward = client.tunnel.local(free(), target).await.unwrap();
        let _here = connect(&client.host, forward.address()).await.unwrap();
        let _there = listener.accept().await.unwrap();
        client.host.crash();
        let again = net.start("again", &keys).await;
        let serving = net.serving.clone();
        let draining = async {
            world.sleep(SECOND).await;
            net.server.spawn(async move {
                serving.drain(600 * SECOND).await;
            });
        };
        let is_shut_down = |result: Result<Forward, ForwardError>| {
            matches!(result, Err(ForwardError::Remote { reason: Reason::ShuttingDown, .. }))
        };
        // The first waits for a probe when the drain begins.
        let (refused, ()) = join(again.remote(), draining).await;
        assert!(is_shut_down(refused));
        let _held = listen(&net.server, "127.0.0.1:8080").await;
        assert!(is_shut_down(again.remote().await));
        assert!(world.elapsed() < 4 * SECOND, "{:?}", world.elapsed());
        world.sleep(10 * SECOND).await;
        assert_eq!(net.serving.connections().len(), 1, "the silent link is not closed");
    });
}

/// Neither of the user nor of the server: what is taken over is counted once.
#[test]
fn as_many_listeners_as_there_may_be_are_handed_over_without_a_refusal() {
    check(0..2, |world| async move {
        let settings = ServerSettings::default().max_listeners(100);
        let net = Net::new(&world, Anyone, settings).await;
        let keys = net.admit("alice");
        let client = net.start("client", &keys).await;
        client.remote_of(8000..8100).await;
        let refused = client.remote().await;
        assert!(matches!(refused, Err(ForwardError::Remote { reason: Reason::Busy, .. })), "{refused:?}");
        let mut events = client.tunnel.events();
        let before = world.elapsed();
        net.cut(&client);
        all_listen(&client, &mut events, 100).await;
        assert!(world.elapsed() - before < 10 * SECOND, "{:?}", world.elapsed() - before);
    });
}

#[test]
fn a_silent_link_does_not_use_up_the_listeners_of_the_server() {
    check(0..3, |world| async move {
        let net = Net::new(&world, Anyone, ServerSettings::default().max_listeners(1)).await;
        let keys = net.admit("alice");
        let client = net.start("client", &keys).await;
        client.tunnel.remote(free(), "127.0.0.1:80".parse().unwrap()).await.unwrap();
        let mut events = client.tunnel.events();
        let before = world.elapsed();
        net.cut(&client);
        listening(&mut events).await;
        assert!(world.elapsed() - before < 10 * SECOND, "{:?}", world.elapsed() - before);
    });
}
