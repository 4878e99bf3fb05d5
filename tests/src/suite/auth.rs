//! Who may come in, and what the others find.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use callosum_runtime::auth::{
    Admission, AllowList, AuthenticationError, Authenticator, ClientIdentity, Credential, CurveClient,
    CurveKeyPair, CurvePublicKey, FnAuthenticator, Identity, KeySet, RefusalStatus, ServerIdentity,
    generate_keys,
};
use callosum_runtime::link::memory;
use callosum_runtime::rt::Runtime;
use callosum_runtime::{
    BindError, Builder, CallError, Context, DisconnectCause, DriverError, Event, Events, HandlerResult,
    Limits, NotSent, Reconnect, duplex,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::rig::{Rig, SOON, next_event};

const FAST: Reconnect =
    Reconnect::Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) };

/// A builder with handlers that tell who calls.
fn serving(builder: Builder) -> Builder {
    builder.handle("whoami", |_: Value, call: Context| async move {
        let identity = call.identity().map(|identity| (identity.user_id.clone(), identity.metadata.clone()));
        let key = call.peer().info().public_key.map(|key| key.to_string());
        HandlerResult::Ok(json!({"identity": identity, "key": key}))
    })
}

fn client(rig: &Rig, keys: &CurveKeyPair, server: CurvePublicKey) -> Builder {
    rig.builder().reconnect(FAST).authenticator(CurveClient::new(keys.clone(), server))
}

async fn whoami(peer: &callosum_runtime::Peer) -> Result<Value, CallError> {
    peer.invoke("whoami", &()).await
}

/// What a call of a connector that is not accepted ends with, at once.
fn authentication_error(error: CallError) -> AuthenticationError {
    assert!(!error.may_have_run(), "{error}");
    match error {
        CallError::NotSent(NotSent::Disconnected(DisconnectCause::Authentication(error))) => error,
        error => panic!("{error:?}"),
    }
}

/// Calls through a connector that does not get in; returns how it learns so.
async fn turned_away(rig: &Rig, builder: Builder, binder: &callosum_runtime::Binder) -> AuthenticationError {
    let (connector, driver) = rig.connect(builder, &binder.endpoints()[0]);
    let error = whoami(connector.peer()).await.expect_err("it does not get in");
    let cause = connector.peer().ready().await.expect_err("nor later");
    assert!(cause.is_authentication_failure(), "{cause:?}");
    driver.cut().await;
    assert!(binder.peers().is_empty());
    authentication_error(error)
}

async fn refusal(events: &mut Events) -> DisconnectCause {
    next_event(events, |event| match event {
        Event::Refused { cause, .. } => Some(cause),
        Event::Connected(peer) => panic!("{:?}", peer.info()),
        _ => None,
    })
    .await
}

async fn refused_with(events: &mut Events) -> AuthenticationError {
    match refusal(events).await {
        DisconnectCause::Authentication(error) => error,
        cause => panic!("{cause:?}"),
    }
}

async fn disconnection(events: &mut Events) -> DisconnectCause {
    next_event(events, |event| match event {
        Event::Disconnected { cause, .. } => Some(cause),
        _ => None,
    })
    .await
}

const DENIED: AuthenticationError = AuthenticationError::Refused { status: Some(RefusalStatus::Denied) };

/// Who is admitted has an identity in handlers and in the peer's record, both ends know each other's key, and calls go
/// both ways.
pub async fn admitted(rig: Rig) {
    let (server, alice) = (generate_keys(), generate_keys());
    let (server_key, key) = (server.public(), alice.public());
    let allowed = KeySet::new(server);
    let metadata = [("team".to_owned(), "red".to_owned())].into();
    allowed.admit(key, Identity { metadata, ..Identity::new("alice") });
    let binder = serving(rig.builder()).authenticator(allowed);
    let pair = rig.pair(binder, serving(client(&rig, &alice, server_key))).await;

    let seen = whoami(pair.peer()).await.expect("it is admitted");
    assert_eq!(seen, json!({"identity": ["alice", {"team": "red"}], "key": key.to_string()}));
    let info = pair.back.info();
    assert_eq!((info.public_key, &*info.identity.expect("it was admitted").user_id), (Some(key), "alice"));
    let seen = whoami(&pair.back).await.expect("calls go both ways");
    assert_eq!(seen, json!({"identity": null, "key": server_key.to_string()}));
    let info = pair.peer().info();
    assert_eq!((info.public_key, info.identity), (Some(server_key), None));
    pair.end().await;
}

/// A key that is not known is refused, and its owner told, at once; admitted later, it gets in by itself.
pub async fn unknown_key(rig: Rig) {
    let (server, eve) = (generate_keys(), generate_keys());
    let server_key = server.public();
    let allowed = KeySet::new(server);
    let (binder, driver) = rig.serve(serving(rig.builder()).authenticator(allowed.clone())).await;
    let mut events = binder.events();
    assert_eq!(turned_away(&rig, client(&rig, &eve, server_key), &binder).await, DENIED);
    let public_key = eve.public();
    assert_eq!(refused_with(&mut events).await, AuthenticationError::NotAdmitted { public_key });

    let (connector, connector_driver) = rig.connect(client(&rig, &eve, server_key), &binder.endpoints()[0]);
    authentication_error(whoami(connector.peer()).await.expect_err("it is not known yet"));
    allowed.admit(public_key, "eve");
    while connector.peer().ready().await.is_err() {}
    assert_eq!(whoami(connector.peer()).await.expect("it is known by now")["identity"][0], "eve");
    connector.shutdown(SOON).await;
    connector_driver.join().await.expect("it ends well");
    driver.cut().await;
}

/// Without reconnecting, the driver ends with the reason.
pub async fn never_again(rig: Rig) {
    let (server, eve) = (generate_keys(), generate_keys());
    let builder = client(&rig, &eve, server.public()).reconnect(Reconnect::Never);
    let (binder, driver) = rig.serve(rig.builder().authenticator(KeySet::new(server))).await;
    let (connector, connector_driver) = rig.connect(builder, &binder.endpoints()[0]);
    let cause = connector.peer().ready().await.expect_err("it does not get in");
    assert!(matches!(cause, DisconnectCause::Authentication(DENIED)), "{cause:?}");
    let ended = connector_driver.join().await;
    assert!(
        matches!(ended, Err(DriverError::Disconnected(DisconnectCause::Authentication(DENIED)))),
        "{ended:?}"
    );
    driver.cut().await;
}

/// A client that knows the server by another key does not get in, nor learns anything.
pub async fn wrong_server_key(rig: Rig) {
    let (server, alice) = (generate_keys(), generate_keys());
    let allowed = KeySet::new(server);
    allowed.admit(alice.public(), "alice");
    let (binder, driver) = rig.serve(serving(rig.builder()).authenticator(allowed)).await;
    let builder = client(&rig, &alice, generate_keys().public());
    assert_eq!(turned_away(&rig, builder, &binder).await, AuthenticationError::BrokenOff { ours: "CURVE" });
    driver.cut().await;
}

/// Who does not speak CURVE does not get in, and both sides say why.
pub async fn no_curve_towards_curve(rig: Rig) {
    let allowed = KeySet::new(generate_keys());
    let (binder, driver) = rig.serve(serving(rig.builder()).authenticator(allowed)).await;
    let mut events = binder.events();
    let error = turned_away(&rig, rig.builder().reconnect(FAST), &binder).await;
    assert_eq!(error, AuthenticationError::Mechanism { ours: "NULL", theirs: "CURVE".into() });
    let error = refused_with(&mut events).await;
    assert_eq!(error, AuthenticationError::Mechanism { ours: "CURVE", theirs: "NULL".into() });
    driver.cut().await;
}

/// Who wants CURVE does not fall back to anything less.
pub async fn curve_towards_no_curve(rig: Rig) {
    let (binder, driver) = rig.serve(serving(rig.builder())).await;
    let builder = client(&rig, &generate_keys(), generate_keys().public());
    let error = turned_away(&rig, builder, &binder).await;
    assert_eq!(error, AuthenticationError::Mechanism { ours: "CURVE", theirs: "NULL".into() });
    driver.cut().await;
}

/// While the application thinks about one client, another gets in.
pub async fn admission_may_take_its_time(rig: Rig) {
    let (server, slow, quick) = (generate_keys(), generate_keys(), generate_keys());
    let (server_key, slow_key) = (server.public(), slow.public());
    let (decide, decided) = async_channel::bounded::<()>(1);
    let (ask, asked) = async_channel::bounded(1);
    let check = FnAuthenticator::new(
        ServerIdentity { domain: "cluster".into(), keys: server },
        move |credential: Credential| {
            let (ask, decided) = (ask.clone(), decided.clone());
            async move {
                assert_eq!(credential.domain, "cluster");
                if credential.public_key != slow_key {
                    return Admission::Admit(Identity::new("quick"));
                }
                ask.send(credential.address).await.expect("the test waits");
                decided.recv().await.expect("the test decides");
                Admission::Admit(Identity::new("slow"))
            }
        },
    );
    let (binder, driver) = rig.serve(serving(rig.builder()).authenticator(check)).await;
    let endpoint = &binder.endpoints()[0];
    let (waiting, waiting_driver) = rig.connect(client(&rig, &slow, server_key), endpoint);
    let peer = waiting.peer().clone();
    let call = rig.spawn(async move { whoami(&peer).await });
    assert_ne!(asked.recv().await.expect("it is asked about"), "");

    let (other, other_driver) = rig.connect(client(&rig, &quick, server_key), endpoint);
    assert_eq!(whoami(other.peer()).await.expect("it is admitted")["identity"][0], "quick");
    assert_eq!(binder.peers().len(), 1);
    assert!(!waiting.peer().is_connected());
    decide.send(()).await.expect("the check waits");
    assert_eq!(call.join().await.expect("it is admitted in the end")["identity"][0], "slow");
    waiting_driver.cut().await;
    other_driver.cut().await;
    driver.cut().await;
}

/// A check that never answers refuses when the handshake's time is over, and the client gets an error.
pub async fn endless_admission(rig: Rig) {
    let alice = generate_keys();
    // All of the handshake has to fit in, up to the check: where the machine is too slow for that, again with twice the time.
    for timeout in (0..).map(|n| Duration::from_millis(100 << n)) {
        let server = generate_keys();
        let server_key = server.public();
        let limits = Limits::default().handshake_timeout(timeout);
        let asked = Arc::new(AtomicBool::new(false));
        let asks = asked.clone();
        let check = FnAuthenticator::new(server, move |_| {
            asks.store(true, Ordering::SeqCst);
            pending()
        });
        let (binder, driver) = rig.serve(rig.builder().limits(limits).authenticator(check)).await;
        let mut events = binder.events();
        // One attempt only.
        let builder = client(&rig, &alice, server_key).reconnect(Reconnect::Never);
        let learnt = turned_away(&rig, builder, &binder).await;
        let refusal = refused_with(&mut events).await;
        driver.cut().await;
        if asked.load(Ordering::SeqCst) {
            assert_eq!(learnt, DENIED);
            assert_eq!(refusal, AuthenticationError::CheckTimedOut { public_key: alice.public() });
            return;
        }
    }
}

/// A check that panics refuses, whether it does so at once or later.
pub async fn panicking_admission(rig: Rig) {
    let alice = generate_keys();
    for at_once in [true, false] {
        let server = generate_keys();
        let server_key = server.public();
        let check = FnAuthenticator::new(server, move |_| {
            assert!(!at_once, "a test's panic");
            async { panic!("a test's panic") }
        });
        let (binder, driver) = rig.serve(rig.builder().authenticator(check)).await;
        let mut events = binder.events();
        assert_eq!(turned_away(&rig, client(&rig, &alice, server_key), &binder).await, DENIED);
        let public_key = alice.public();
        assert_eq!(refused_with(&mut events).await, AuthenticationError::CheckPanicked { public_key });
        driver.cut().await;
    }
}

/// Revoking a key closes its connections and no others, and the key is not admitted again.
pub async fn revoked(rig: Rig) {
    let (server, alice, bob) = (generate_keys(), generate_keys(), generate_keys());
    let server_key = server.public();
    let allowed = KeySet::new(server);
    allowed.admit(alice.public(), "alice");
    allowed.admit(bob.public(), "bob");
    let binder = serving(rig.builder()).authenticator(allowed.clone());
    let pair = rig.pair(binder, client(&rig, &alice, server_key)).await;
    let (bobs, bobs_driver) = rig.connect(client(&rig, &bob, server_key), &pair.binder.endpoints()[0]);
    whoami(bobs.peer()).await.expect("bob is admitted");

    let mut events = pair.binder.events();
    assert!(allowed.revoke(&alice.public()));
    assert!(!allowed.revoke(&alice.public()));
    let public_key = alice.public();
    let cause = disconnection(&mut events).await;
    assert!(
        matches!(&cause, DisconnectCause::Authentication(error) if *error == AuthenticationError::Revoked { public_key }),
        "{cause:?}"
    );
    assert_eq!(refused_with(&mut events).await, AuthenticationError::NotAdmitted { public_key });
    assert!(!pair.back.is_connected());
    assert_eq!(whoami(bobs.peer()).await.expect("bob stays")["identity"][0], "bob");
    bobs_driver.cut().await;
    pair.connector_driver.cut().await;
    pair.binder_driver.cut().await;
}

/// Times that no clock can hold are as good as never.
pub async fn endless_times(rig: Rig) {
    let (server, alice) = (generate_keys(), generate_keys());
    let server_key = server.public();
    let limits = Limits::default().handshake_timeout(Duration::MAX);
    let allowed = KeySet::new(server.clone());
    allowed.admit(alice.public(), "alice");
    let binder = serving(rig.builder()).limits(limits).authenticator(allowed.clone());
    let pair = rig.pair(binder, client(&rig, &alice, server_key)).await;
    let mut events = pair.binder.events();
    allowed.revoke(&alice.public());
    assert!(disconnection(&mut events).await.is_authentication_failure());
    pair.connector_driver.cut().await;
    pair.binder_driver.cut().await;

    let file = TempFile::new();
    std::fs::write(&file.0, format!("{} alice\n", alice.public())).expect("it can be written");
    let allowed = AllowList::open(server, &file.0).expect("it is there").interval(Duration::MAX);
    let binder = serving(rig.builder()).authenticator(allowed);
    let pair = rig.pair(binder, client(&rig, &alice, server_key)).await;
    whoami(pair.peer()).await.expect("alice is admitted");
    pair.end().await;
}

/// If a key is admitted as another user from now on, later calls have that user's identity.
pub async fn renamed(rig: Rig) {
    let (server, alice) = (generate_keys(), generate_keys());
    let server_key = server.public();
    let allowed = KeySet::new(server);
    allowed.admit(alice.public(), "alice");
    let binder = serving(rig.builder()).authenticator(allowed.clone());
    let pair = rig.pair(binder, client(&rig, &alice, server_key)).await;
    allowed.admit(alice.public(), "alice the second");
    while whoami(pair.peer()).await.expect("it is admitted")["identity"][0] != "alice the second" {}
    pair.end().await;
}

/// Asks the test, for every check and every change.
struct Asking {
    keys: CurveKeyPair,
    ask: Sender<Sender<Admission>>,
    changes: Mutex<Option<BoxStream<'static, ()>>>,
}

impl Authenticator for Asking {
    fn server_identity(&self) -> Option<ServerIdentity> {
        Some(self.keys.clone().into())
    }

    fn check_client(&self, _: Credential) -> BoxFuture<'static, Admission> {
        let (answer, answered) = async_channel::bounded(1);
        let ask = self.ask.clone();
        async move {
            ask.send(answer).await.expect("the test waits");
            answered.recv().await.expect("the test answers")
        }
        .boxed()
    }

    fn changes(&self, _: &Arc<dyn Runtime>) -> Option<BoxStream<'static, ()>> {
        self.changes.lock().take()
    }
}

/// Tells when it is polled, which is when what it yielded before has been dealt with.
fn changes() -> (BoxStream<'static, ()>, Receiver<()>, Sender<()>) {
    let (polled, polls) = async_channel::unbounded();
    let (change, changed) = async_channel::unbounded();
    let stream = stream::unfold((polled, changed), |(polled, changed)| async move {
        polled.send(()).await.ok()?;
        changed.recv().await.ok()?;
        Some(((), (polled, changed)))
    });
    (stream.boxed(), polls, change)
}

/// An answer that is out of date when it comes does not count.
pub async fn revoked_while_being_admitted(rig: Rig) {
    let (keys, alice) = (generate_keys(), generate_keys());
    let server_key = keys.public();
    let (ask, asked) = async_channel::unbounded();
    let (stream, polls, change) = changes();
    let check = Asking { keys, ask, changes: Mutex::new(Some(stream)) };
    let (binder, driver) = rig.serve(rig.builder().authenticator(check)).await;
    polls.recv().await.expect("the driver runs");
    let (connector, connector_driver) = rig.connect(client(&rig, &alice, server_key), &binder.endpoints()[0]);
    let peer = connector.peer().clone();
    let ready = rig.spawn(async move { peer.ready().await });
    let first = asked.recv().await.expect("it is asked");
    change.send(()).await.expect("the driver runs");
    polls.recv().await.expect("the driver runs");
    first.send(Admission::Admit(Identity::new("alice"))).await.expect("it is waited for");
    let second = asked.recv().await.expect("it is asked again");
    second.send(Admission::Refuse).await.expect("it is waited for");
    let cause = ready.join().await.expect_err("it is refused in the end");
    assert!(matches!(cause, DisconnectCause::Authentication(DENIED)), "{cause:?}");
    connector_driver.cut().await;
    driver.cut().await;
}

/// A change concerns everybody, but so many are asked about at a time, and those who wait have their whole time.
pub async fn so_many_checks_at_a_time(rig: Rig) {
    const AT_ONCE: usize = 64;
    const CLIENTS: usize = AT_ONCE + 3;
    let keys = generate_keys();
    let server_key = keys.public();
    let (ask, asked) = async_channel::unbounded::<Sender<Admission>>();
    let (stream, polls, change) = changes();
    let check = Asking { keys, ask, changes: Mutex::new(Some(stream)) };
    let (binder, driver) = rig.serve(serving(rig.builder()).authenticator(check)).await;
    polls.recv().await.expect("the driver runs");
    let admit = || Admission::Admit(Identity::new("somebody"));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (connector, driver) =
            rig.connect(client(&rig, &generate_keys(), server_key), &binder.endpoints()[0]);
        asked.recv().await.expect("it is asked").send(admit()).await.expect("it is waited for");
        connector.peer().ready().await.expect("it is admitted");
        clients.push((connector, driver));
    }
    rig.peers(&binder, CLIENTS).await;

    change.send(()).await.expect("the driver runs");
    let mut first = Vec::new();
    for _ in 0..AT_ONCE {
        first.push(asked.recv().await.expect("it is asked again"));
    }
    polls.recv().await.expect("the driver runs");
    assert!(asked.is_empty(), "more are asked about than may be");
    for answer in first {
        answer.send(admit()).await.expect("it is waited for");
    }
    for _ in AT_ONCE..CLIENTS {
        let last = asked.recv().await.expect("it is asked again in the end");
        last.send(Admission::Refuse).await.expect("it is waited for");
    }
    rig.until(|| binder.peers().len() == AT_ONCE).await;
    for (_, client) in clients {
        client.cut().await;
    }
    driver.cut().await;
}

/// An endless series of changes does not starve the rest of the binder: it accepts, and it shuts down.
pub async fn changes_without_a_pause(rig: Rig) {
    let (ask, _asked) = async_channel::unbounded::<Sender<Admission>>();
    let changes = Mutex::new(Some(stream::repeat(()).boxed()));
    let check = Asking { keys: generate_keys(), ask, changes };
    let (binder, driver) = rig.serve(rig.builder().authenticator(check)).await;
    let mut events = binder.events();
    let (connector, connector_driver) = rig.connect(rig.builder().reconnect(FAST), &binder.endpoints()[0]);
    // It does not speak CURVE, and gets that error.
    connector.peer().ready().await.expect_err("it is not let in");
    assert!(refusal(&mut events).await.is_authentication_failure());
    connector_driver.cut().await;
    binder.shutdown(Duration::ZERO).await;
    driver.join().await.expect("it ends well");
}

/// Both roles in one.
struct Both {
    keys: CurveKeyPair,
    other: CurvePublicKey,
}

impl Authenticator for Both {
    fn server_identity(&self) -> Option<ServerIdentity> {
        Some(self.keys.clone().into())
    }

    fn client_identity(&self) -> Option<ClientIdentity> {
        Some(ClientIdentity { keys: self.keys.clone(), server_key: self.other })
    }

    fn check_client(&self, credential: Credential) -> BoxFuture<'static, Admission> {
        let known = credential.public_key == self.other;
        let answer = if known { Admission::Admit(Identity::new("the other")) } else { Admission::Refuse };
        std::future::ready(answer).boxed()
    }
}

/// One value serves an endpoint that binds and one that connects, at the same time.
pub async fn one_type_for_both_roles(rig: Rig) {
    let (one, other) = (generate_keys(), generate_keys());
    let first = Arc::new(Both { keys: one.clone(), other: other.public() });
    let second = Arc::new(Both { keys: other.clone(), other: one.public() });
    for (server, client) in [(&first, &second), (&second, &first)] {
        let serves = serving(rig.builder()).authenticator(server.clone());
        let pair = rig.pair(serves, rig.builder().authenticator(client.clone())).await;
        let key = client.keys.public().to_string();
        let seen = whoami(pair.peer()).await.expect("it is admitted");
        assert_eq!(seen, json!({"identity": ["the other", {}], "key": key}));
        assert_eq!(pair.peer().info().public_key, Some(server.keys.public()));
        pair.end().await;
    }
}

/// However often something changes, a client is asked about once at a time, and again if the answer is out of date.
pub async fn many_changes(rig: Rig) {
    let (keys, alice) = (generate_keys(), generate_keys());
    let server_key = keys.public();
    let (ask, asked) = async_channel::unbounded::<Sender<Admission>>();
    let (stream, polls, change) = changes();
    let check = Asking { keys, ask, changes: Mutex::new(Some(stream)) };
    let (binder, driver) = rig.serve(serving(rig.builder()).authenticator(check)).await;
    let mut events = binder.events();
    polls.recv().await.expect("the driver runs");
    let (connector, connector_driver) = rig.connect(client(&rig, &alice, server_key), &binder.endpoints()[0]);
    let admit = |user: &str| Admission::Admit(Identity::new(user));
    let first = asked.recv().await.expect("it is asked");
    first.send(admit("alice")).await.expect("it is waited for");
    whoami(connector.peer()).await.expect("it is admitted");

    change.send(()).await.expect("the driver runs");
    let outdated = asked.recv().await.expect("it is asked again");
    polls.recv().await.expect("the driver runs");
    for _ in 0..100 {
        change.send(()).await.expect("the driver runs");
        polls.recv().await.expect("the driver runs");
    }
    assert!(asked.is_empty());
    outdated.send(admit("outdated")).await.expect("it is waited for");
    let current = asked.recv().await.expect("it is asked once more");
    assert_eq!(whoami(connector.peer()).await.expect("it is admitted")["identity"][0], "alice");
    current.send(admit("alice the second")).await.expect("it is waited for");
    while whoami(connector.peer()).await.expect("it is admitted")["identity"][0] != "alice the second" {}
    assert!(asked.is_empty());

    change.send(()).await.expect("the driver runs");
    let last = asked.recv().await.expect("it is asked again");
    last.send(Admission::Refuse).await.expect("it is waited for");
    assert!(disconnection(&mut events).await.is_authentication_failure());
    connector_driver.cut().await;
    driver.cut().await;
}

/// A client that can't be checked again is cut, like one that could not be checked at first.
pub async fn failing_checks_revoke(rig: Rig) {
    for panics in [true, false] {
        let (keys, alice) = (generate_keys(), generate_keys());
        let (server_key, public_key) = (keys.public(), alice.public());
        let limits = match panics {
            true => Limits::default(),
            false => Limits::default().handshake_timeout(Duration::from_secs(1)),
        };
        let (ask, asked) = async_channel::unbounded::<Sender<Admission>>();
        let (stream, _polls, change) = changes();
        let check = Asking { keys, ask, changes: Mutex::new(Some(stream)) };
        let binder = serving(rig.builder()).limits(limits).authenticator(check);
        let (binder, driver) = rig.serve(binder).await;
        let mut events = binder.events();
        let (connector, connector_driver) =
            rig.connect(client(&rig, &alice, server_key).reconnect(Reconnect::Never), &binder.endpoints()[0]);
        let first = asked.recv().await.expect("it is asked");
        first.send(Admission::Admit(Identity::new("alice"))).await.expect("it is waited for");
        whoami(connector.peer()).await.expect("it is admitted");
        change.send(()).await.expect("the driver runs");
        let again = asked.recv().await.expect("it is asked again");
        let (unanswered, expected) = if panics {
            // It waits for an answer that does not come.
            drop(again);
            (None, AuthenticationError::CheckPanicked { public_key })
        } else {
            (Some(again), AuthenticationError::CheckTimedOut { public_key })
        };
        let cause = disconnection(&mut events).await;
        assert!(matches!(&cause, DisconnectCause::Authentication(error) if *error == expected), "{cause:?}");
        drop(unanswered);
        connector_driver.join().await.expect_err("it does not connect again");
        driver.cut().await;
    }
}

/// A file is read again when it changes, and who is no longer in it is cut.
pub async fn file_read_again(rig: Rig) {
    let (server, alice, bob) = (generate_keys(), generate_keys(), generate_keys());
    let server_key = server.public();
    let file = TempFile::new();
    let write = |text: String| std::fs::write(&file.0, text).expect("it can be written");
    write(format!("# who may come in\n{} alice\n", alice.public()));
    let allowed = AllowList::open(server, &file.0).expect("it is there").interval(Duration::from_millis(2));
    let pair =
        rig.pair(serving(rig.builder()).authenticator(allowed), client(&rig, &alice, server_key)).await;
    assert_eq!(whoami(pair.peer()).await.expect("alice is admitted")["identity"][0], "alice");
    let mut events = pair.binder.events();
    write(format!("{} bob\nnot a key\n", bob.public()));
    let cause = disconnection(&mut events).await;
    assert!(cause.is_authentication_failure(), "{cause:?}");
    let (bobs, bobs_driver) = rig.connect(client(&rig, &bob, server_key), &pair.binder.endpoints()[0]);
    // For a moment the file was empty, which may have been read too.
    while bobs.peer().ready().await.is_err() {}
    assert_eq!(whoami(bobs.peer()).await.expect("bob is admitted")["identity"][0], "bob");

    std::fs::remove_file(&file.0).expect("it is there");
    let mut events = bobs.events();
    bobs.peer().disconnect();
    disconnection(&mut events).await;
    assert_eq!(whoami(bobs.peer()).await.expect("what was read holds on")["identity"][0], "bob");
    bobs_driver.cut().await;
    pair.connector_driver.cut().await;
    pair.binder_driver.cut().await;
}

struct TempFile(PathBuf);

impl TempFile {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("callosum-allowed-{}-{number}", std::process::id())))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // The test may have removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Implements nothing, and so refuses everything.
struct Nothing;

impl Authenticator for Nothing {}

/// Knows who it is, but not whom to admit.
struct Unsociable(CurveKeyPair);

impl Authenticator for Unsociable {
    fn server_identity(&self) -> Option<ServerIdentity> {
        Some(self.0.clone().into())
    }
}

/// CURVE without a check admits no client, and an authenticator without an identity does not fall back to plaintext.
pub async fn what_is_missing_refuses(rig: Rig) {
    let server = generate_keys();
    let server_key = server.public();
    let (binder, driver) = rig.serve(rig.builder().authenticator(Unsociable(server))).await;
    assert_eq!(turned_away(&rig, client(&rig, &generate_keys(), server_key), &binder).await, DENIED);
    driver.cut().await;

    let error = rig.builder().authenticator(Nothing).bind(rig.endpoint()).await.expect_err("not bound");
    assert!(matches!(error, BindError::Authentication(AuthenticationError::NoIdentity)), "{error}");
    let (binder, _driver) = rig.builder().authenticator(Nothing).binder();
    let error = binder.accept(duplex(64).0, "memory").expect_err("not accepted");
    assert!(error.is_authentication_failure(), "{error}");

    let endpoint = rig.endpoint().parse().expect("it is one");
    let (connector, driver) = rig.connect(rig.builder().authenticator(Nothing), &endpoint);
    let error = whoami(connector.peer()).await.expect_err("it has no identity");
    assert_eq!(authentication_error(error), AuthenticationError::NoIdentity);
    driver.join().await.expect_err("it can't connect");

    let (hub, sender, receiver) = memory(1);
    let (_binder, driver) = rig.builder().authenticator(Nothing).bind_link(sender, receiver);
    let ended = driver.await;
    assert!(matches!(ended, Err(DriverError::LinkWithoutAuthentication)), "{ended:?}");
    let (sender, receiver) = hub.connect("a");
    let (_connector, driver) = rig.builder().authenticator(Nothing).connect_link(sender, receiver);
    let ended = driver.await;
    assert!(matches!(ended, Err(DriverError::LinkWithoutAuthentication)), "{ended:?}");
}

/// What other machines can reach is not bound in plaintext, unless that is asked for.
pub async fn plaintext_needs_consent(rig: Rig) {
    for text in ["tcp://*:0", "tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://[::ffff:0.0.0.0]:0"] {
        let error = rig.builder().bind(text).await.expect_err("it is not bound");
        assert!(matches!(error, BindError::Plaintext { .. }), "{text}: {error}");
    }
    for text in ["tcp://127.0.0.1:0", "tcp://127.8.9.1:0", "tcp://localhost:0"] {
        drop(rig.builder().bind(text).await.unwrap_or_else(|error| panic!("{text}: {error}")));
    }
    drop(rig.builder().allow_plaintext().bind("tcp://*:0").await.expect("it is asked for"));
    let allowed = KeySet::new(generate_keys());
    drop(rig.builder().authenticator(allowed).bind("tcp://*:0").await.expect("it is encrypted"));
}
