//! The Callosum handshake, and PINGs and PONGs after it (PROTOCOL.md, rules H and M).
//!
//! A connector sends its hello in a PING; the binder answers with its own hello in a PONG. A peer that echoes
//! the hello, or sends anything else first, speaks dialect 1. Not responsible for the handshake of ZMTP.

use std::time::Instant;

use bytes::Bytes;

use super::{Connection, Phase};
use crate::Multipart;
use crate::Role;
use crate::call::PeerLimits;
use crate::config::Dialect;
use crate::error::InvokeError;
use crate::event::{Anomaly, CloseCause, Event};
use crate::send::Control;
use crate::wire::{Credit, Hello, PING, PONG};

/// Largest PING that is answered, in bytes of its header and body (M-5).
const MAX_PING: usize = 64 * 1024;

impl Connection {
    /// The transport is connected: a connector sends its hello, a binder waits for the peer's first message.
    /// Ignored if the connection already has a transport, or has ended.
    pub fn handle_connected(&mut self, now: Instant) {
        if self.phase != Phase::Unconnected {
            return;
        }
        self.phase = Phase::Handshaking;
        self.handshake_deadline = now.checked_add(self.config.handshake_timeout);
        if self.role == Role::Connector {
            let (hello, nonce) = (self.hello().encode(), Bytes::copy_from_slice(&self.nonce));
            self.calls.queue().push_control(Control::Hello(Multipart::new(PING, hello, nonce)));
        }
    }

    fn hello(&self) -> Hello {
        let config = &self.config;
        let credit = Credit { stream: config.first_window, link: config.connection_window };
        Hello {
            dialects: config.dialect.offered(),
            nonce: self.nonce,
            max_body: config.max_body as u64,
            // H-1: only if dialect 2 is among `dialects`.
            credit: (config.dialect >= Dialect::Two).then_some(credit),
        }
    }

    pub(super) fn establish(&mut self, hello: Option<Hello>, now: Instant) {
        self.handshake_deadline = None;
        // H-15: an offer of dialect 2 without credit does not count, and a peer without a hello speaks dialect 1.
        let credit = hello.as_ref().and_then(|hello| hello.credit);
        let dialect = match (&hello, credit) {
            (Some(hello), Some(_)) => self.config.dialect.common(hello.dialects),
            _ => Dialect::One,
        };
        let max_body = hello.as_ref().map(|hello| hello.max_body);
        self.phase = Phase::Established { hello, dialect };
        self.probes.start(now);
        // Before the ends of queued calls that the peer's limits don't permit, which `calls.establish`
        // reports.
        self.calls.events().push_back(Event::Established { max_body, dialect });
        if dialect == Dialect::Two {
            // F-6: the autotuning of windows needs the round-trip time. Dialect 1 has no windows.
            self.queue_first_probe();
        }
        // F-5: credit is for DATA, which dialect 1 does not have.
        let credit = credit.filter(|_| dialect == Dialect::Two);
        self.calls.establish(PeerLimits { max_body, credit });
    }

    /// Queues the next of the probes that follow the handshake; returns false if there are no more.
    fn queue_first_probe(&mut self) -> bool {
        let more = self.probes.take_first();
        if more {
            self.queue_probe();
        }
        more
    }

    /// Probes the peer, once the handshake is complete. [`Event::Pong`] reports the answer, if there is one.
    /// Returns the number of the probe, which is unique within the connection. At most 64 probes can be
    /// unanswered; for one more, the oldest is forgotten.
    ///
    /// # Errors
    /// [`InvokeError::Closed`] if the connection has ended.
    pub fn ping(&mut self) -> Result<u64, InvokeError> {
        match self.is_closed() {
            true => Err(InvokeError::Closed),
            false => Ok(self.queue_probe()),
        }
    }

    /// Forgets a probe, which makes room for another. Its answer will not be reported; if it has not been
    /// sent, it will not be.
    pub fn forget_ping(&mut self, ping: u64) {
        if self.probes.forget(ping) {
            self.calls.queue().remove_ping(ping);
        }
    }

    pub(super) fn queue_probe(&mut self) -> u64 {
        let (ping, forgotten) = self.probes.next();
        let queue = self.calls.queue();
        // M-7: a probe that is forgotten while it waits is not sent, since its answer would be that of no
        // probe.
        if let Some(forgotten) = forgotten {
            queue.remove_ping(forgotten);
        }
        queue.push_control(Control::Ping(ping));
        ping
    }

    pub(super) fn handle_ping(&mut self, now: Instant, header: Bytes, body: Bytes) {
        // M-5: of the PING, since our hello in the answer may be longer than the peer's.
        let size = header.len() + body.len();
        let hello = match self.role {
            Role::Binder if !header.is_empty() => Hello::decode(&header).ok(),
            _ => None,
        };
        // Before `establish` changes the phase.
        let first = self.role == Role::Binder && self.phase == Phase::Handshaking;
        let mut answer = header;
        if let Some(hello) = hello {
            match &self.phase {
                Phase::Handshaking => {
                    answer = self.hello().encode();
                    self.establish(Some(hello), now);
                }
                Phase::Established { hello: Some(known), .. } if *known == hello => {
                    answer = self.hello().encode()
                }
                // H-12: the peer has lost this connection, and with it the calls of both sides.
                _ => return self.close(CloseCause::PeerRestarted),
            }
        } else if first {
            // H-8: a PING without a hello, such as Python's, is of dialect 1.
            self.establish(None, now);
        }
        if size > MAX_PING {
            return self.report(Anomaly::OversizePing(size));
        }
        // Copy: the frames may be slices of a larger block, which no limit counts while the PONG waits.
        let copy = |frame: &Bytes| Bytes::copy_from_slice(frame);
        let pong = Multipart::new(PONG, copy(&answer), copy(&body));
        if self.calls.queue().push_pong(pong, first).is_err() {
            self.close(CloseCause::PeerNotReading);
        }
    }

    pub(super) fn handle_pong(&mut self, now: Instant, header: &Bytes, body: &Bytes) {
        if self.phase == Phase::Handshaking && self.role == Role::Connector && !header.is_empty() {
            let hello = match Hello::decode(header) {
                Ok(hello) => hello,
                Err(error) => return self.report(Anomaly::Header(error)),
            };
            if !body.is_empty() && body[..] != self.nonce {
                // PONG for a previous connector's hello, whose transport this one has taken over: ignore it
                // (H-6).
                return;
            }
            // H-6: a peer of dialect 1 echoes every PING, so our own nonce comes back.
            let echo = hello.nonce == self.nonce;
            return self.establish((!echo).then_some(hello), now);
        }
        let Some((ping, departure)) = self.probes.answered(header, body) else { return };
        self.acknowledgement.received(departure.after);
        let round_trip = now.saturating_duration_since(departure.at);
        // K-3: the answer shows that the peer reads.
        self.put_off_write_deadline(now);
        self.calls.flow().measured(round_trip);
        self.calls.events().push_back(Event::Pong { ping, round_trip });
        // F-6: only dialect 2 begins with probes.
        if self.dialect() == Some(Dialect::Two) && !self.queue_first_probe() {
            // Free what the handshake and its probes have allocated now, not when the connection is quiet: if
            // many connections are opened in a row, the next one reuses it. The same for what a later probe
            // has allocated: these are rare.
            self.quiet_check = Some(now);
        }
    }
}
