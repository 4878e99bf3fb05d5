//! What the peer sends: probes, requests, cancellations, replies.

use std::time::Instant;

use bytes::Bytes;

use super::outgoing::DEFAULT_URGENCY;
use super::requests::Name;
use super::{
    Anomaly, Body, CloseCause, Dialect, Event, Liveness, Outcome, PingId, Refusal, Request, Session, State,
    Timer,
};
use crate::message::Payload;
use crate::wire::{self, DecodeError, Header, Hello, MessageType, PING, PONG, UPPER};
use crate::{Metadata, Multipart, Role};

/// Largest PING that is answered, in bytes of its header and body.
const MAX_PING: usize = 64 * 1024;

impl Session {
    /// Takes a message of the link. Whatever is wrong with it is reported as an [`Event::Anomaly`] and, where the
    /// peer can know which call it was, answered. Ignored while there is no link.
    pub fn handle_message(&mut self, now: Instant, message: Multipart) {
        if !self.is_linked() {
            return;
        }
        self.liveness = Liveness { last_heard: now, unanswered: 0 };
        self.clock = now;
        if self.speaks(Dialect::Two) && message.frames().len() == 1 {
            return match message.into_one() {
                Some(packet) => self.handle_packet(now, &packet),
                None => self.report(Anomaly::NotAMessage),
            };
        }
        let Some([marker, header, body]) = message.into_three() else {
            return self.report(Anomaly::NotAMessage);
        };
        if marker == UPPER && !self.speaks(Dialect::Two) {
            self.handle_upper(now, &header, body);
        } else if marker == PING {
            self.handle_ping(now, header, body);
        } else if marker == PONG {
            self.handle_pong(now, &header, &body);
        } else {
            self.report(Anomaly::NotAMessage);
        }
    }

    pub(super) fn report(&mut self, anomaly: Anomaly) {
        self.events.push_back(Event::Anomaly(anomaly));
    }

    fn handle_ping(&mut self, now: Instant, header: Bytes, body: Bytes) {
        let hello = match self.role {
            Role::Binder if !header.is_empty() => Hello::decode(&header).ok(),
            _ => None,
        };
        let first = self.role == Role::Binder && self.state == State::Handshaking;
        let mut answer = header;
        if let Some(hello) = hello {
            match self.state {
                State::Handshaking => {
                    answer = self.hello().encode();
                    self.establish(Some(hello), now);
                }
                _ if self.peer.as_ref() == Some(&hello) => answer = self.hello().encode(),
                _ => return self.close(CloseCause::PeerRestarted),
            }
        } else if first {
            self.establish(None, now);
        }
        let size = answer.len() + body.len();
        if size > MAX_PING {
            return self.report(Anomaly::OversizePing(size));
        }
        // Copies: a frame may be a small part of a block that nothing counts.
        let copy = |frame: &Bytes| Bytes::copy_from_slice(frame);
        let pong = Multipart::new(PONG, copy(&answer), copy(&body));
        let pushed = if first { self.outbox.push_first_pong(pong) } else { self.outbox.push_pong(pong) };
        if pushed.is_err() {
            self.close(CloseCause::PeerNotReading);
        }
    }

    fn handle_pong(&mut self, now: Instant, header: &Bytes, body: &Bytes) {
        if self.state == State::Handshaking && self.role == Role::Connector && !header.is_empty() {
            let Ok(hello) = Hello::decode(header) else {
                return self.report(Anomaly::NotAMessage);
            };
            if !body.is_empty() && body[..] != self.nonce {
                // It answers another, whose place on the link this side has taken.
                return self.report(Anomaly::NotAMessage);
            }
            // An echo of our own hello is what a peer sends that does not know what a hello is.
            let echo = hello.nonce == self.nonce;
            return self.establish((!echo).then_some(hello), now);
        }
        let Ok(ping) = <[u8; 8]>::try_from(&body[..]).map(u64::from_be_bytes) else { return };
        // Nor is it an answer to a probe that has not left.
        if header.is_empty()
            && let Some(sent) = self.pings.get(&ping).copied().flatten()
        {
            self.pings.remove(&ping);
            let round_trip = now.saturating_duration_since(sent);
            let shortest = &mut self.exchanges.round_trip;
            *shortest = Some(shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
            self.events.push_back(Event::Pong { ping: PingId(ping), round_trip });
            if self.speaks(Dialect::Two) {
                self.queue_first_ping();
            }
        }
    }

    fn handle_upper(&mut self, now: Instant, header: &Bytes, body: Bytes) {
        let header = match wire::decode_header(header) {
            Ok(header) => header,
            Err(error) => return self.report(Anomaly::Header(error)),
        };
        if self.state == State::Handshaking && self.role == Role::Binder {
            self.establish(None, now);
        }
        match header.kind {
            MessageType::Function => self.handle_function(header, body),
            MessageType::Cancel => match self.requests.find(&header.id) {
                Some(id) if self.requests.cancel(id) => self.events.push_back(Event::CancelRequested(id)),
                _ => self.report(Anomaly::UnknownCancel),
            },
            _ => self.handle_reply(&header, body),
        }
    }

    fn handle_function(&mut self, header: Header, body: Bytes) {
        if self.requests.find(&header.id).is_some() {
            return self.report(Anomaly::DuplicateRequest);
        }
        if self.draining {
            return self.refuse(
                Name::One(header.id),
                Refusal::ShuttingDown,
                "this endpoint is shutting down",
            );
        }
        if self.requests.len() >= self.config.max_requests {
            return self.refuse(
                Name::One(header.id),
                Refusal::Busy,
                "too many requests of this peer are open",
            );
        }
        match wire::decode_body(&header, body, self.config.max_body) {
            Ok(Payload::Function(body)) => {
                let (method, key) = (header.id.method.clone(), header.id.key.clone());
                let id = self.requests.insert(Name::One(header.id), DEFAULT_URGENCY, None);
                let (body, metadata, deadline) = (Body::Whole(body), Metadata::new(), None);
                self.events.push_back(Event::Request(Request { id, method, key, body, metadata, deadline }));
            }
            Ok(_) => unreachable!("decode_body returns the payload of the header's type"),
            Err(error) => {
                let refusal = match error {
                    DecodeError::TooLarge { .. } => Refusal::BodyTooLarge,
                    _ => Refusal::MalformedBody,
                };
                let detail = error.to_string();
                self.report(Anomaly::Body(error));
                self.refuse(Name::One(header.id), refusal, &detail);
            }
        }
    }

    fn handle_reply(&mut self, header: &Header, body: Bytes) {
        let Some(call) = self.calls.take_replied(&header.id) else {
            return self.report(Anomaly::UnknownReply);
        };
        self.timers.stop(Timer::Call(call.id), call.deadline);
        let outcome = match wire::decode_body(header, body, self.config.max_body) {
            Ok(Payload::Result(body)) => Outcome::Result(body),
            Ok(Payload::Failure(info)) => Outcome::Failure(info),
            Ok(Payload::Error(info)) => Outcome::Error(info),
            Ok(Payload::Cancelled) => Outcome::Cancelled,
            Ok(Payload::Function(_) | Payload::Cancel) => {
                unreachable!("decode_body returns the payload of the header's type, which is a reply's")
            }
            Err(error) => Outcome::Malformed(error),
        };
        self.end(call.id, outcome);
    }
}
