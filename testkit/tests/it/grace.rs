//! How long cancelled handlers may clean up, on virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use callosum_runtime::{Context, HandlerResult, Limits};
use callosum_testkit::world::World;
use futures_util::future::join_all;

const SECOND: Duration = Duration::from_secs(1);

/// Counts the handlers that have not been dropped.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A peer that calls so many handlers, each of which wants an hour to clean up, and crashes: how many are left after a second,
/// and after the most that they may have.
fn left_behind(calls: usize) -> (usize, usize) {
    let world = World::new(calls as u64);
    let (server, client) = (world.host("server"), world.host("client"));
    let alive = Arc::new(AtomicUsize::new(0));
    world.run(async {
        let count = alive.clone();
        let linger = move |(): (), context: Context| {
            let alive = Alive::new(&count);
            async move {
                let _alive = alive;
                context.set_cancel_grace(3_600 * SECOND);
                std::future::pending::<HandlerResult<()>>().await
            }
        };
        let limits = Limits::default().max_concurrency(4_000).max_queue(4_000);
        let builder = server.builder().limits(limits).max_cancel_grace(60 * SECOND).handle("linger", linger);
        let (_binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
        server.spawn(async { drop(driver.await) });
        let (connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        let peer = connector.peer().clone();
        client.spawn(async move {
            join_all((0..calls).map(|_| peer.invoke::<_, ()>("linger", &()).into_future())).await;
        });
        world.sleep(SECOND).await;
        assert_eq!(alive.load(Relaxed), calls);
        client.crash();
        world.sleep(SECOND).await;
        let after = alive.load(Relaxed);
        world.sleep(60 * SECOND).await;
        (after, alive.load(Relaxed))
    })
}

#[test]
fn a_grace_period_has_a_limit() {
    assert_eq!(left_behind(10), (10, 0));
}

#[test]
fn a_peer_that_has_gone_leaves_no_more_than_a_thousand_handlers_behind() {
    assert_eq!(left_behind(1_500), (1_000, 0));
}
