//! What the shared tests need of async-std.

use std::future::Future;
use std::time::Duration;

/// Only a safety net against hanging.
const LIMIT: Duration = Duration::from_secs(220);

/// Runs a test.
pub(crate) fn run(test: impl Future<Output = ()>) {
    async_std::task::block_on(async {
        async_std::future::timeout(LIMIT, test).await.expect("the test is not stuck");
    });
}

pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    async_std::task::spawn(task);
}
