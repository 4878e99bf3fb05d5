//! Who may have what, and what becomes of it when that changes; on virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::*;
use callosum_runtime::auth::Identity;
use callosum_testkit::world::{World, check};
use callosum_tunnel::{
    Authorizer, End, ForwardError, Permission, Reason, Requester, RuleSet, Rules, ServerSettings, Target,
    Tunnel, TunnelEvent, TunnelSettings,
};
use futures_util::AsyncReadExt;
use futures_util::future::BoxFuture;

const RULES: &str = r#"
    [[connect]]
    name = "databases"
    users = ["alice"]
    hosts = ["*.internal"]
    networks = ["10.0.0.0/24"]
    ports = [80]
    max_connections = 2
    idle_timeout = "60s"

    [[connect]]
    name = "web"
    users = ["alice"]
    hosts = ["*.example"]
    ports = ["1-65535"]

    [[listen]]
    name = "callbacks"
    users = ["alice"]
    addresses = ["127.0.0.1"]
    ports = [8080]
"#;

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

async fn rig(world: &Arc<World>, user: &str, rules: &RuleSet) -> Rig {
    Rig::with(world, rules.clone().anonymous(user), TunnelSettings::default()).await
}

async fn refused(rig: &Rig, target: &str) -> Reason {
    rig.tunnel.pipe(target.parse().unwrap(), &[][..], Vec::new()).await.unwrap_err()
}

#[test]
fn what_no_rule_allows_is_forbidden() {
    check(0..2, |world| async move {
        let set = RuleSet::new(rules(RULES));
        let rig = rig(&world, "alice", &set).await;
        for target in ["db.internal:81", "db.elsewhere:80", "10.9.9.9:80", "unix:/run/db.sock"] {
            assert_eq!(refused(&rig, target).await, Reason::Forbidden, "{target}");
        }
        assert_eq!(refused(&rig, "db.internal:80").await, Reason::Refused, "nobody listens");
        let listening =
            rig.tunnel.remote("127.0.0.1:8081".parse().unwrap(), TARGET_80.parse().unwrap()).await;
        assert!(matches!(listening, Err(ForwardError::Remote { reason: Reason::Forbidden, .. })));
        rig.tunnel.remote("127.0.0.1:8080".parse().unwrap(), TARGET_80.parse().unwrap()).await.unwrap();
    });
}

const TARGET_80: &str = "10.0.0.5:80";

#[test]
fn another_user_and_nobody_may_nothing() {
    check(0..2, |world| async move {
        let set = RuleSet::new(rules(RULES));
        let rig = rig(&world, "mallory", &set).await;
        assert_eq!(refused(&rig, "db.internal:80").await, Reason::Forbidden);
    });
    check(0..2, |world| async move {
        let rig = Rig::with(&world, RuleSet::new(rules(RULES)), TunnelSettings::default()).await;
        assert_eq!(refused(&rig, "db.internal:80").await, Reason::Forbidden);
    });
}

/// The rule names a host, and no network: whatever it resolves to that is not public is out of reach. The server resolves
/// `evil.example` to its own loopback, where there is a listener.
#[test]
fn a_name_that_resolves_to_a_forbidden_address_is_refused() {
    check(0..2, |world| async move {
        let set = RuleSet::new(rules(RULES));
        let rig = rig(&world, "alice", &set).await;
        let mut listener = listen(&rig.server, "127.0.0.1:80").await;
        let mut serving = rig.serving.events();
        assert_eq!(refused(&rig, "evil.example:80").await, Reason::Forbidden);
        assert_eq!(refused(&rig, "both.example:80").await, Reason::Forbidden, "10.0.0.5 is private");
        assert_eq!(refusal(&mut serving).await, Reason::Forbidden);
        let accepted = futures_util::FutureExt::now_or_never(listener.accept());
        assert!(accepted.is_none(), "nobody has tried");
    });
}

#[test]
fn a_rule_limits_connections_at_a_time() {
    check(0..3, |world| async move {
        let set = RuleSet::new(rules(RULES));
        let rig = rig(&world, "alice", &set).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.local(free(), "db.internal:80".parse().unwrap()).await.unwrap();
        let mut open = Vec::new();
        for _ in 0..2 {
            let here = rig.open(&forward).await;
            open.push((here, listener.accept().await.unwrap().0));
        }
        let mut events = rig.tunnel.events();
        expect_reset(&mut rig.open(&forward).await).await;
        assert_eq!(refusal(&mut events).await, Reason::Busy);
        open.pop();
        assert!(matches!(end(&mut events).await, End::Closed | End::ResetHere | End::ResetThere));
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
    });
}

/// Of a name's addresses, one has reached the limit of its rule, and another is forbidden.
#[test]
fn a_limit_is_told_rather_than_a_forbidden_address_of_the_name() {
    check(0..3, |world| async move {
        let set = RuleSet::new(rules(
            r#"
                [[connect]]
                name = "local"
                users = ["alice"]
                hosts = ["both.example"]
                networks = ["127.0.0.0/8"]
                ports = [80]
                max_connections = 1
            "#,
        ));
        let rig = rig(&world, "alice", &set).await;
        let mut listener = listen(&rig.server, "127.0.0.1:80").await;
        let forward = rig.tunnel.local(free(), "both.example:80".parse().unwrap()).await.unwrap();
        let _here = rig.open(&forward).await;
        let _there = listener.accept().await.unwrap();
        assert_eq!(refused(&rig, "both.example:80").await, Reason::Busy);
    });
}

/// What may be connected to has all of the time, however many others the name has.
#[test]
fn forbidden_addresses_take_no_time_from_the_others() {
    check(0..2, |world| async move {
        let names = Names::default().with("ten.internal", &[&[TARGET][..], &["127.0.0.1"; 9]].concat());
        let settings = ServerSettings::default().resolver(names);
        let authorizer = RuleSet::new(rules(RULES)).anonymous("alice");
        let (rig, serving, tunnelling) =
            Rig::undriven(&world, authorizer, settings, TunnelSettings::default()).await;
        rig.server.spawn(serving);
        rig.client.spawn(tunnelling);
        world.partition(&rig.server, &rig.target);
        let before = world.elapsed();
        assert_eq!(refused(&rig, "ten.internal:80").await, Reason::TimedOut);
        let took = world.elapsed() - before;
        assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
    });
}

#[test]
fn an_idle_connection_is_closed_and_one_that_is_used_is_not() {
    check(0..3, |world| async move {
        let set = RuleSet::new(rules(RULES));
        let rig = rig(&world, "alice", &set).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.local(free(), "db.internal:80".parse().unwrap()).await.unwrap();
        let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        for _ in 0..5 {
            world.sleep(59 * SECOND).await;
            write(&mut here, "ping").await;
            expect(&mut there, "ping").await;
        }
        let before = world.elapsed();
        expect_reset(&mut here).await;
        expect_reset(&mut there).await;
        let idle = world.elapsed() - before;
        assert!(idle >= 59 * SECOND && idle < 61 * SECOND, "{idle:?}");
        assert_eq!((end(&mut events).await, end(&mut serving).await), (End::Idle, End::Idle));
    });
}

#[test]
fn a_right_that_is_taken_away_ends_what_used_it_and_nothing_else() {
    check(0..10, |world| async move {
        let set = RuleSet::new(rules(RULES));
        let rig = rig(&world, "alice", &set).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let mut back = listen(&rig.client, "127.0.0.1:80").await;
        let forward = rig.tunnel.local(free(), "db.internal:80".parse().unwrap()).await.unwrap();
        let remote = rig.tunnel.remote("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
        let remote = remote.await.unwrap();
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        let mut incoming = connect(&rig.server, remote.address()).await.unwrap();
        let mut arrived = back.accept().await.unwrap().0;
        // Nothing changes for these.
        set.replace(rules(&RULES.replace("max_connections = 2", "max_connections = 1")));
        world.sleep(SECOND).await;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        // The address is not allowed any more, though the name is.
        let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
        set.replace(rules(&RULES.replace("10.0.0.0/24", "10.0.1.0/24")));
        expect_reset(&mut here).await;
        expect_reset(&mut there).await;
        assert_eq!((end(&mut events).await, end(&mut serving).await), (End::Revoked, End::Revoked));
        write(&mut incoming, "still there").await;
        expect(&mut arrived, "still there").await;
        set.replace(rules(&RULES.replace("ports = [8080]", "ports = [8081]")));
        expect_reset(&mut incoming).await;
        expect_reset(&mut arrived).await;
        while connect(&rig.server, remote.address()).await.is_ok() {
            world.sleep(MS).await;
        }
    });
}

#[test]
fn a_revoked_listener_is_forbidden() {
    check(0..3, |world| async move {
        let set = RuleSet::new(rules(RULES));
        let rig = rig(&world, "alice", &set).await;
        let remote = rig.tunnel.remote("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
        remote.await.unwrap();
        let mut events = rig.tunnel.events();
        set.replace(Rules::default());
        let reason = event(&mut events, |event| match event {
            TunnelEvent::ListenFailed { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(reason.await, Reason::Forbidden);
    });
}

/// What a listener accepts after a change has the new limits; what it has accepted before keeps the old ones.
#[test]
fn a_listener_gives_new_limits_to_what_it_accepts() {
    check(0..5, |world| async move {
        let limited =
            |limits: &str| rules(&RULES.replace("ports = [8080]", &format!("ports = [8080]\n{limits}")));
        let set = RuleSet::new(limited("max_connections = 3"));
        let rig = rig(&world, "alice", &set).await;
        let mut back = listen(&rig.client, "127.0.0.1:80").await;
        let remote = rig.tunnel.remote("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
        let remote = remote.await.unwrap();
        let mut serving = rig.serving.events();
        let mut first = connect(&rig.server, remote.address()).await.unwrap();
        let mut first_there = back.accept().await.unwrap().0;
        set.replace(limited("max_connections = 1"));
        world.sleep(SECOND).await;
        expect_reset(&mut connect(&rig.server, remote.address()).await.unwrap()).await;
        assert_eq!(refusal(&mut serving).await, Reason::Busy);
        set.replace(limited("max_connections = 2\nidle_timeout = \"5s\""));
        world.sleep(SECOND).await;
        let mut second = connect(&rig.server, remote.address()).await.unwrap();
        let _second_there = back.accept().await.unwrap().0;
        expect_reset(&mut second).await;
        assert_eq!(end(&mut serving).await, End::Idle);
        world.sleep(60 * SECOND).await;
        write(&mut first, "still there").await;
        expect(&mut first_there, "still there").await;
    });
}

#[test]
fn a_file_is_read_again_and_a_broken_one_changes_nothing() {
    check(0..2, |world| async move {
        let scratch = Scratch::new();
        let set = RuleSet::open(scratch.write(RULES)).unwrap();
        let rig = rig(&world, "alice", &set).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.local(free(), "db.internal:80".parse().unwrap()).await.unwrap();
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        for broken in [&RULES[..RULES.len() / 2], "", "[[connect"] {
            if broken.is_empty() {
                std::fs::remove_file(scratch.0.join("rules.toml")).unwrap();
            } else {
                scratch.write(broken);
            }
            world.sleep(5 * SECOND).await;
            write(&mut here, "ping").await;
            expect(&mut there, "ping").await;
        }
        assert!(set.reload().unwrap_err().to_string().contains("rules.toml"));
        scratch.write(&RULES.replace("alice", "bob"));
        let before = world.elapsed();
        expect_reset(&mut here).await;
        expect_reset(&mut there).await;
        assert!(
            world.elapsed() - before <= 3 * SECOND,
            "it is looked at once a second, and read at the second look"
        );
        assert_eq!(refused(&rig, "db.internal:80").await, Reason::Forbidden);
        scratch.write(RULES);
        world.sleep(3 * SECOND).await;
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
    });
}

/// An authorizer that takes a second to decide, and records the users that it was asked about.
struct Slow(async_channel::Sender<Option<String>>);

impl Authorizer for Slow {
    fn connect<'a>(&'a self, requester: &'a Requester, _: &'a Target) -> BoxFuture<'a, Option<Permission>> {
        Box::pin(async {
            let (runtime, user) = (requester.peer.runtime(), requester.user().map(str::to_owned));
            let mut timer = runtime.timer(runtime.now() + SECOND);
            std::future::poll_fn(|cx| timer.as_mut().poll(cx)).await;
            self.0.send(user).await.unwrap();
            Some(Permission::new("slow").only(|address| address.is_loopback()).proxy_protocol(true))
        })
    }

    fn listen<'a>(
        &'a self,
        _: &'a Requester,
        _: &'a callosum_tunnel::ListenAddress,
    ) -> BoxFuture<'a, Option<Permission>> {
        Box::pin(std::future::ready(None))
    }
}

/// Rules of one's own, by the identity that the transport has established; and the target learns who comes.
#[test]
fn an_authorizer_may_take_its_time_and_knows_who_asks() {
    check(0..3, |world| async move {
        let (server, client) = (world.host("server"), world.host("client"));
        let builder = server.builder();
        let (sender, asked) = async_channel::unbounded();
        let settings = ServerSettings::default().resolver(Names::default().with("own", &["127.0.0.1"]));
        let (serving, driver) = callosum_tunnel::TunnelServer::new(builder.runtime(), Slow(sender), settings);
        server.spawn(driver);
        let (binder, driver) = serving.add_to(builder).binder();
        server.spawn(async { drop(driver.await) });
        let (theirs, ours) = callosum_runtime::duplex(1 << 16);
        binder.accept_as(theirs, "a pipe", Identity::new("carol")).unwrap();
        let (connector, driver) = client.builder().connect_stream(ours);
        client.spawn(async { drop(driver.await) });
        let (tunnel, driver) = Tunnel::new(connector.peer(), connector.handlers(), TunnelSettings::default());
        client.spawn(driver);
        let mut listener = listen(&server, "127.0.0.1:80").await;
        let before = world.elapsed();
        let piping = tunnel.pipe("own:80".parse().unwrap(), &b"body"[..], Vec::new());
        let accepting = async {
            let mut there = listener.accept().await.unwrap().0;
            let mut read = Vec::new();
            there.read_to_end(&mut read).await.unwrap();
            read
        };
        let (_, read) = futures_util::future::join(piping, accepting).await;
        assert!(read.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21"), "the signature, and PROXY");
        assert!(read.ends_with(b"\xe0\0\x05carolbody"), "{read:?}");
        assert!(read.windows(6).any(|part| part == b"\x02\0\x03own"), "the host that was named");
        assert_eq!(asked.recv().await.unwrap().as_deref(), Some("carol"));
        assert!(world.elapsed() - before >= SECOND);
        let elsewhere = tunnel.pipe("10.0.0.5:80".parse().unwrap(), &[][..], Vec::new()).await;
        assert_eq!(elsewhere, Err(Reason::Forbidden));
    });
}

/// Which targets get a header is up to the rule whose limits hold: that of the address.
#[test]
fn a_rule_has_its_targets_get_a_proxy_header() {
    check(0..3, |world| async move {
        let text = RULES.replace("idle_timeout", "proxy_protocol = true\n    idle_timeout")
            + "\n[[connect]]\nname = 'plain'\nusers = ['alice']\nnetworks = ['10.0.0.0/24']\nports = [80]\n";
        let set = RuleSet::new(rules(&text));
        let rig = rig(&world, "alice", &set).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let mut serving = rig.serving.events();
        for (target, has_header) in [("db.internal:80", true), (TARGET_80, false)] {
            let piping = rig.tunnel.pipe(target.parse().unwrap(), &b"body"[..], Vec::new());
            let accepting = async {
                let mut read = Vec::new();
                listener.accept().await.unwrap().0.read_to_end(&mut read).await.unwrap();
                read
            };
            let (_, read) = futures_util::future::join(piping, accepting).await;
            assert!(read.ends_with(b"body"), "{read:?}");
            assert_eq!(read.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), has_header, "{target}");
            assert_eq!(summary(&mut serving).await.to_target, 4, "without the header");
        }
    });
}

/// The share of a user is one for its connections there and those that its listeners accept, and one for listeners.
#[test]
fn a_user_has_its_share_and_leaves_others_theirs() {
    check(0..3, |world| async move {
        let rules = RuleSet::new(rules(&RULES.replace("[8080]", r#"["8080-8089"]"#))).anonymous("alice");
        let names = Names::default().with("db.internal", &["10.0.0.5"]);
        let settings = ServerSettings::default().resolver(names);
        let settings = settings.max_connections_per_user(2).max_listeners_per_user(1);
        let (rig, serving, tunnelling) =
            Rig::undriven(&world, rules, settings, TunnelSettings::default()).await;
        rig.server.spawn(serving);
        rig.client.spawn(tunnelling);
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.local(free(), "db.internal:80".parse().unwrap()).await.unwrap();
        let mut back = listen(&rig.client, "127.0.0.1:80").await;
        let home: Target = "127.0.0.1:80".parse().unwrap();
        let remote = rig.tunnel.remote("127.0.0.1:8080".parse().unwrap(), home.clone()).await.unwrap();
        let second = rig.tunnel.remote("127.0.0.1:8081".parse().unwrap(), home.clone()).await;
        assert!(matches!(second, Err(ForwardError::Remote { reason: Reason::Busy, .. })), "{second:?}");

        let here = rig.open(&forward).await;
        let there = listener.accept().await.unwrap().0;
        let incoming = connect(&rig.server, remote.address()).await.unwrap();
        let arrived = back.accept().await.unwrap().0;
        let mut events = rig.tunnel.events();
        expect_reset(&mut rig.open(&forward).await).await;
        assert_eq!(refusal(&mut events).await, Reason::Busy);
        expect_reset(&mut connect(&rig.server, remote.address()).await.unwrap()).await;
        drop((here, there, incoming, arrived));
        // They come back.
        remote.close();
        world.sleep(SECOND).await;
        rig.tunnel.remote("127.0.0.1:8081".parse().unwrap(), home).await.unwrap();
        let _here = rig.open(&forward).await;
        listener.accept().await.unwrap();
    });
}

/// Allows everything, until it does not answer any more.
struct Hangs(Arc<AtomicU64>, Arc<parking_lot::Mutex<Option<async_channel::Receiver<()>>>>);

impl Authorizer for Hangs {
    fn connect<'a>(&'a self, _: &'a Requester, _: &'a Target) -> BoxFuture<'a, Option<Permission>> {
        Box::pin(async move {
            match self.0.load(Ordering::Relaxed) {
                0 => Some(Permission::new("all")),
                _ => std::future::pending().await,
            }
        })
    }

    fn listen<'a>(
        &'a self,
        _: &'a Requester,
        _: &'a callosum_tunnel::ListenAddress,
    ) -> BoxFuture<'a, Option<Permission>> {
        Box::pin(std::future::ready(None))
    }

    fn changes(
        &self,
        _: &Arc<dyn callosum_runtime::rt::Runtime>,
    ) -> Option<futures_util::stream::BoxStream<'static, ()>> {
        self.1.lock().take().map(|changes| Box::pin(changes) as _)
    }
}

#[test]
fn what_is_not_decided_in_time_is_taken_away() {
    check(0..3, |world| async move {
        let hangs = Arc::<AtomicU64>::default();
        let (change, changes) = async_channel::unbounded();
        let authorizer = Hangs(hangs.clone(), Arc::new(parking_lot::Mutex::new(Some(changes))));
        let rig = Rig::with(&world, authorizer, TunnelSettings::default()).await;
        let (mut here, mut there) = rig.through().await;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        hangs.store(1, Ordering::Relaxed);
        change.send(()).await.unwrap();
        let before = world.elapsed();
        expect_reset(&mut here).await;
        assert!(world.elapsed() - before <= 11 * SECOND);
    });
}

/// Rules may be replaced between the start of an endpoint and that of the driver that follows them.
#[test]
fn what_changes_before_the_driver_runs_is_not_missed() {
    check(0..3, |world| async move {
        let set = RuleSet::new(rules(RULES));
        let names = Names::default().with("db.internal", &["10.0.0.5"]);
        let settings = ServerSettings::default().resolver(names);
        let (rig, serving, tunnelling) =
            Rig::undriven(&world, set.clone().anonymous("alice"), settings, TunnelSettings::default()).await;
        rig.client.spawn(tunnelling);
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let forward = rig.tunnel.local(free(), "db.internal:80".parse().unwrap()).await.unwrap();
        let mut here = rig.open(&forward).await;
        let mut there = listener.accept().await.unwrap().0;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        set.replace(Rules::default());
        rig.server.spawn(serving);
        let before = world.elapsed();
        expect_reset(&mut here).await;
        expect_reset(&mut there).await;
        assert!(
            world.elapsed() - before < SECOND,
            "it is not the idle timeout: {:?}",
            world.elapsed() - before
        );
    });
}

/// An ordering key has a result wait for that of an earlier call: for ever, if that is a connection. What was opened meanwhile would be
/// idle for longer than any rule allows, and bound to its address after the right to it was taken away.
#[test]
fn what_waits_for_an_earlier_call_with_its_key_is_given_up() {
    check(0..3, |world| async move {
        let rig = Rig::new(&world).await;
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        let call = |method: &str, metadata: &[(&'static str, &'static str)]| {
            let mut all = callosum_runtime::Metadata::new();
            for (name, value) in metadata {
                all.insert(*name, *value).unwrap();
            }
            rig.connector.peer().open(method).metadata(all).key("one").no_timeout().stream().unwrap()
        };
        let connect_to_target = || call("callosum.tunnel.connect", &[("target", "10.0.0.5:80")]);
        let first = connect_to_target();
        let _first_there = listener.accept().await.unwrap().0;
        let second = connect_to_target();
        let mut second_there = listener.accept().await.unwrap().0;
        let method = ("method", "callosum.tunnel.incoming.1");
        let third = call("callosum.tunnel.listen", &[("address", "127.0.0.1:8080"), method]);
        let address = "127.0.0.1:8080".parse().unwrap();
        let before = world.elapsed();
        while connect(&rig.server, &address).await.is_err() {
            world.sleep(MS).await;
        }
        assert!(!matches!(second_there.read(&mut [0]).await, Ok(1..)));
        world.sleep(SECOND).await;
        assert!(connect(&rig.server, &address).await.is_err(), "nobody listens");
        assert!(world.elapsed() - before < 12 * SECOND, "{:?}", world.elapsed() - before);
        // They are told when the first has ended.
        drop(first);
        for (_, answer) in [second, third] {
            assert_eq!(&*answer.await.unwrap_err().remote().unwrap().name, "TunnelTimedOut");
        }
    });
}
