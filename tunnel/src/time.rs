//! Waits for a duration, on a runtime's clock.

use std::future::Future;
use std::time::Duration;

use callosum_runtime::rt::{Runtime, from_now, sleep_until, until};

pub(crate) async fn sleep(runtime: &dyn Runtime, wait: Duration) {
    sleep_until(runtime, from_now(runtime, wait)).await;
}

/// The output of `future`, or `None` if it takes longer.
pub(crate) async fn within<F: Future>(runtime: &dyn Runtime, wait: Duration, future: F) -> Option<F::Output> {
    until(runtime, from_now(runtime, wait), future).await
}
