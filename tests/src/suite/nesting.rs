//! Calls in both directions, nested.

use callosum_runtime::{Builder, CallError, Context, HandlerError, HandlerResult, Peer};
use serde_json::Value;

use crate::rig::Rig;

/// Calls its caller back until `depth` is 0, and counts the levels.
async fn bounce(depth: u32, context: Context) -> Result<u32, HandlerError> {
    if depth == 0 {
        return Ok(0);
    }
    let rest: u32 = context.peer().invoke("bounce", &(depth - 1)).await?;
    Ok(rest + 1)
}

fn bouncing(builder: Builder) -> Builder {
    builder.handle("bounce", bounce)
}

/// A binder calls its connector as a connector its binder.
pub async fn binder_calls_connector(rig: Rig) {
    let connector = rig.builder().handle("name", |_: Value, _| async { HandlerResult::Ok("agent") });
    let binder = rig.builder().handle("name", |_: Value, _| async { HandlerResult::Ok("manager") });
    let pair = rig.pair(binder, connector).await;
    let name: String = pair.back.invoke("name", &()).await.expect("the connector serves");
    assert_eq!(name, "agent");
    let name: String = pair.peer().invoke("name", &()).await.expect("the binder serves");
    assert_eq!(name, "manager");
    pair.end().await;
}

/// Handlers call back to their callers, twenty levels deep, from either side.
pub async fn call_backs_twenty_deep(rig: Rig) {
    let pair = rig.pair(bouncing(rig.builder()), bouncing(rig.builder())).await;
    for peer in [pair.peer(), &pair.back] {
        let depth: u32 = peer.invoke("bounce", &20).await.expect("call-backs nest");
        assert_eq!(depth, 20);
    }
    pair.end().await;
}

/// One handler at a time on each side, and nested calls from both sides at once: there is no deadlock.
pub async fn no_deadlock_at_one_handler(rig: Rig) {
    let builder = || bouncing(rig.builder()).max_concurrency(1);
    let pair = rig.pair(builder(), builder()).await;
    let calls = (0..40).map(|n| {
        let peer = if n % 2 == 0 { pair.peer().clone() } else { pair.back.clone() };
        rig.spawn(async move { peer.invoke::<_, u32>("bounce", &(n % 21)).await.map(|depth| (n, depth)) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (n, depth) = call.join().await.expect("the call comes through");
        assert_eq!(depth, n % 21);
    }
    for peer in [pair.peer(), &pair.back] {
        let stats = peer.stats();
        assert_eq!((stats.requests_running, stats.requests_queued, stats.calls_in_flight), (0, 0, 0));
    }
    pair.end().await;
}

/// A handler's place is lent only while it waits: at a limit of one, two handlers never compute at once.
pub async fn a_lent_place_comes_back(rig: Rig) {
    let binder = rig.builder().max_concurrency(1).handle("relay", |_: Value, context: Context| async move {
        context.peer().invoke::<_, Value>("echo", &1).await.map_err(HandlerError::from)
    });
    let connector = rig.builder().handle("echo", |n: Value, _| async move { HandlerResult::Ok(n) });
    let pair = rig.pair(binder, connector).await;
    let gate = crate::gate::Gate::default();
    gate.guard(pair.binder.handlers(), "hold");
    let argument = Value::Null;
    pair.peer().invoke::<_, Value>("relay", &argument).await.expect("the call-back comes through");
    let (first, second) = (pair.peer().clone(), pair.peer().clone());
    let first = rig.spawn(async move { first.invoke::<_, Value>("hold", &1).await });
    let second = rig.spawn(async move { second.invoke::<_, Value>("hold", &2).await });
    let held = gate.next().await;
    rig.until(|| pair.back.stats().requests_queued == 1).await;
    assert_eq!(gate.live(), 1, "the place was given back");
    held.release(1);
    gate.next().await.release(2);
    first.join().await.expect("it was released");
    second.join().await.expect("it was released");
    pair.end().await;
}

/// A failure at the bottom comes up through every level.
pub async fn nested_failure(rig: Rig) {
    async fn fall(depth: u32, context: Context) -> HandlerResult<u32> {
        if depth == 0 {
            return Err(HandlerError::new("Bottom", "reached"));
        }
        let below: Result<u32, CallError> = context.peer().invoke("fall", &(depth - 1)).await;
        match below {
            Err(CallError::Remote(info)) => Err(HandlerError::new(&info.name, &info.repr)),
            other => panic!("{other:?}"),
        }
    }
    let pair = rig.pair(rig.builder().handle("fall", fall), rig.builder().handle("fall", fall)).await;
    let error = pair.peer().invoke::<_, u32>("fall", &7).await.expect_err("it fails at the bottom");
    let info = error.remote().expect("a failure has a name");
    assert_eq!((&*info.name, &*info.repr), ("Bottom", "reached"));
    pair.end().await;
}

/// Peers of one binder reach each other through it.
pub async fn relay_between_connectors(rig: Rig) {
    let (binder, driver) = rig.serve(rig.builder()).await;
    let of = binder.clone();
    let everyone = move |_: Value, context: Context| {
        let others: Vec<Peer> = of.peers().into_iter().filter(|peer| peer != context.peer()).collect();
        async move {
            let mut names = Vec::new();
            for other in others {
                names.push(other.invoke::<_, String>("name", &()).await?);
            }
            HandlerResult::Ok(names)
        }
    };
    binder.handlers().add("everyone", everyone).expect("a new name");
    let connectors = ["a", "b", "c"].map(|name| {
        let builder = rig.builder().handle("name", move |_: Value, _| async move { HandlerResult::Ok(name) });
        rig.connect(builder, &binder.endpoints()[0])
    });
    for (connector, _) in &connectors {
        connector.peer().ready().await.expect("the binder is there");
    }
    rig.peers(&binder, 3).await;
    let mut names: Vec<String> =
        connectors[1].0.peer().invoke("everyone", &()).await.expect("the binder asks around");
    names.sort();
    assert_eq!(names, ["a", "c"]);
    for (connector, driver) in connectors {
        connector.shutdown(crate::rig::SOON).await;
        driver.join().await.expect("it ends well");
    }
    binder.shutdown(crate::rig::SOON).await;
    driver.join().await.expect("it ends well");
}
