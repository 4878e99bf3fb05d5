//! Waiting, on the clock of a runtime.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use callosum_runtime::rt::Runtime;

/// So much later; as good as never where the clock can't say when.
pub(crate) fn from_now(runtime: &dyn Runtime, wait: Duration) -> Instant {
    let now = runtime.now();
    now.checked_add(wait).unwrap_or(now + Duration::from_secs(1 << 30))
}

pub(crate) async fn sleep(runtime: &dyn Runtime, wait: Duration) {
    let mut timer = runtime.timer(from_now(runtime, wait));
    std::future::poll_fn(|cx| timer.as_mut().poll(cx)).await;
}

/// What `future` comes to, or `None` if it takes longer.
pub(crate) async fn within<F: Future>(runtime: &dyn Runtime, wait: Duration, future: F) -> Option<F::Output> {
    let mut timer = runtime.timer(from_now(runtime, wait));
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}
