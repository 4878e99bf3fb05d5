//! The server side of tunnels: opens the connections and listeners that peers request, if they are allowed.
//!
//! Responsible for authorization, limits, and withdrawing rights; [`connect`] and [`listen`] open connections and
//! listeners. The idea: each grant is stored with the question to the authorizer, so that after a change the same
//! question is asked again, and what is no longer allowed is stopped.

mod connect;
mod counts;
mod grants;
mod held;
mod listen;
mod settings;
mod shared;
mod silent;

use std::fmt;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use settings::ServerSettings;

use callosum_runtime::rt::Runtime;
use callosum_runtime::{Builder, Drained, HandlerExists, Handlers, Method};
use futures_util::future::{Either, select};
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::connection::ConnectionState;
use crate::driver::TunnelDriver;
use crate::events::TunnelEvents;
use crate::hub::Hub;
use crate::totals::Totals;
use crate::{Authorizer, wire};
use held::Holdings;
use shared::Shared;
use silent::SilentLinks;

/// Rights about which an authorizer is asked again at the same time.
const CHECKS_AT_ONCE: usize = 64;

/// Opens the connections and listeners that peers request, if an [`Authorizer`] allows them. Cheap to clone; all clones
/// are the same.
///
/// It answers the methods `callosum.tunnel.connect` and `callosum.tunnel.listen` of the endpoint that it is [added
/// to](Self::add_to), in addition to the endpoint's other methods. Each connection is a call whose argument and result
/// are streams, and holds no slot under the endpoint's concurrency limit.
#[derive(Clone)]
pub struct TunnelServer {
    shared: Arc<Shared>,
}

impl TunnelServer {
    /// A server on the runtime of its endpoint ([`Builder::runtime`]), and the driver that follows changes of the
    /// authorizer. The server has no effect before it is added to an endpoint.
    pub fn new(
        runtime: &Arc<dyn Runtime>,
        authorizer: impl Authorizer,
        settings: ServerSettings,
    ) -> (Self, TunnelDriver) {
        let (hub, holdings) = (Hub::new(runtime.clone()), Arc::<Holdings>::default());
        let shared = Arc::new(Shared {
            hub: hub.clone(),
            authorizer: Box::new(authorizer),
            settings,
            grants: Arc::default(),
            counts: Arc::default(),
            connections: Arc::default(),
            listeners: Arc::default(),
            all_listeners: Arc::default(),
            waiting: Arc::default(),
            silent_links: SilentLinks::new(hub.clone(), holdings.clone()),
            holdings,
            changes: AtomicU64::new(0),
        });
        // Subscribe now, so that a change before the first poll of the driver is not missed.
        let changes = shared.authorizer.changes(&hub.runtime);
        let driver = TunnelDriver::new(hub, follow(shared.clone(), changes));
        (Self { shared }, driver)
    }

    /// Adds the methods of tunnels to an endpoint that is being built.
    pub fn add_to<S>(&self, builder: Builder<S>) -> Builder<S> {
        self.methods()
            .into_iter()
            .fold(builder, |builder, (name, method)| builder.handle_method(name, method))
    }

    /// Adds the methods of tunnels to a running endpoint.
    ///
    /// # Errors
    /// If it serves tunnels already.
    pub fn add_to_handlers(&self, handlers: &Handlers) -> Result<(), HandlerExists> {
        self.methods().into_iter().try_for_each(|(name, method)| handlers.add_method(name, method))
    }

    fn methods(&self) -> [(&'static str, Method); 2] {
        let connecting = self.shared.clone();
        let listening = self.shared.clone();
        let connect = Method::stream(move |body, responder, context| {
            connect::connect(connecting.clone(), body, responder, context)
        });
        let listen = Method::stream(move |body, responder, context| {
            listen::listen(listening.clone(), body, responder, context)
        });
        [(wire::CONNECT, connect), (wire::LISTEN, listen)]
    }

    /// The events from now on.
    pub fn events(&self) -> TunnelEvents {
        self.shared.hub.subscribe()
    }

    /// The current connections, in the order in which they began.
    pub fn connections(&self) -> Vec<ConnectionState> {
        self.shared.hub.states()
    }

    /// Counters of each user for each target and each listener, since the start.
    pub fn totals(&self) -> Vec<Totals> {
        self.shared.hub.totals.snapshot()
    }

    /// Opens no more connections, closes the listeners, and waits until all connections have ended. The connections
    /// that are open when the deadline has passed are reset. Then the driver resolves.
    ///
    /// Cancel safe: if the future is dropped, no more connections are opened, but none is reset.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.shared.hub.drain(deadline).await
    }
}

impl fmt::Debug for TunnelServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelServer").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

/// Revokes grants when the authorizer's rules change.
async fn follow(shared: Arc<Shared>, changes: Option<BoxStream<'static, ()>>) {
    let watching = async {
        let Some(mut changes) = changes else { return };
        while changes.next().await.is_some() {
            shared.changes.fetch_add(1, Ordering::AcqRel);
            // Several at a time, so that a slow decision delays few others.
            let checks = shared.grants.all().into_iter().map(|given| {
                let shared = shared.clone();
                async move { drop(shared.check_again(&given).await) }
            });
            stream::iter(checks).buffer_unordered(CHECKS_AT_ONCE).for_each(|_| ready(())).await;
        }
    };
    let over = shared.hub.until_over();
    if let Either::Left(((), over)) = select(pin!(watching), pin!(over)).await {
        over.await;
    }
}
