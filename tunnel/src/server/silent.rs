//! Closing links that have fallen silent, when their user needs what they hold.
//!
//! A link that is lost without FIN or RST (a middlebox forgets it, a cable is pulled) holds its listeners and its shares until the
//! keepalive closes it, after 90 s by default. Its client is often back long before. So when a client asks for an address that is in
//! use, or is refused for a limit that its user has reached, the user's other links are probed, and one that stays silent is closed. A
//! request for an address waits for that. What is over a limit is refused at once, since what waits would be under no limit.
//!
//! The probe, and not the request, decides: of two clients of one user that both run, each answers, so neither loses anything to the
//! other, however often it asks.

use std::sync::Arc;
use std::time::Duration;

use callosum_runtime::Peer;
use futures_util::future::join_all;

use super::shared::Shared;
use crate::Requester;
use crate::time::within;

/// How long a link that is probed may be silent. Several round trips of the slowest networks (a satellite's is 0.6 s), and a fraction of
/// what the keepalive takes.
const PROBE: Duration = Duration::from_secs(5);

impl Shared {
    /// Closes the requester's other links that stay silent for [`PROBE`], and waits until what they held is free.
    pub(super) async fn close_silent_links(&self, requester: &Requester) {
        let links = self.grants.other_links(requester);
        join_all(links.iter().map(|link| self.close_if_silent(link, requester))).await;
        self.grants.until_free(|holder| links.contains(holder) && !holder.is_connected()).await;
    }

    /// The same in the background. Once at a time for each user: a flood of requests over a limit is not one of probes.
    pub(super) fn start_closing_silent_links(self: &Arc<Self>, requester: &Requester) {
        let Some(user) = requester.user().map(str::to_owned) else { return };
        if !self.probing.lock().insert(user.clone()) {
            return;
        }
        let (shared, requester) = (self.clone(), requester.clone());
        self.hub.runtime.spawn(Box::pin(async move {
            shared.hub.unless_over(shared.close_silent_links(&requester)).await;
            shared.probing.lock().remove(&user);
        }));
    }

    async fn close_if_silent(&self, link: &Peer, requester: &Requester) {
        let received = || link.stats().bytes_received;
        let before = received();
        let answered = async {
            // Fails if the link has ended, or too many others wait for an answer already: then wait with them.
            if link.ping().await.is_err() && link.is_connected() {
                std::future::pending().await
            }
        };
        let answered = within(&*self.hub.runtime, PROBE, answered).await.is_some();
        // What the peer sends meanwhile is an answer, too: behind much that is being sent, the probe itself may take longer.
        if !answered && received() == before && link.is_connected() {
            let user = requester.user();
            tracing::warn!(user, link = %link.id(), "closing a silent link: its user needs what it holds");
            link.disconnect();
        }
    }
}
