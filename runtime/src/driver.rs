//! The driver: the future that owns the tasks of an endpoint.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use crate::error::{Drained, DriverError};
use crate::node::Node;

/// The future that accepts, connects, reads, writes and runs handlers. Await it, or spawn it.
///
/// It resolves when the endpoint has been shut down and all its tasks have ended, including handlers in their [grace
/// period](crate::Context::set_cancel_grace); for a connector that does not reconnect, when its connection has ended;
/// or at once, with a [`DriverError`], if the endpoint was built in a way that can't work.
///
/// Dropping the driver ends the endpoint: every call ends with an error, and every handler is stopped at its next
/// await, without a grace period. Dropping the handles, a [`Binder`](crate::Binder) or [`Connector`](crate::Connector),
/// does not end the endpoint: then only dropping the driver ends it.
///
/// The driver may be moved to another task between two polls.
#[must_use = "nothing happens unless the driver is awaited or spawned"]
pub struct Driver {
    node: Arc<Node>,
    run: BoxFuture<'static, Result<(), DriverError>>,
}

impl Driver {
    pub(crate) fn new(
        node: Arc<Node>,
        run: impl Future<Output = Result<(), DriverError>> + Send + 'static,
    ) -> Self {
        let after = node.clone();
        let run = Box::pin(async move {
            let result = match &after.core.config.handler_exists {
                Some(error) => Err(error.clone().into()),
                None => run.await,
            };
            after.finish(Drained::Completely);
            after.core.tasks.wait_until_none().await;
            result
        });
        Self { node, run }
    }
}

impl Future for Driver {
    type Output = Result<(), DriverError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.run.as_mut().poll(cx)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.node.finish(Drained::DeadlinePassed);
        // The driver is gone, so handlers get no time to clean up.
        self.node.core.dispatcher.abort();
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
