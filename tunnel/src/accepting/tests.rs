use std::collections::VecDeque;
use std::io;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use callosum_runtime::Endpoint;
use callosum_runtime::rt::Broadcast;
use callosum_testkit::world::check;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use super::*;

/// Accepts, or fails with this error, and then waits for ever.
struct Scripted(VecDeque<io::Result<()>>);

impl Listener for Scripted {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxSocket, String)>> {
        let next = self.0.pop_front();
        Box::pin(async move {
            match next {
                Some(Ok(())) => {
                    Ok((Box::new(callosum_runtime::duplex(1).0) as BoxSocket, "ipc:///somewhere".to_owned()))
                }
                Some(Err(error)) => Err(error),
                None => std::future::pending().await,
            }
        })
    }

    fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(Endpoint::Ipc("/somewhere".into()))
    }
}

#[test]
fn failures_to_accept_are_one_event_until_it_accepts_again() {
    const EMFILE: i32 = 24;
    check(0..1, |world| async move {
        let host = world.host("host");
        let hub = Hub::new(host.runtime());
        let mut events = hub.subscribe();
        let script = [Err(EMFILE), Err(EMFILE), Err(EMFILE), Ok(()), Err(EMFILE), Err(EMFILE)];
        let script = script.map(|result| result.map_err(io::Error::from_raw_os_error));
        let listener = Box::new(Scripted(script.into()));
        let mut accepted = 0;
        let forward = "forward".into();
        let accepting = accept_loop(&hub, &forward, listener, |_, _, _| accepted += 1);
        within(&*hub.runtime, Duration::from_secs(10), accepting).await;
        assert_eq!(accepted, 1);
        hub.close();
        let mut failures = 0;
        while let Some(event) = events.next().await {
            let TunnelEvent::AcceptFailed { error, .. } = event else { panic!("{event:?}") };
            assert_eq!(error.raw_os_error(), Some(EMFILE));
            failures += 1;
        }
        assert_eq!(failures, 2);
    });
}

/// An error of the application's listener: uses the tunnel's events when it is dropped, and may panic.
#[derive(Clone, Debug, thiserror::Error)]
#[error("it fails")]
struct Failure {
    hub: Weak<Hub>,
    dropped: Arc<AtomicUsize>,
    panics: bool,
}

impl Drop for Failure {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            drop(hub.subscribe());
        }
        self.dropped.fetch_add(1, Relaxed);
        assert!(!self.panics, "as it is told");
    }
}

#[test]
fn an_error_that_a_subscriber_misses_is_dropped_without_a_lock_and_may_panic() {
    const FAILURES: usize = Broadcast::<TunnelEvent>::CAPACITY + 3;
    for panics in [false, true] {
        check(0..1, |world| async move {
            let hub = Hub::new(world.host("host").runtime());
            let dropped = Arc::<AtomicUsize>::default();
            let failing = || {
                let (hub, dropped) = (Arc::downgrade(&hub), dropped.clone());
                Err(io::Error::other(Failure { hub, dropped, panics }))
            };
            let script = (0..FAILURES).flat_map(|_| [failing(), Ok(())]).collect();
            let unread = [hub.subscribe(), hub.subscribe()];
            let (mut accepted, forward) = (0, "forward".into());
            let accepting = accept_loop(&hub, &forward, Box::new(Scripted(script)), |_, _, _| accepted += 1);
            within(&*hub.runtime, Duration::from_secs(1_000), accepting).await;
            assert_eq!((accepted, dropped.load(Relaxed)), (FAILURES, 3));
            // Their destructors would panic here, one after the other.
            std::mem::forget(unread);
        });
    }
}
