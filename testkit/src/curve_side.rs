//! One of two links under CURVE, and the assertions after each step.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use callosum_proto::Multipart;
use callosum_proto::zmtp::{CurvePublicKey, Link, LinkConfig, LinkError, LinkEvent, Mechanism};

/// Largest message that a link takes.
pub(super) const MAX_MESSAGE: usize = 4 << 10;
/// The longest frame that a link waits for: a command and its CURVE overhead, in bytes.
const MAX_FRAME: usize = (8 << 10) + 33;
/// Bytes of a frame's header that may arrive before its length is known.
const PARTIAL_HEAD: usize = 8;
/// Most bytes that either end sends in the handshake, with the greeting.
const MAX_SENT: usize = 1024;

pub(super) struct Side {
    link: Link,
    /// Bytes that the link has written and the attacker has not delivered.
    pub(super) wire: Vec<u8>,
    /// Messages that the other link has sent and this link has not reported.
    pub(super) due: VecDeque<Multipart>,
    other: CurvePublicKey,
    max_handshake: usize,
    asked: bool,
    established: bool,
    over: bool,
    /// Bytes in and out until the link was established.
    received: usize,
    sent: usize,
    /// Messages that the link has taken, and those that the other link has acknowledged.
    queued: u64,
    acknowledged: u64,
}

impl Side {
    pub(super) fn new(config: LinkConfig, other: CurvePublicKey, now: Instant) -> Self {
        let is_server = matches!(config.mechanism, Mechanism::CurveServer { .. });
        let mut side = Self {
            link: Link::new(&config, [is_server.into(); 32], now),
            wire: Vec::new(),
            due: VecDeque::new(),
            other,
            max_handshake: config.max_handshake_bytes,
            asked: false,
            established: false,
            over: false,
            received: 0,
            sent: 0,
            queued: 0,
            acknowledged: 0,
        };
        side.settle(now, Ok(()), false);
        side
    }

    pub(super) fn is_established(&self) -> bool {
        self.link.is_established()
    }

    /// Whether the link waits for a decision about the client.
    pub(super) fn asked(&self) -> bool {
        self.asked && !self.over
    }

    /// Delivers bytes. `admitted` says whether the client was admitted.
    pub(super) fn read(&mut self, now: Instant, bytes: &[u8], admitted: bool) {
        if bytes.is_empty() {
            return;
        }
        let result = self.link.handle_input(now, bytes);
        assert_eq!(self.over, result == Err(LinkError::Closed), "nothing follows the end");
        if !self.established {
            self.received += bytes.len();
        }
        self.settle(now, result, admitted);
    }

    /// Passes a decision to the link, whether or not it waits for one.
    pub(super) fn decide(&mut self, now: Instant, admit: bool, admitted: bool) {
        if admit {
            self.link.admit(now);
        } else {
            self.link.refuse(now);
        }
        // Reports an end of the link, without its timers.
        let result = self.link.handle_input(now, &[]);
        assert!(!self.asked() || admit || result.is_err(), "refused, and still open");
        self.asked = false;
        self.settle(now, result, admitted);
    }

    /// Fires the link's timers; returns whether the link has closed.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        let result = self.link.handle_timeout(now);
        let end = result.is_err();
        self.settle(now, result, false);
        end
    }

    /// Sends a message; returns whether it is larger than the other link accepts.
    pub(super) fn send(&mut self, other: &mut Self, message: Multipart) -> bool {
        let size = message.size();
        match self.link.send(message.clone()) {
            Ok(()) => {
                self.queued += 1;
                other.due.push_back(message);
            }
            Err(error) => {
                let expected = if self.over { LinkError::Closed } else { LinkError::NotEstablished };
                assert_eq!(error, expected);
                return false;
            }
        }
        self.write();
        size > MAX_MESSAGE
    }

    fn settle(&mut self, now: Instant, result: Result<(), LinkError>, admitted: bool) {
        while let Some(event) = self.link.poll_event() {
            self.take(event, admitted);
        }
        self.write();
        self.over |= result.is_err();
        if self.over {
            assert_eq!(self.link.poll_timeout(), None);
            assert!(!self.link.accepts_input() && !self.link.is_established());
            return;
        }
        assert_eq!(self.established, self.link.is_established());
        assert!(self.link.accepts_input(), "its output is empty");
        assert!(self.link.poll_timeout().is_none_or(|at| at > now), "would spin");
        if self.established {
            assert!(self.link.missing_input() <= MAX_FRAME, "{} bytes", self.link.missing_input());
        } else {
            assert!(self.received <= self.max_handshake + PARTIAL_HEAD, "{} bytes", self.received);
            assert!(self.link.missing_input() <= self.max_handshake);
            assert!(self.sent <= MAX_SENT, "{} bytes to an unauthenticated peer", self.sent);
        }
    }

    fn take(&mut self, event: LinkEvent, admitted: bool) {
        match event {
            LinkEvent::AuthenticationRequested { public_key } => {
                assert!(!self.asked && !self.established, "asked twice");
                assert_eq!(public_key, self.other);
                self.asked = true;
            }
            LinkEvent::Established { public_key, .. } => {
                assert!(admitted && !self.established, "established before the client was admitted");
                assert_eq!(public_key, Some(self.other));
                self.established = true;
            }
            LinkEvent::Message(message) => {
                assert!(admitted && self.established, "a message of an unauthenticated peer");
                assert!(message.size() <= MAX_MESSAGE, "{} bytes", message.size());
                assert_eq!(self.due.pop_front(), Some(message), "not what was sent next");
            }
            LinkEvent::Acknowledged { messages } => {
                assert!(self.established && messages > self.acknowledged && messages <= self.queued);
                self.acknowledged = messages;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn write(&mut self) {
        while self.link.pending_output() > 0 {
            let before = self.wire.len();
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = self.link.output(&mut slices);
            slices[..filled].iter().for_each(|slice| self.wire.extend_from_slice(slice));
            self.link.advance_output(self.wire.len() - before);
            if !self.established {
                self.sent += self.wire.len() - before;
            }
        }
    }
}
