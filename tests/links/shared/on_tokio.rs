//! What the shared tests need of tokio.

use std::future::Future;
use std::time::Duration;

/// Only a safety net against hanging.
const LIMIT: Duration = Duration::from_secs(220);

/// Runs a test on a runtime of its own, with which everything it has started ends.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("the test is not stuck") });
}

pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
