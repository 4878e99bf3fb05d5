//! The future under which a tunnel runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use crate::hub::Hub;

/// The future that accepts and relays for a [`Tunnel`](crate::Tunnel) or a [`TunnelServer`](crate::TunnelServer). Await
/// it, or spawn it.
///
/// It resolves when the tunnel has been drained. Dropping it ends the tunnel: no connection is accepted or opened any
/// more, and each open one is reset at the next poll of its task. Dropping the handles does not end the tunnel.
#[must_use = "nothing is accepted, and no change is followed, unless the driver is awaited or spawned"]
pub struct TunnelDriver {
    hub: Arc<Hub>,
    run: BoxFuture<'static, ()>,
}

impl TunnelDriver {
    pub(crate) fn new(hub: Arc<Hub>, run: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { hub, run: Box::pin(run) }
    }
}

impl Future for TunnelDriver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.run.as_mut().poll(cx)
    }
}

impl Drop for TunnelDriver {
    fn drop(&mut self) {
        self.hub.close();
    }
}

impl std::fmt::Debug for TunnelDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunnelDriver").finish_non_exhaustive()
    }
}
