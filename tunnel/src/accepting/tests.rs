use std::collections::VecDeque;
use std::io;

use callosum_runtime::Endpoint;
use callosum_testkit::world::check;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use super::*;

/// Accepts, or fails with this error of the system, and then waits for ever.
struct Scripted(VecDeque<Result<(), i32>>);

impl Listener for Scripted {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxSocket, String)>> {
        let next = self.0.pop_front();
        Box::pin(async move {
            match next {
                Some(Ok(())) => {
                    Ok((Box::new(callosum_runtime::duplex(1).0) as BoxSocket, "ipc:///somewhere".to_owned()))
                }
                Some(Err(code)) => Err(io::Error::from_raw_os_error(code)),
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
        let mut events = hub.events.subscribe();
        let script = [Err(EMFILE), Err(EMFILE), Err(EMFILE), Ok(()), Err(EMFILE), Err(EMFILE)];
        let listener = Box::new(Scripted(script.into()));
        let mut accepted = 0;
        let forward = "forward".into();
        let accepting = accept_loop(&hub, &forward, listener, |_, _| accepted += 1);
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
