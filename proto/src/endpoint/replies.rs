//! The end of requests: a reply is sent in its order, or at once if its caller has cancelled the request.
//!
//! Responsible for the ends of requests and for the replies that are held. The idea: the order of replies is
//! a promise to callers, so a caller that has gone needs no place in it. Its request is forgotten as soon as
//! no handler runs for it, wherever it waits, and counts against no limit: else a key that is stuck would
//! fill the limits of its connection with calls that timed out behind it, and hold up calls that have nothing
//! to do with that key (PROTOCOL.md, O-18).

use super::Endpoint;
use super::request::{Phase, Request, held_size};
use crate::error::Refusal;
use crate::event::{ConnectionEvent, StopReason};
use crate::ids::RequestId;
use crate::reply::Reply;

impl Endpoint {
    /// The handler has really ended: its slot and its key are free.
    ///
    /// `None` if it was stopped: the reply is the one of
    /// [`EndpointEvent::Withdrawn`](crate::EndpointEvent::Withdrawn), or [`Reply::Cancelled`]. The reply
    /// leaves at once if the caller has given the request up, else when its order comes. If that is not by
    /// the end of the next round of polls, it counts against
    /// [`EndpointConfig::max_held_reply_bytes`](crate::EndpointConfig::max_held_reply_bytes) from then on.
    pub fn finish(&mut self, request: RequestId, reply: Option<Reply>) {
        let Some(peer) = self.peers.get_mut(request.connection().0) else { return };
        let Some(found) = peer.requests.get_mut(request.number()) else { return };
        let Request::Running(running) = found else { return };
        self.scheduler.finish(request);
        match peer.phase {
            Phase::Open => {
                let reply = reply.or_else(|| running.withdrawn.take()).unwrap_or(Reply::Cancelled);
                if running.given_up {
                    return self.reply_at_once(request, reply);
                }
                *found = Request::Finished(reply);
                peer.running -= 1;
                self.finished.push_back(request);
            }
            Phase::Closed => {
                peer.remove(request.number());
                self.requests -= 1;
                if peer.requests.is_empty() {
                    self.peers.remove(request.connection().0);
                }
            }
        }
    }

    pub(super) fn withdraw(&mut self, id: RequestId, reason: StopReason, reply: Reply) {
        let Some(peer) = self.peers.get_mut(id.connection().0).filter(|peer| peer.is_open()) else { return };
        let Some(request) = peer.requests.get_mut(id.number()) else { return };
        let given_up = reason.is_given_up();
        match request {
            Request::Running(running) => {
                running.withdrawn.get_or_insert(reply);
                running.given_up |= given_up;
                self.scheduler.withdraw(id);
            }
            Request::Waiting | Request::Finished(_) | Request::Held { .. } if given_up => {
                self.reply_at_once(id, reply);
            }
            Request::Waiting => {
                peer.waiting -= 1;
                // Small, and as many as there may be requests: it does not count as held.
                *request = Request::Held { reply, bytes: 0 };
                self.scheduler.finish(id);
            }
            // The handler has finished in time; only the order of its reply has not come (D-8).
            Request::Finished(_) | Request::Held { .. } => {}
        }
    }

    /// Replies to a request that does not run, and forgets it.
    fn reply_at_once(&mut self, request: RequestId, reply: Reply) {
        self.scheduler.withdraw(request);
        let Some(peer) = self.peers.get_mut(request.connection().0) else { return };
        if peer.remove(request.number()) {
            self.requests -= 1;
            self.events.push_back((request.connection(), ConnectionEvent::Reply { request, reply }));
        }
    }

    /// Replies that have finished and whose order has not come count against their connection. Past the limit
    /// an ERROR takes the place of a reply: to start no more handlers instead could keep the very one from
    /// starting that all wait for.
    pub(super) fn hold_finished(&mut self) {
        for id in self.finished.drain(..) {
            let Some(peer) = self.peers.get_mut(id.connection().0) else { continue };
            let Some(request) = peer.requests.get_mut(id.number()) else { continue };
            let Request::Finished(reply) = request else { continue };
            let (held, limit) = (peer.held_bytes, self.max_held_reply_bytes);
            let reply = std::mem::replace(reply, Reply::Cancelled);
            let (reply, bytes) = match held_size(&reply) {
                None => (reply, 0),
                // One alone may be larger.
                Some(size) if held == 0 || size <= limit.saturating_sub(held) => (reply, size),
                Some(_) => {
                    let detail = format!("{held} bytes of replies are held already; the limit is {limit}");
                    (Reply::Error(Refusal::ReplyTooLarge.to_error(&detail)), 0)
                }
            };
            peer.held_bytes += bytes;
            *request = Request::Held { reply, bytes };
        }
    }
}
