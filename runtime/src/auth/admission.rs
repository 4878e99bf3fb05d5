//! Asks the authenticator to check a client when it connects, and again after each change.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use futures_util::{FutureExt, future};

use super::security::{Answer, Panicked};
use super::{Admission, AuthenticationError, CurvePublicKey};
use crate::PeerId;
use crate::core::Core;
use crate::error::DisconnectCause;
use crate::node::Node;
use crate::peer::PeerShared;
use crate::rt::{from_now, until, yield_now};

/// Clients that are asked about again at a time: a change concerns all of them, and what answers may be slow.
const MAX_CHECKS: usize = 64;

/// The outcome of an admission check.
pub(crate) enum Verdict {
    /// The peer's state says as what.
    Admitted,
    Refused,
    Panicked,
}

/// A client whose handshake waits for the authenticator.
pub(crate) struct Admitting {
    pub(crate) public_key: CurvePublicKey,
    address: String,
    round: u64,
    answer: BoxFuture<'static, Answer>,
}

impl Admitting {
    pub(crate) fn new(core: &Core, public_key: CurvePublicKey, address: &str) -> Self {
        let security = &core.config.security;
        Self {
            public_key,
            address: address.to_owned(),
            round: security.round.load(SeqCst),
            answer: security.check(public_key, address),
        }
    }

    pub(crate) fn poll(&mut self, peer: &PeerShared, cx: &mut Context<'_>) -> Poll<Verdict> {
        let core = &peer.core;
        loop {
            let identity = match std::task::ready!(self.answer.poll_unpin(cx)) {
                Ok(Admission::Admit(identity)) => identity,
                Ok(Admission::Refuse) => return Poll::Ready(Verdict::Refused),
                Err(Panicked) => return Poll::Ready(Verdict::Panicked),
            };
            peer.lock().admit(&self.address, self.public_key, identity);
            // From here on, checks after a change include this client. A verdict from before that may be outdated.
            if core.config.security.round.load(SeqCst) == self.round {
                return Poll::Ready(Verdict::Admitted);
            }
            *self = Self::new(core, self.public_key, &self.address);
        }
    }
}

/// Asks about every client again, whenever the authenticator says that something has changed. Never ends.
///
/// Changes count from this call on, not from the first poll: call it before the first client is admitted.
pub(crate) fn watch_changes(node: &Arc<Node>) -> BoxFuture<'static, ()> {
    match node.core.config.security.changes(&node.core.runtime) {
        Some(changes) => follow(node.clone(), changes).boxed(),
        None => future::pending().boxed(),
    }
}

async fn follow(node: Arc<Node>, mut changes: BoxStream<'static, ()>) {
    // A future that never ends, so that the set is never empty.
    let mut checks = FuturesUnordered::from_iter([future::pending().boxed()]);
    let mut waiting = VecDeque::new();
    // Changes may come faster than answers: each peer is asked about once at a time.
    let mut known = BTreeSet::new();
    loop {
        // Poll both, so that neither starves the other.
        let (change, checked) =
            future::poll_fn(|cx| match (changes.poll_next_unpin(cx), checks.poll_next_unpin(cx)) {
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                both => Poll::Ready(both),
            })
            .await;
        if let Poll::Ready(Some(peer)) = checked {
            known.remove(&peer);
        }
        match change {
            Poll::Ready(Some(())) => {
                node.core.config.security.round.fetch_add(1, SeqCst);
                // List the peers now, and not when they are checked: a client that is admitted later is checked after the change anyway.
                let admitted = node.everyone().into_iter().filter(|peer| admitted_as(peer).is_some());
                waiting.extend(admitted.map(|peer| peer.id).filter(|peer| known.insert(*peer)));
                // Yield, or a fast series of changes would starve other tasks.
                yield_now().await;
            }
            Poll::Ready(None) => changes = stream::pending().boxed(),
            Poll::Pending => {}
        }
        // One of them is the future that never ends.
        while checks.len() <= MAX_CHECKS
            && let Some(id) = waiting.pop_front()
        {
            match node.anyone(id).and_then(|peer| Some((admitted_as(&peer)?, peer))) {
                Some((client, peer)) => checks.push(check_again(node.clone(), peer, client).boxed()),
                // The peer has disconnected meanwhile.
                None => _ = known.remove(&id),
            }
        }
    }
}

/// The key and the address of a client that has been admitted.
fn admitted_as(peer: &PeerShared) -> Option<(CurvePublicKey, String)> {
    let state = peer.lock();
    let info = state.info();
    info.identity.as_ref()?;
    Some((info.public_key?, info.address.clone()))
}

/// Repeats the check until no change happened during it; returns the peer that was checked.
async fn check_again(
    node: Arc<Node>,
    peer: Arc<PeerShared>,
    (public_key, address): (CurvePublicKey, String),
) -> PeerId {
    let security = &node.core.config.security;
    let cause = loop {
        let round = security.round.load(SeqCst);
        let limit = from_now(&*node.core.runtime, node.core.config.connection.handshake_timeout);
        match until(&*node.core.runtime, limit, security.check(public_key, &address)).await {
            Some(Ok(Admission::Admit(_))) if security.round.load(SeqCst) != round => {}
            Some(Ok(Admission::Admit(identity))) => {
                peer.lock().admit(&address, public_key, identity);
                return peer.id;
            }
            Some(Ok(Admission::Refuse)) => break AuthenticationError::Revoked { public_key },
            Some(Err(Panicked)) => break AuthenticationError::CheckPanicked { public_key },
            None => break AuthenticationError::CheckTimedOut { public_key },
        }
    };
    peer.cut(DisconnectCause::Authentication(cause));
    peer.id
}

impl std::fmt::Debug for Admitting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitting").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}
