//! Closing links that have fallen silent, when their user needs what they hold.
//!
//! A link that is lost without FIN or RST (a middlebox forgets it, a cable is pulled) holds its listeners and its shares until the
//! keepalive closes it, after 90 s by default. Its client is often back long before. So when a client asks for an address that is in
//! use, or is refused for a limit, those of its user's other links that hold the address or a share of that limit are probed, and one
//! that stays silent is closed. A request for an address waits for that. What is over a limit is refused at once, since what waits would
//! be under no limit.
//!
//! The probe, and not the request, decides: of two clients of one user that both run, each answers, so neither loses anything to the
//! other, however often it asks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use callosum_runtime::Peer;
use callosum_runtime::auth::CurvePublicKey;
use futures_util::future::{join, join_all};
use parking_lot::Mutex;

use super::held::{Holdings, Scarce};
use crate::Requester;
use crate::hub::Hub;
use crate::time::{sleep, within};

/// How long a link that is probed may be silent. Several round trips of the slowest networks (a satellite's is 0.6 s), and a fraction of
/// what the keepalive takes.
const PROBE: Duration = Duration::from_secs(5);

/// If the timer of a probe fires so much too late, this process has stalled, and what the peer has sent may be unread.
const LATE: Duration = Duration::from_secs(1);

/// Until a probe is tried again for which there were too many others.
const RETRY: Duration = Duration::from_secs(1);

/// How long the handlers of a closed link may take to give up what they hold.
const FREED: Duration = Duration::from_secs(2);

/// A caller that lacked something: user, key, and what it was.
type Lacking = (String, Option<CurvePublicKey>, Scarce);

/// Finds links that have fallen silent, and closes them.
pub(super) struct SilentLinks {
    hub: Arc<Hub>,
    holdings: Arc<Holdings>,
    /// Callers that were refused for a limit not long ago.
    probing: Mutex<BTreeSet<Lacking>>,
}

/// An entry in [`SilentLinks::probing`], until this is dropped.
struct Entry {
    links: Arc<SilentLinks>,
    lacking: Lacking,
}

impl SilentLinks {
    pub(super) fn new(hub: Arc<Hub>, holdings: Arc<Holdings>) -> Arc<Self> {
        Arc::new(Self { hub, holdings, probing: Mutex::default() })
    }

    /// Closes those of the requester's other links that hold this and stay silent for [`PROBE`], and waits until it is free.
    pub(super) async fn close(&self, requester: &Requester, what: &Scarce) {
        let links = self.holdings.other_links(requester, what);
        let closing = links.values().map(async |link| {
            self.close_if_silent(link, requester).await;
            (!link.is_connected()).then(|| link.clone())
        });
        let closed: Vec<_> = join_all(closing).await.into_iter().flatten().collect();
        within(&*self.hub.runtime, FREED, self.holdings.until_free(requester, what, &closed)).await;
    }

    /// The same in the background, once in [`PROBE`] for each caller and what it lacks: a flood of requests over a limit is not one of
    /// probes.
    pub(super) fn start_closing(self: &Arc<Self>, requester: &Requester, what: Scarce) {
        let Some(user) = requester.user() else { return };
        if self.hub.is_draining() {
            return;
        }
        let lacking = (user.to_owned(), requester.peer.info().public_key, what);
        if !self.probing.lock().insert(lacking.clone()) {
            return;
        }
        let (entry, requester) = (Entry { links: self.clone(), lacking }, requester.clone());
        self.hub.runtime.spawn(Box::pin(async move {
            let Entry { links, lacking: (_, _, what) } = &entry;
            let closing = links.close(&requester, what);
            links.hub.unless_draining(join(closing, sleep(&*links.hub.runtime, PROBE))).await;
        }));
    }

    async fn close_if_silent(&self, link: &Peer, requester: &Requester) {
        // Another request may have closed it.
        if self.is_silent(link).await && link.is_connected() {
            let user = requester.user();
            tracing::warn!(user, link = %link.id(), "closing a silent link: its user needs what it holds");
            link.disconnect();
        }
    }

    /// Whether nothing comes from it for [`PROBE`], though it is asked to answer.
    async fn is_silent(&self, link: &Peer) -> bool {
        let runtime = &*self.hub.runtime;
        let received = || link.stats().bytes_received;
        loop {
            let (before, since) = (received(), runtime.now());
            let answered = async {
                // Fails if the link has ended, or too many others wait for an answer already.
                while link.ping().await.is_err() && link.is_connected() {
                    sleep(runtime, RETRY).await;
                }
            };
            let answered = within(runtime, PROBE, answered).await.is_some();
            // What the peer sends meanwhile is an answer, too: behind much that is being sent, the probe itself may take longer.
            if answered || received() != before {
                return false;
            }
            if runtime.now().saturating_duration_since(since) < PROBE + LATE {
                return true;
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.links.probing.lock().remove(&self.lacking);
    }
}
