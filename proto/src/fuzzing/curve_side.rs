//! One of the two links under CURVE, and what is asserted of it after each step.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use bytes::Bytes;

use crate::Multipart;
use crate::zmtp::{CurvePublicKey, Decision, Link, LinkConfig, LinkError, LinkEvent, Mechanism, SendError};

/// Largest message that a link takes.
pub(super) const MAX_MESSAGE: usize = 4 << 10;
/// A frame that is not longer than a command, and the box around it.
const MAX_FRAME: usize = (8 << 10) + 33;
/// Of a frame's head, what may be there before its length is known.
const PARTIAL_HEAD: usize = 8;
/// Greeting, and the longest of what either end says in the handshake.
const MAX_SAID: usize = 1024;

pub(super) struct Side {
    link: Link,
    /// What the link has written, and has not been carried yet.
    pub(super) wire: Vec<u8>,
    /// What the other has sent, and has not come out here.
    pub(super) due: VecDeque<Multipart>,
    other: CurvePublicKey,
    max_handshake: usize,
    asked: bool,
    established: bool,
    over: bool,
    /// Bytes in and out until the link was established.
    heard: usize,
    said: usize,
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
            heard: 0,
            said: 0,
        };
        side.settle(now, Ok(()), false);
        side
    }

    pub(super) fn is_established(&self) -> bool {
        self.link.is_established()
    }

    /// Whether a question waits for its answer.
    pub(super) fn asked(&self) -> bool {
        self.asked && !self.over
    }

    /// `admitted`: whether the client has been.
    pub(super) fn read(&mut self, now: Instant, bytes: &[u8], admitted: bool) {
        if bytes.is_empty() {
            return;
        }
        let result = self.link.handle_input(now, Bytes::copy_from_slice(bytes));
        assert_eq!(self.over, result == Err(LinkError::Closed), "the end is the end");
        if !self.established {
            self.heard += bytes.len();
        }
        self.settle(now, result, admitted);
    }

    /// Answers, whether or not there is a question.
    pub(super) fn decide(&mut self, now: Instant, decision: Decision, admitted: bool) {
        let result = self.link.authenticate(now, decision);
        assert!(!self.asked() || decision == Decision::Admit || result.is_err(), "refused, and goes on");
        self.asked = false;
        self.settle(now, result, admitted);
    }

    /// Whether this is the end.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        let result = self.link.handle_timeout(now);
        let end = result.is_err();
        self.settle(now, result, false);
        end
    }

    /// Whether the message is more than the other takes.
    pub(super) fn send(&mut self, other: &mut Self, message: Multipart) -> bool {
        let size = message.size();
        match self.link.send(message.clone()) {
            Ok(()) => other.due.push_back(message),
            Err(error) => {
                let expected = if self.over { SendError::Closed } else { SendError::NotReady };
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
        assert!(self.link.accepts_input(), "all that it wrote was taken");
        assert!(self.link.poll_timeout().is_none_or(|at| at > now), "would spin");
        if self.established {
            assert!(self.link.missing_input() <= MAX_FRAME, "{} bytes", self.link.missing_input());
        } else {
            assert!(self.heard <= self.max_handshake + PARTIAL_HEAD, "{} bytes", self.heard);
            assert!(self.link.missing_input() <= self.max_handshake);
            assert!(self.said <= MAX_SAID, "{} bytes to nobody in particular", self.said);
        }
    }

    fn take(&mut self, event: LinkEvent, admitted: bool) {
        match event {
            LinkEvent::AuthenticationRequested { public_key } => {
                assert!(!self.asked && !self.established, "asked twice");
                assert_eq!(public_key, self.other);
                self.asked = true;
            }
            LinkEvent::Established(peer) => {
                assert!(admitted && !self.established, "established without the server's leave");
                assert_eq!(peer.public_key, Some(self.other));
                self.established = true;
            }
            LinkEvent::Message(message) => {
                assert!(admitted && self.established, "a message from nobody");
                assert!(message.size() <= MAX_MESSAGE, "{} bytes", message.size());
                assert_eq!(self.due.pop_front(), Some(message), "not what was sent next");
            }
            LinkEvent::Ignored { frames } => panic!("nobody has sent {frames} frames"),
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
                self.said += self.wire.len() - before;
            }
        }
    }
}
