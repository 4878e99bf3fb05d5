//! What a caller learns when a call goes wrong on the other side.

use std::fmt;
use std::future::Future;
use std::num::ParseIntError;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use callosum_runtime::{
    CallError, Context, Handler, HandlerError, HandlerResult, Method, OrderingMode, Refusal, Reply,
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::rig::Rig;

#[derive(Debug)]
struct Broken(ParseIntError);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the agent's größe is broken")
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// A handler's error arrives with its type, its `Display` and, where the endpoint says so, its chain of sources.
pub async fn failure(rig: Rig) {
    let handler = |text: String, _: Context| async move { text.parse::<u8>().map_err(Broken) };
    let builder = || rig.builder().expose_tracebacks(true).handle("parse", handler);
    let pair = rig.pair(builder(), builder()).await;
    for peer in [pair.peer(), &pair.back] {
        let error = peer.invoke::<_, u8>("parse", "many").await.expect_err("not a number");
        assert!(error.may_have_run());
        let CallError::Remote(info) = &error else { panic!("{error:?}") };
        assert_eq!(&*info.name, "Broken");
        assert_eq!(&*info.repr, "the agent's größe is broken");
        assert!(info.traceback.contains("failures::Broken: the agent's größe is broken"), "{info:?}");
        assert!(info.traceback.contains("caused by: invalid digit found in string"), "{info:?}");
        assert_eq!(error.to_string(), "the remote handler failed: Broken: the agent's größe is broken");
        assert_eq!(peer.invoke::<_, u8>("parse", "7").await.expect("the link lives on"), 7);
    }
    pair.end().await;
}

/// By default neither the path of an error's type nor its sources travel, nor where a handler panicked.
pub async fn tracebacks_stay_here(rig: Rig) {
    let binder = rig
        .builder()
        .handle("parse", |text: String, _| async move { text.parse::<u8>().map_err(Broken) })
        .handle("context", |text: String, _| async move {
            text.parse::<u8>().map_err(|error| anyhow::Error::new(Broken(error)).context("no such agent"))
        })
        .handle("boxed", |text: String, _| async move {
            let number: u8 = text.parse().map_err(Broken)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(number)
        })
        .handle("named", |_: String, _| async {
            HandlerResult::<u8>::Err(HandlerError::new("Named", "it has no traceback"))
        })
        .handle_stream("stream", |_, _, _| async {
            Err::<(), _>(Broken("many".parse::<u8>().expect_err("no number")))
        })
        .handle("panic", |_: String, _| async {
            if true {
                panic!("at once");
            }
            HandlerResult::Ok(0_u8)
        });
    let pair = rig.pair(binder, rig.builder()).await;
    for (method, name, repr) in [
        ("parse", "Broken", "the agent's größe is broken"),
        ("context", "Error", "no such agent"),
        ("boxed", "Error", "the agent's größe is broken"),
        ("named", "Named", "it has no traceback"),
        ("stream", "Broken", "the agent's größe is broken"),
        ("panic", "Panic", "at once"),
    ] {
        let error = pair.peer().invoke::<_, u8>(method, "many").await.expect_err("not a number");
        let CallError::Remote(info) = error else { panic!("{error:?}") };
        assert_eq!((&*info.name, &*info.repr, &*info.traceback), (name, repr, ""));
    }
    pair.end().await;
}

/// A handler passes the error of another peer on as it is; what it fails with otherwise says that the other peer failed.
pub async fn relayed(rig: Rig) {
    let failing = rig
        .builder()
        .expose_tracebacks(true)
        .handle("parse", |text: String, _: Context| async move { text.parse::<u8>().map_err(Broken) });
    let far = rig.pair(failing, rig.builder()).await;
    let (relay, told) = (far.peer().clone(), far.peer().clone());
    let binder = rig
        .builder()
        .handle("relay", move |(method, text): (String, String), _| {
            let relay = relay.clone();
            async move { relay.invoke::<_, u8>(&method, &text).await.map_err(HandlerError::relay) }
        })
        .handle("tell", move |(method, text): (String, String), _| {
            let told = told.clone();
            async move { told.invoke::<_, u8>(&method, &text).await }
        });
    let near = rig.pair(binder, rig.builder()).await;
    let first = far.peer().invoke::<_, u8>("parse", "many").await.expect_err("not a number");
    let error = near.peer().invoke::<_, u8>("relay", &("parse", "many")).await.expect_err("not a number");
    let (CallError::Remote(first), CallError::Remote(relayed)) = (first, error) else { panic!("both fail") };
    assert_eq!(relayed, first, "name, text and traceback");
    assert!(relayed.traceback.contains("caused by: invalid digit"), "{relayed:?}");

    let error = near.peer().invoke::<_, u8>("relay", &("nosuch", "many")).await.expect_err("no such method");
    assert!(error.may_have_run(), "the relay's handler has");
    let CallError::Remote(info) = error else { panic!("the relay has such a method: {error:?}") };
    assert_eq!(&*info.name, "NoSuchMethod");

    let error = near.peer().invoke::<_, u8>("tell", &("parse", "many")).await.expect_err("not a number");
    let CallError::Remote(info) = error else { panic!("{error:?}") };
    let repr = "the remote handler failed: Broken: the agent's größe is broken";
    assert_eq!((&*info.name, &*info.repr, &*info.traceback), ("CallError", repr, ""));
    near.end().await;
    far.end().await;
}

/// A handler may name its error as it likes.
pub async fn named_failure(rig: Rig) {
    let binder = rig.builder().expose_tracebacks(true).handle("divide", |_: Value, _| async {
        HandlerResult::<()>::Err(HandlerError::new("ZeroDivisionError", "division by zero"))
    });
    let pair = rig.pair(binder, rig.builder()).await;
    let error = pair.peer().invoke::<_, ()>("divide", &()).await.expect_err("it always fails");
    let info = error.remote().expect("a failure has a name");
    assert_eq!((&*info.name, &*info.repr), ("ZeroDivisionError", "division by zero"));
    assert_eq!(&*info.traceback, "ZeroDivisionError: division by zero\n");
    pair.end().await;
}

/// Panics, before and after the first await, are failures, and free the only place there is.
pub async fn panics(rig: Rig) {
    let gate = Gate::default();
    let binder = rig.builder().expose_tracebacks(true).max_concurrency(1).handle("early", |_: Value, _| {
        if true {
            panic!("at once");
        }
        async { HandlerResult::Ok(()) }
    });
    let binder = binder.handle("late", |n: u32, context: Context| async move {
        context.peer().invoke::<_, Value>("echo", &n).await?;
        let message = format!("after {n}");
        if n > 0 {
            panic!("{message}");
        }
        HandlerResult::Ok(())
    });
    let connector = rig.builder().handle("echo", |n: Value, _| async move { HandlerResult::Ok(n) });
    let pair = rig.pair(binder, connector).await;
    for (method, message) in [("early", "at once"), ("late", "after 3")] {
        for _ in 0..3 {
            let error = pair.peer().invoke::<_, ()>(method, &3).await.expect_err("it panics");
            let CallError::Remote(info) = &error else { panic!("{error:?}") };
            assert_eq!((&*info.name, &*info.repr), ("Panic", message));
            assert!(info.traceback.contains(method), "{info:?}");
        }
    }
    gate.guard(pair.binder.handlers(), "hold");
    let argument = json!(1);
    let call = pair.peer().invoke::<_, Value>("hold", &argument);
    let release = async { gate.next().await.release(5) };
    let (result, ()) = futures_util::future::join(call.into_future(), release).await;
    assert_eq!(result.expect("the place is free"), 5);
    pair.end().await;
}

/// An argument of the wrong type is refused before the handler runs.
pub async fn invalid_argument(rig: Rig) {
    let binder = rig.builder().handle("double", |n: u32, _| async move { HandlerResult::Ok(n * 2) });
    let pair = rig.pair(binder, rig.builder()).await;
    let error = pair.peer().invoke::<_, u32>("double", "text").await.expect_err("not a number");
    let CallError::Rejected(info) = &error else { panic!("{error:?}") };
    assert_eq!(Refusal::of(info), Some(Refusal::InvalidArgument));
    assert!(!error.may_have_run());
    assert_eq!(pair.peer().invoke::<_, u32>("double", &4).await.expect("a number"), 8);
    pair.end().await;
}

/// A result of another type than the caller asked for is the caller's error; the handler has run.
pub async fn undecodable_result(rig: Rig) {
    let binder = rig.builder().handle("text", |_: Value, _| async { HandlerResult::Ok("text") });
    let pair = rig.pair(binder, rig.builder()).await;
    let error = pair.peer().invoke::<_, u32>("text", &()).await.expect_err("not a number");
    assert!(matches!(error, CallError::Decode(_)), "{error:?}");
    assert!(error.may_have_run());
    pair.end().await;
}

/// What can't be written is an error where it is: the caller's for an argument, the handler's for a result.
pub async fn unencodable(rig: Rig) {
    type Odd = std::collections::BTreeMap<(u8, u8), u8>;
    let odd = || Odd::from([((1, 2), 3)]);
    let binder = rig.builder().handle("odd", move |_: Value, _| async move { HandlerResult::Ok(odd()) });
    let pair = rig.pair(binder, rig.builder()).await;
    let error = pair.peer().invoke::<_, Value>("odd", &odd()).await.expect_err("JSON has no such keys");
    assert!(matches!(error, CallError::Encode(_)), "{error:?}");
    assert!(!error.may_have_run());
    let error = pair.peer().invoke::<_, Value>("odd", &()).await.expect_err("JSON has no such keys");
    assert!(matches!(&error, CallError::Remote(info) if &*info.name == "CodecError"), "{error:?}");
    pair.end().await;
}

/// Several failures, panics and results at once don't get mixed up.
pub async fn mixed(rig: Rig) {
    let binder = rig.builder().max_concurrency(3).handle("pick", |n: u32, _| async move {
        match n % 3 {
            0 => Ok(n),
            1 => Err(HandlerError::new("One", &n.to_string())),
            _ => panic!("{n}"),
        }
    });
    let pair = rig.pair(binder, rig.builder()).await;
    let peer = pair.peer();
    let calls = (0..90).map(|n| async move {
        let result = peer.invoke::<_, u32>("pick", &n).await;
        match (n % 3, result) {
            (0, Ok(same)) => assert_eq!(same, n),
            (kind @ (1 | 2), Err(CallError::Remote(info))) => {
                assert_eq!(&*info.name, if kind == 1 { "One" } else { "Panic" });
                assert_eq!(*info.repr, n.to_string());
            }
            (_, other) => panic!("{n}: {other:?}"),
        }
    });
    futures_util::future::join_all(calls).await;
    rig.until(|| pair.back.stats().requests_running == 0).await;
    pair.end().await;
}

/// A future that panics when it is dropped, whether it is done or not.
struct Grenade(bool);

impl Future for Grenade {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Reply> {
        match self.0 {
            true => Poll::Ready(Reply::result("1")),
            false => Poll::Pending,
        }
    }
}

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

struct Throws;

impl Handler for Throws {
    fn call(&self, body: Bytes, _: Context) -> BoxFuture<'static, Reply> {
        Box::pin(Grenade(&*body == b"true"))
    }
}

/// A handler whose destructor panics costs neither its link nor its place, done or cancelled.
pub async fn panicking_destructors(rig: Rig) {
    let builder = || rig.builder().max_concurrency(1).handle_method("throw", Method::new(Throws));
    let pair = rig.pair(builder(), builder()).await;
    for (caller, server) in [(pair.peer(), &pair.back), (&pair.back, pair.peer())] {
        for _ in 0..3 {
            assert_eq!(caller.invoke::<_, u8>("throw", &true).await.expect("it has replied"), 1);
        }
        for round in 1..4 {
            let call = caller.invoke::<_, u8>("throw", &false).into_future();
            rig.until(|| server.stats().requests_running == 1).await;
            drop(call);
            rig.until(|| server.stats().requests_failed == round).await;
        }
        assert!(caller.is_connected());
    }
    pair.end().await;
}

/// Requests that have run, and whose replies wait for their order, are counted as failed when they lose their link.
pub async fn held_replies_are_counted(rig: Rig) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder().ordering(OrderingMode::ExitOrdered), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    let mut calls = Vec::new();
    for n in 0..3 {
        let peer = pair.peer().clone();
        calls.push(rig.spawn(async move { peer.invoke::<_, Value>("hold", &n).key("k").await }));
        rig.until(|| gate.started() == n + 1).await;
    }
    let first = gate.next().await;
    for _ in 1..3 {
        gate.next().await.release(1);
    }
    rig.until(|| pair.back.stats().requests_running == 1).await;
    assert_eq!(pair.back.stats().requests_done, 0, "they wait for the first");
    pair.back.disconnect();
    for call in calls {
        call.join().await.expect_err("the link is gone");
    }
    let stats = || pair.back.stats();
    rig.until(|| stats().requests_failed > 0 && stats().requests_running == 0).await;
    assert_eq!((stats().requests_failed, stats().requests_done), (3, 0));
    drop(first);
    pair.end().await;
}
