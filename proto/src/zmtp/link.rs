//! One end of a ZMTP connection: the calling contract, and the states from the first byte to the last.
//!
//! A link is in one [`State`], which owns what only that state needs: the greeting that is being read, the
//! handshake with its keys, the client that waits to be admitted, or the traffic. All states share the
//! deframer and the output queue. A failed link is in [`State::Closed`], and accepts nothing more.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::time::Instant;

#[cfg(feature = "curve")]
use super::admission::Deciding;
use super::command::Properties;
use super::framing::{Deframer, Head};
use super::greeting::Greeting;
use super::handshake::{Handshake, Outcome, Progress, Step};
use super::liveness::Liveness;
use super::output::OutputQueue;
#[cfg(feature = "curve")]
use super::traffic::Protection;
use super::traffic::Traffic;
use super::{LinkConfig, LinkError, LinkEvent};
use crate::kept::{free_if_empty, pop_or_shrink};
use crate::{Keepalive, Multipart};

/// Unsent PONGs, in bytes, from which on no more input is accepted (Z-15).
const MAX_REPLIES: usize = 64 << 10;

/// The state of a link, with the data that only this state needs.
enum State {
    /// Waits for the peer's greeting.
    Greeting { progress: Progress, greeting: Greeting, handshake: Handshake },
    /// Waits for a command of the handshake.
    Handshake { progress: Progress, minor: u8, handshake: Handshake },
    /// Waits for the application to admit a client.
    #[cfg(feature = "curve")]
    Deciding(Deciding),
    /// Messages go both ways.
    Ready(Traffic),
    /// The link has failed. The error of a decision about a client, and its time, until it is reported.
    Closed(Option<(Instant, LinkError)>),
}

/// One end of a ZMTP connection, without I/O, clock and randomness.
///
/// # The calling contract
/// - Pass all received bytes to [`handle_input`](Self::handle_input). While
///   [`accepts_input`](Self::accepts_input) is false, write before reading on.
/// - After each `handle_input`, call [`poll_event`](Self::poll_event) until it returns `None`.
/// - After each call that takes `&mut self`, write the bytes of [`output`](Self::output), and report the
///   written ones with [`advance_output`](Self::advance_output).
/// - At a server of CURVE, answer `LinkEvent::AuthenticationRequested` with `admit` or `refuse`, at any later
///   time. If that ends the link, the next `handle_timeout`, which is due at once, or `handle_input` returns the
///   error.
/// - Call [`handle_timeout`](Self::handle_timeout) once [`poll_timeout`](Self::poll_timeout) has passed.
/// - After an error, write the remaining output, which may contain an ERROR command for the peer, and close
///   the connection.
///
/// # Memory
/// Before the handshake is complete, a link takes 2 KiB, plus at most
/// [`max_handshake_bytes`](LinkConfig::max_handshake_bytes) of the peer's bytes. Afterwards, it holds one
/// message of up to [`max_message_size`](LinkConfig::max_message_size), and the events of one `handle_input`:
/// about a hundred bytes for each byte of input, if the input is one empty message after another. Limits are
/// checked when a frame announces its length. A payload that arrives in parts is allocated as it arrives.
///
/// Payloads are copied out of the input once, and decrypted in place. In addition, up to four buffers of up
/// to 128 KiB are kept for future payloads, and one of up to 256 KiB for output, until the next
/// [`handle_timeout`](Self::handle_timeout).
pub struct Link {
    ours: Properties,
    max_message_size: usize,
    keepalive: Option<Keepalive>,
    state: State,
    deframer: Deframer,
    /// The head of the frame whose payload is being received.
    head: Option<Head>,
    events: VecDeque<LinkEvent>,
    output: OutputQueue,
}

impl Link {
    /// Starts the handshake: the greeting is in the output.
    ///
    /// `seed` must be 32 unpredictable bytes that are never used for another link: CURVE derives its
    /// ephemeral keys and nonces from them. NULL does not use the seed. The same seed, configuration and
    /// calls give the same output.
    pub fn new(config: &LinkConfig, seed: [u8; 32], now: Instant) -> Self {
        let progress = Progress::new(config, now);
        let handshake = Handshake::new(&config.mechanism, seed);
        let mut output = OutputQueue::default();
        output.copy(&handshake.terms().encode());
        Self {
            ours: Properties { role: config.role, identity: config.identity.clone() },
            max_message_size: config.max_message_size,
            keepalive: config.keepalive,
            state: State::Greeting { progress, greeting: Greeting::new(), handshake },
            deframer: Deframer::default(),
            head: None,
            events: VecDeque::new(),
            output,
        }
    }

    /// Handles bytes from the peer, split in any way. Any byte shows that the peer is alive.
    ///
    /// # Errors
    /// Any error ends the link. Earlier events can still be polled, and output written.
    pub fn handle_input(&mut self, now: Instant, mut data: &[u8]) -> Result<(), LinkError> {
        while self.read_until_event(now, &mut data)? {}
        Ok(())
    }

    /// Reads up to the next event; returns false if all was read. If the caller drops each message before it
    /// reads on, the next message reuses its memory.
    pub(crate) fn read_until_event(&mut self, now: Instant, data: &mut &[u8]) -> Result<bool, LinkError> {
        match &mut self.state {
            State::Closed(unreported) => {
                return Err(unreported.take().map_or(LinkError::Closed, |(_, error)| error));
            }
            // No bytes, so no sign of life.
            _ if data.is_empty() => return Ok(false),
            State::Ready(traffic) => traffic.heard(now),
            _ => {}
        }
        let result = self.read(now, data);
        self.closing(result)
    }

    /// The next event. Call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        pop_or_shrink(&mut self.events)
    }

    /// Queues a message. With NULL, frames above 8 KiB, and such a [`tail`](Multipart::tail), are not copied.
    /// With CURVE, everything is copied once, and encrypted in the output.
    ///
    /// The queue has no limit of its own: the caller must check [`pending_output`](Self::pending_output).
    ///
    /// # Errors
    /// [`LinkError::NotEstablished`] or [`LinkError::NoFrames`], which don't affect the link;
    /// [`LinkError::Exhausted`], which ends it; [`LinkError::Closed`] if it has ended.
    pub fn send(&mut self, message: Multipart) -> Result<(), LinkError> {
        match &mut self.state {
            State::Ready(_) if message.frames().is_empty() => Err(LinkError::NoFrames),
            State::Ready(traffic) => {
                let result = traffic.send(&message, &mut self.output);
                self.closing(result)
            }
            State::Closed(_) => Err(LinkError::Closed),
            _ => Err(LinkError::NotEstablished),
        }
    }

    /// Fills `slices` with the bytes to write next, in order. Returns the number of filled slices.
    pub fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.slices(slices)
    }

    /// Removes `n` written bytes from the front of the output, or all if there are fewer.
    pub fn advance_output(&mut self, n: usize) {
        self.output.advance(n);
    }

    /// Bytes that wait to be written.
    pub fn pending_output(&self) -> usize {
        self.output.pending()
    }

    /// Bytes missing from the frame that is being received; 0 between frames. A hint for the size of the next
    /// read.
    pub fn missing_input(&self) -> usize {
        self.head.as_ref().map_or(0, |head| head.len - self.deframer.partial())
    }

    /// False while 64 KiB of PONGs wait to be written (PROTOCOL.md, Z-15): write before reading on. False
    /// once the link has ended.
    pub fn accepts_input(&self) -> bool {
        !matches!(self.state, State::Closed(_)) && self.output.replies() < MAX_REPLIES
    }

    /// Handles the timers that are due at `now`. Early and late calls are harmless.
    ///
    /// # Errors
    /// [`LinkError::HandshakeTimedOut`] or [`LinkError::KeepaliveTimedOut`], which end the link; or the error with
    /// which `admit` or `refuse` has ended it.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        // Before the state is borrowed. It matters for the handshake only; `Traffic` checks its own timer.
        let late = self.poll_timeout().is_some_and(|deadline| deadline <= now);
        let result = match &mut self.state {
            State::Closed(unreported) => return unreported.take().map_or(Ok(()), |(_, error)| Err(error)),
            State::Ready(traffic) => {
                // A link sets no timer for this. Its connection, or its next PING, does.
                if traffic.is_quiet(now) {
                    self.deframer.shrink();
                    self.output.shrink();
                    free_if_empty(&mut self.events);
                }
                traffic.handle_timeout(now, &mut self.output)
            }
            _ if late => Err(LinkError::HandshakeTimedOut),
            _ => Ok(()),
        };
        self.closing(result)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` if no timer is set. Later than the last
    /// `now` that it was called with.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Greeting { progress, .. } | State::Handshake { progress, .. } => progress.deadline,
            #[cfg(feature = "curve")]
            State::Deciding(deciding) => deciding.progress.deadline,
            State::Ready(traffic) => traffic.liveness.as_ref().and_then(Liveness::poll_timeout),
            // At once: the host may have nothing else to do for this link.
            State::Closed(unreported) => unreported.as_ref().map(|(at, _)| *at),
        }
    }

    /// Whether messages can be sent.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    #[cfg(all(test, feature = "curve"))]
    pub(super) fn traffic(&mut self) -> Option<&mut Traffic> {
        if let State::Ready(traffic) = &mut self.state { Some(traffic) } else { None }
    }

    fn closing<T>(&mut self, result: Result<T, LinkError>) -> Result<T, LinkError> {
        if result.is_err() {
            // The old state is dropped with its keys. The output stays: it may end with an ERROR for the
            // peer.
            self.state = State::Closed(None);
        }
        result
    }

    fn read(&mut self, now: Instant, data: &mut &[u8]) -> Result<bool, LinkError> {
        while self.read_some(now, data)? {
            // Stop after each event: once the caller has dropped its message, the next one reuses its memory.
            if !self.events.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the greeting or a frame; returns false if `data` does not complete one.
    fn read_some(&mut self, now: Instant, data: &mut &[u8]) -> Result<bool, LinkError> {
        match &mut self.state {
            State::Closed(_) => return Err(LinkError::Closed),
            State::Greeting { greeting, handshake, .. } => {
                let Some(minor) = greeting.fill(data, handshake.terms()).map_err(LinkError::in_handshake)?
                else {
                    return Ok(false);
                };
                return self.greeted(minor).map(|()| true);
            }
            #[cfg(feature = "curve")]
            State::Deciding(deciding) => return deciding.hold(data).map(|()| false),
            State::Handshake { .. } | State::Ready(_) => {}
        }
        // Kept from an earlier read if its payload has not arrived completely.
        let head = match self.head {
            Some(head) => head,
            None => {
                let Some(head) = self.deframer.head(data)? else { return Ok(false) };
                match &mut self.state {
                    // Z-12: before the first byte of the payload is buffered.
                    State::Ready(traffic) => traffic.admit(&head)?,
                    State::Handshake { progress, .. } => {
                        progress.count(head.as_bytes().len().saturating_add(head.len))?;
                    }
                    _ => {}
                }
                *self.head.insert(head)
            }
        };
        if let State::Ready(traffic) = &mut self.state {
            let Some(payload) = self.deframer.payload(data, head.len) else { return Ok(false) };
            self.head = None;
            traffic.take_frame(&head, payload, &mut self.deframer, &mut self.output, &mut self.events)?;
        } else {
            // No allocation ahead of the bytes, since anybody may have connected.
            let Some(payload) = self.deframer.early_payload(data, head.len) else { return Ok(false) };
            self.head = None;
            self.take_handshake(now, &head, payload)?;
        }
        Ok(true)
    }

    /// The peer's greeting is complete.
    fn greeted(&mut self, minor: u8) -> Result<(), LinkError> {
        // Always matches: `read_some` has seen this state. The same holds for `take_handshake` below.
        if let State::Greeting { mut progress, handshake, .. } =
            std::mem::replace(&mut self.state, State::Closed(None))
        {
            // As a whole, at its end: until then, at most 63 of its bytes have been buffered.
            progress.count(Greeting::LEN)?;
            let handshake = handshake.begin(&self.ours, &mut self.output).map_err(LinkError::in_handshake)?;
            self.state = State::Handshake { progress, minor, handshake };
        }
        Ok(())
    }

    #[cfg_attr(not(feature = "curve"), expect(unused_variables, reason = "NULL has one command"))]
    fn take_handshake(&mut self, now: Instant, head: &Head, payload: Vec<u8>) -> Result<(), LinkError> {
        if let State::Handshake { progress, minor, handshake } =
            std::mem::replace(&mut self.state, State::Closed(None))
        {
            // If it fails, the state stays `Closed`: the handshake was consumed, and none of its keys is
            // left.
            let step = handshake.take_frame(head.command, payload, &self.ours, &mut self.output);
            match step.map_err(LinkError::in_handshake)? {
                #[cfg(feature = "curve")]
                Step::Next(handshake) => self.state = State::Handshake { progress, minor, handshake },
                #[cfg(feature = "curve")]
                Step::Ask(client, identity) => {
                    let public_key = client.public_key;
                    self.state = State::Deciding(Deciding::new(progress, minor, client, identity));
                    self.events.push_back(LinkEvent::AuthenticationRequested { public_key });
                }
                Step::Done(outcome) => self.establish(now, minor, outcome),
            }
        }
        Ok(())
    }

    fn establish(&mut self, now: Instant, minor: u8, outcome: Outcome) {
        // ZMTP 3.0 has no PING.
        let liveness = self.keepalive.filter(|_| minor > 0).map(|keepalive| Liveness::new(keepalive, now));
        self.state = State::Ready(Traffic::new(outcome.protection, self.max_message_size, liveness, now));
        self.events.push_back(LinkEvent::Established {
            identity: outcome.identity,
            #[cfg(feature = "curve")]
            public_key: outcome.public_key,
        });
    }
}

#[cfg(feature = "curve")]
impl Link {
    /// Admits the client of [`LinkEvent::AuthenticationRequested`], which completes the handshake. Does nothing
    /// if no client waits, so a late or second answer is harmless. A fault in input that arrived while the client
    /// waited ends the link, as in [`handle_input`](Self::handle_input); the error is reported later.
    pub fn admit(&mut self, now: Instant) {
        self.decide(now, |link, Deciding { minor, client, identity, held, .. }| {
            let public_key = Some(client.public_key);
            // READY is queued first: input that was held may contain PINGs, whose PONGs must follow it.
            let protection = Protection::Curve(client.admit(&link.ours, &mut link.output));
            link.establish(now, minor, Outcome { identity, protection, public_key });
            let mut held = &held[..];
            while link.read(now, &mut held)? {}
            Ok(())
        });
    }

    /// Refuses the client of [`LinkEvent::AuthenticationRequested`]: it gets an ERROR command with the ZAP status
    /// 400 (PROTOCOL.md, A-3), and the link ends with [`LinkError::NotAdmitted`], which is reported later. Does
    /// nothing if no client waits.
    pub fn refuse(&mut self, now: Instant) {
        self.decide(now, |link, Deciding { client, .. }| {
            client.refuse(&mut link.output);
            Err(LinkError::NotAdmitted { public_key: client.public_key })
        });
    }

    fn decide(&mut self, now: Instant, act: impl FnOnce(&mut Self, Deciding) -> Result<(), LinkError>) {
        match std::mem::replace(&mut self.state, State::Closed(None)) {
            State::Deciding(deciding) => {
                if let Err(error) = act(self, deciding) {
                    self.state = State::Closed(Some((now, error)));
                }
            }
            // Nobody waits: the client was decided about already, or has not got this far.
            other => self.state = other,
        }
    }
}

impl fmt::Debug for Link {
    /// Omits keys and messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Greeting { .. } => "Greeting",
            State::Handshake { .. } => "Handshake",
            #[cfg(feature = "curve")]
            State::Deciding(_) => "Deciding",
            State::Ready(_) => "Ready",
            State::Closed(_) => "Closed",
        };
        f.debug_struct("Link")
            .field("role", &self.ours.role)
            .field("state", &state)
            .field("pending_output", &self.pending_output())
            .finish_non_exhaustive()
    }
}
