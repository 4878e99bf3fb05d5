//! The end of requests: a reply is sent in its order, or at once if the caller has given up.
//!
//! Responsible for the ends of requests, and for replies that are held until their order comes. The idea: the
//! order of replies is a promise to callers, so a caller that has given up needs no place in it. Its request
//! is forgotten as soon as no handler runs for it, and counts against no limit (PROTOCOL.md, O-18).
//! Otherwise, calls that time out behind a blocked key would fill the limits of their connection, and delay
//! calls with other keys.

use super::Endpoint;
use super::request::{Phase, Request, held_size};
use crate::error::Refusal;
use crate::event::{ConnectionEvent, StopReason};
use crate::ids::RequestId;
use crate::kept::shrink_if_empty;
use crate::reply::Reply;

impl Endpoint {
    /// A handler has ended: frees its slot and its key. Call it only once the handler has really stopped.
    /// Ignored if the request is not running.
    ///
    /// `reply` is `None` if the handler was stopped: the reply is then that of
    /// [`EndpointEvent::Withdrawn`](crate::EndpointEvent::Withdrawn), or [`Reply::Cancelled`]. The reply is
    /// sent at once if the caller has given up, and otherwise in its order. If the order has not come by the
    /// end of the next round of polls, the reply is held, and counts against
    /// [`EndpointConfig::max_held_reply_bytes`](crate::EndpointConfig::max_held_reply_bytes).
    pub fn finish(&mut self, request: RequestId, reply: Option<Reply>) {
        let Some(peer) = self.peers.get_mut(request.connection().0) else { return };
        let Some(found) = peer.requests.get_mut(request.number()) else { return };
        let Request::Running(running) = found else { return };
        // Whatever becomes of the reply, slot and key are free.
        self.scheduler.finish(request);
        match peer.phase {
            Phase::Open => {
                let reply = reply.or_else(|| running.withdrawn.take()).unwrap_or(Reply::Cancelled);
                // O-18: nobody waits for this reply in its order.
                if running.given_up {
                    return self.reply_at_once(request, reply);
                }
                *found = Request::Finished(reply);
                peer.running -= 1;
                self.finished.push_back(request);
            }
            // No reply: the handler's slot and key were all that was left of the request.
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
                // The first reason stays: it is the one that the handler was stopped for.
                running.withdrawn.get_or_insert(reply);
                running.given_up |= given_up;
                self.scheduler.withdraw(id);
            }
            Request::Waiting | Request::Finished(_) | Request::Held { .. } if given_up => {
                self.reply_at_once(id, reply);
            }
            Request::Waiting => {
                peer.waiting -= 1;
                // Not counted as held: it is small, and the limit on requests bounds how many there are.
                *request = Request::Held { reply, bytes: 0 };
                self.scheduler.finish(id);
            }
            // D-8: waiting for the order is not execution time, so the handler's reply stays.
            Request::Finished(_) | Request::Held { .. } => {}
        }
    }

    /// The connection does not pass a request to the host.
    pub(super) fn never_ran(&mut self, id: RequestId) {
        match self.get_mut(id) {
            // The host has answered it. Its answer has left, so it delays no other.
            Some(Request::Waiting) => drop(self.forget(id)),
            _ => self.finish(id, None),
        }
    }

    /// Sends the reply of a request that does not run, and forgets the request.
    fn reply_at_once(&mut self, request: RequestId, reply: Reply) {
        if self.forget(request) {
            self.events.push_back((request.connection(), ConnectionEvent::Reply { request, reply }));
        }
    }

    /// Forgets a request that does not run, and will not be released. Returns whether there was one.
    pub(super) fn forget(&mut self, request: RequestId) -> bool {
        self.scheduler.withdraw(request);
        let peer = self.peers.get_mut(request.connection().0);
        let found = peer.is_some_and(|peer| peer.remove(request.number()));
        self.requests -= usize::from(found);
        found
    }

    /// Holds the finished replies whose order has not come. They count against the limit of their connection;
    /// an ERROR replaces a reply that would exceed it. Not starting further handlers instead could deadlock:
    /// the replies may wait for one of these.
    pub(super) fn hold_finished(&mut self) {
        for id in self.finished.drain(..) {
            // It may have been released, or given up, after it was finished.
            let Some(peer) = self.peers.get_mut(id.connection().0) else { continue };
            let Some(request) = peer.requests.get_mut(id.number()) else { continue };
            let Request::Finished(reply) = request else { continue };
            let (held, limit) = (peer.held_bytes, self.max_held_reply_bytes);
            let reply = std::mem::replace(reply, Reply::Cancelled);
            let (reply, bytes) = match held_size(&reply) {
                None => (reply, 0),
                // A single reply may exceed the limit.
                Some(size) if held == 0 || size <= limit.saturating_sub(held) => (reply, size),
                Some(_) => {
                    let detail = format!("{held} bytes of replies are held already; the limit is {limit}");
                    (Refusal::ReplyTooLarge.reply(&detail), 0)
                }
            };
            peer.held_bytes += bytes;
            *request = Request::Held { reply, bytes };
        }
        shrink_if_empty(&mut self.finished);
    }
}
