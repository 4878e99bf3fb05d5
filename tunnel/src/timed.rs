//! Relays with a timeout for opening, and one for idle connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use callosum_runtime::rt::{Runtime, Timer, from_now};

use crate::live::{Live, Outcome};
use crate::relay::Relay;
use crate::{End, Reason};

/// How long a connection may take, and rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Until the other side has connected.
    pub(crate) open: Duration,
    /// Without a byte in either direction.
    pub(crate) idle: Option<Duration>,
}

/// Relays to the end.
pub(crate) async fn relay(runtime: &dyn Runtime, live: &Live, times: Times, mut relay: Relay) -> Outcome {
    let mut opening = (!live.is_open()).then(|| runtime.timer(from_now(runtime, times.open)));
    let mut idle = times.idle.map(|timeout| Idle::new(runtime, timeout));
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = relay.poll(cx) {
            return Poll::Ready(outcome);
        }
        if live.is_open() {
            opening = None;
        }
        if let Some(opening) = &mut opening {
            return opening.as_mut().poll(cx).map(|()| Err(Reason::TimedOut));
        }
        match &mut idle {
            Some(idle) => idle.poll(runtime, live, cx).map(Ok),
            None => Poll::Pending,
        }
    })
    .await
}

/// Finds out that nothing has moved. The timer is set again only when it goes off, not with each byte.
struct Idle {
    timeout: Duration,
    timer: Pin<Box<dyn Timer>>,
    moved: [u64; 2],
    since: Instant,
}

impl Idle {
    fn new(runtime: &dyn Runtime, timeout: Duration) -> Self {
        let (timer, since) = (runtime.timer(from_now(runtime, timeout)), runtime.now());
        Self { timeout, timer, moved: [0; 2], since }
    }

    fn poll(&mut self, runtime: &dyn Runtime, live: &Live, cx: &mut Context<'_>) -> Poll<End> {
        let moved = live.moved();
        if moved != self.moved {
            (self.moved, self.since) = (moved, runtime.now());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let Some(end) = self.since.checked_add(self.timeout) else { return Poll::Pending };
            if end <= runtime.now() {
                return Poll::Ready(End::Idle);
            }
            self.timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}
