//! Local forwards: listen here, connect on the other side.

use tracing::Instrument;

use super::{Forward, ForwardError, Tunnel, accepted, name};
use crate::accepting::{accept_loop, serve};
use crate::{ListenAddress, Reason, Target, wire};

impl Tunnel {
    /// Accepts connections here, and has the other side connect each to `target` (`ssh -L`).
    ///
    /// It accepts once this returns and the driver runs. Connections whose target can't be reached are reset.
    ///
    /// Cancel safe: dropped before it returns, it leaves nothing bound.
    ///
    /// # Errors
    /// If the address can't be bound, or the tunnel is shut down. Whether the other side allows it shows with each connection.
    pub async fn local(&self, listen: ListenAddress, target: Target) -> Result<Forward, ForwardError> {
        let shared = self.shared.clone();
        let (listener, bound) = shared.bind(&listen).await?;
        let name = name(&bound, &target);
        let forward = name.clone();
        let accepting = async move {
            accept_loop(&shared.hub, &forward, listener, |socket, _, source| {
                let Ok(mut guard) = shared.begin(accepted(&forward, Some(target.clone()), source)) else {
                    return;
                };
                let Ok(metadata) = wire::connect(Some(&target), source) else {
                    return guard.set(Err(Reason::Failed));
                };
                let (opener, span) = (shared.opener(), guard.span.clone());
                let serving = async move {
                    serve(guard, opener, socket, (wire::CONNECT, metadata), None).await.ok();
                };
                shared.hub.runtime.spawn(Box::pin(serving.instrument(span)));
            })
            .await;
        };
        self.shared.run(name, bound, accepting)
    }
}
