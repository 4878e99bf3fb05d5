//! Executors that poll a task, or drop it, while they wake it.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use callosum_testkit::wake::{OnWake, Task};
use callosum_testkit::world::World;
use callosum_tunnel::{Authorizer, RuleSet, Rules, ServerSettings, Target, TunnelEvent, TunnelSettings};
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use crate::support::*;

fn target() -> Target {
    format!("{TARGET}:80").parse().unwrap()
}

/// Runs a test with either executor.
fn check<F: Future<Output = ()>>(run: impl Fn(Arc<World>, OnWake) -> F) {
    for on_wake in OnWake::BOTH {
        let world = Arc::new(World::new(0));
        world.run(run(world.clone(), on_wake));
    }
}

#[test]
fn of_a_task_that_waits_for_a_tunnel_to_drain() {
    check(async |world, on_wake| {
        let rig = Rig::new(&world).await;
        let (here, there) = rig.through().await;
        let (tunnel, serving) = (rig.tunnel.clone(), rig.serving.clone());
        let tasks = [
            Task::start(on_wake, async move { _ = tunnel.drain(60 * SECOND).await }),
            Task::start(on_wake, async move { _ = serving.drain(60 * SECOND).await }),
        ];
        drop((here, there));
        world.sleep(SECOND).await;
        assert!(tasks.iter().all(|task| task.is_gone()));
    });
}

#[test]
fn of_a_task_that_waits_for_events() {
    check(async |world, on_wake| {
        let rig = Rig::new(&world).await;
        let (mut first, others) = (rig.tunnel.events(), rig.tunnel.events());
        let task = Task::start(on_wake, async move { while first.next().await.is_some() {} });
        drop(rig.through().await);
        world.sleep(SECOND).await;
        rig.tunnel.drain(SECOND).await;
        assert!(task.is_gone());
        let told: Vec<_> = others.collect().await;
        assert!(matches!(told.last(), Some(TunnelEvent::Closed(_))), "{told:?}");
    });
}

/// A waker of an executor that has ended.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("there is no executor any more");
    }
}

#[test]
fn of_a_task_that_waits_for_events_whose_waker_panics() {
    check(async |world, on_wake| {
        let rig = Rig::new(&world).await;
        let (mut first, mut second, others) = (rig.tunnel.events(), rig.tunnel.events(), rig.tunnel.events());
        let panics = Waker::from(Arc::new(Panics));
        assert!(first.poll_next_unpin(&mut Context::from_waker(&panics)).is_pending());
        let task = Task::start(on_wake, async move { while second.next().await.is_some() {} });
        drop(rig.through().await);
        world.sleep(SECOND).await;
        rig.tunnel.drain(SECOND).await;
        assert!(task.is_gone());
        let (seen, told): (Vec<_>, Vec<_>) = (first.collect().await, others.collect().await);
        assert!(matches!(told.last(), Some(TunnelEvent::Closed(_))), "{told:?}");
        assert_eq!(seen.len(), told.len());
    });
}

/// The other connections are stopped all the same, though theirs come later.
#[test]
fn of_a_connection_that_is_stopped_whose_waker_panics() {
    check(async |world, _| {
        let rig = Rig::new(&world).await;
        let input = futures_util::stream::pending::<std::io::Result<Vec<u8>>>().into_async_read();
        let mut piping = Box::pin(rig.tunnel.pipe(target(), input, Vec::new()));
        let panics = Waker::from(Arc::new(Panics));
        let mut listener = listen(&rig.target, "0.0.0.0:80").await;
        assert!(piping.poll_unpin(&mut Context::from_waker(&panics)).is_pending());
        let _first = listener.accept().await.unwrap();
        drop(listener);
        let (mut here, _there) = rig.through().await;
        let draining = std::pin::pin!(rig.tunnel.drain(SECOND));
        let others = async {
            expect_reset(&mut here).await;
            drop(piping);
        };
        futures_util::future::join(draining, others).await;
    });
}

#[test]
fn of_a_driver_that_waits_for_forwards() {
    check(async |world, on_wake| {
        let (rig, serving, tunnelling) =
            Rig::undriven(&world, Anyone, ServerSettings::default(), TunnelSettings::default()).await;
        rig.server.spawn(serving);
        let task = Task::start(on_wake, tunnelling);
        // The driver may be gone before the forward is its own.
        let forwards = [rig.tunnel.local(free(), target()).await, rig.tunnel.local(free(), target()).await];
        assert_eq!(forwards.iter().all(Result::is_ok), on_wake == OnWake::Poll, "{forwards:?}");
        rig.tunnel.drain(SECOND).await;
        assert!(task.is_gone());
    });
}

#[test]
fn of_a_driver_that_waits_for_rules() {
    check(async |world, on_wake| {
        let rules = RuleSet::new(Rules::default()).anonymous("anyone");
        let (rig, serving, tunnelling) =
            Rig::undriven(&world, rules.clone(), ServerSettings::default(), TunnelSettings::default()).await;
        rig.client.spawn(tunnelling);
        let task = Task::start(on_wake, serving);
        rules.replace(Rules::default());
        assert_eq!(task.is_gone(), on_wake == OnWake::Drop);
        rules.replace(Rules::default());
        rig.serving.drain(SECOND).await;
        assert!(task.is_gone());
    });
}

#[test]
fn of_a_task_that_reads_the_rules_again_when_they_change() {
    check(async |world, on_wake| {
        let scratch = Scratch::new();
        let rules = RuleSet::open(scratch.write("")).unwrap();
        let mut changes = rules.changes(&world.host("server").runtime()).unwrap();
        let again = rules.clone();
        let task = Task::start(on_wake, async move {
            changes.next().await.unwrap();
            again.reload().unwrap();
        });
        rules.reload().unwrap();
        assert!(task.is_gone());
    });
}
