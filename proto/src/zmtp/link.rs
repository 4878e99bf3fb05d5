//! One end of a connection: the calling contract, and the states from the first byte to the last.
//!
//! A link is in one [`State`], which owns what only that state needs: the greeting that is being read, the handshake with
//! its keys, the client that waits to be admitted, or the traffic. Reading frames and queueing output is common to all.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::time::Instant;

use super::command::Properties;
use super::framing::{Deframer, Head};
use super::greeting::Greeting;
use super::handshake::{Handshake, Outcome, Step};
use super::liveness::Liveness;
use super::output::OutputQueue;
use super::traffic::Traffic;
use super::{LinkConfig, LinkError, LinkEvent};
use crate::kept::{free_if_empty, pop_or_shrink};
use crate::{Keepalive, Multipart};

#[cfg(feature = "curve")]
mod admission;

/// Unsent replies to the peer's PINGs from which on no more input is accepted.
const MAX_REPLIES: usize = 64 << 10;

/// What the next byte means, with all that only this needs.
enum State {
    /// Waits for the peer's greeting.
    Greeting { progress: Progress, greeting: Greeting, handshake: Handshake },
    /// Waits for a command of the handshake.
    Handshake { progress: Progress, minor: u8, handshake: Handshake },
    /// Waits for the application to admit a client.
    #[cfg(feature = "curve")]
    Deciding(admission::Deciding),
    /// Messages go both ways.
    Ready(Traffic),
    /// The link has failed.
    Closed,
}

/// How much time and how many bytes a handshake has left.
#[derive(Clone, Copy)]
struct Progress {
    deadline: Option<Instant>,
    bytes: usize,
    max_bytes: usize,
}

impl Progress {
    fn count(&mut self, len: usize) -> Result<(), LinkError> {
        self.bytes = self.bytes.saturating_add(len);
        if self.bytes > self.max_bytes {
            return Err(LinkError::HandshakeTooLarge { max: self.max_bytes });
        }
        Ok(())
    }
}

/// One end of one ZMTP connection, without I/O, clock and randomness.
///
/// The calling contract:
/// - Give it everything read with [`handle_input`](Self::handle_input), unless
///   [`accepts_input`](Self::accepts_input) is false; then write before reading on.
/// - After each `handle_input`, take events with [`poll_event`](Self::poll_event) until `None`.
/// - After each call that takes `&mut self`, write what [`output`](Self::output) holds and report it with
///   [`advance_output`](Self::advance_output).
/// - Under CURVE, a server answers `LinkEvent::AuthenticationRequested` with `admit` or `refuse`, at any later time.
/// - Call [`handle_timeout`](Self::handle_timeout) once [`poll_timeout`](Self::poll_timeout) has passed.
/// - After an error, write what is left, for it may tell the peer why, and close the connection.
///
/// # Memory
/// Before the handshake is complete it takes 2 KiB and holds no more than
/// [`max_handshake_bytes`](LinkConfig::max_handshake_bytes) of the peer's, later one message of
/// [`max_message_size`](LinkConfig::max_message_size), and the events of one `handle_input`: about a
/// hundred bytes for each byte of input, if the input is one empty message after another. Limits are checked
/// when a frame announces its length, and a payload that arrives in pieces allocates as it comes.
///
/// Payloads are copied out of the input once, and decrypted where they are. Besides, up to four buffers of 128 KiB at most
/// are kept for payloads to come, and one of 256 KiB at most for output, until the next
/// [`handle_timeout`](Self::handle_timeout).
pub struct Link {
    ours: Properties,
    max_message_size: usize,
    keepalive: Option<Keepalive>,
    state: State,
    deframer: Deframer,
    /// Of the frame whose payload is under way.
    head: Option<Head>,
    events: VecDeque<LinkEvent>,
    output: OutputQueue,
}

impl Link {
    /// Starts the handshake: the greeting is in the output.
    ///
    /// `seed` is 32 unpredictable bytes that no other link has, or ever had: under CURVE, the ephemeral keys and nonces of
    /// this connection are made of it. The same seed, configuration and calls make the same bytes. NULL does not use it.
    pub fn new(config: &LinkConfig, seed: [u8; 32], now: Instant) -> Self {
        let progress = Progress {
            deadline: now.checked_add(config.handshake_timeout),
            bytes: 0,
            max_bytes: config.max_handshake_bytes,
        };
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

    /// Takes bytes from the peer, split in any way. The peer counts as alive, whatever they are.
    ///
    /// # Errors
    /// Any error is the end of the link: events from before it can still be taken, and output written.
    pub fn handle_input(&mut self, now: Instant, mut data: &[u8]) -> Result<(), LinkError> {
        while self.read_until_event(now, &mut data)? {}
        Ok(())
    }

    /// Reads as far as the next event; returns false if all was read. If the caller drops each message before it reads on, the
    /// memory of that message is used for the next one.
    pub(crate) fn read_until_event(&mut self, now: Instant, data: &mut &[u8]) -> Result<bool, LinkError> {
        match &mut self.state {
            State::Closed => return Err(LinkError::Closed),
            _ if data.is_empty() => return Ok(false),
            State::Ready(Traffic { liveness: Some(liveness), .. }) => liveness.heard(now),
            _ => {}
        }
        let result = self.read(now, data);
        self.closing(result)
    }

    /// What came of the input so far.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        pop_or_shrink(&mut self.events)
    }

    /// Queues a message. Pieces above 8 KiB, the [`tail`](Multipart::tail) among them, are not copied, unless
    /// the mechanism encrypts: then every piece is copied once, and encrypted in the output.
    ///
    /// The caller bounds what is queued, by [`pending_output`](Self::pending_output).
    ///
    /// # Errors
    /// [`LinkError::NotEstablished`] or [`LinkError::NoFrames`], which leave the link as it is; [`LinkError::Exhausted`] or
    /// [`LinkError::Closed`] at its end.
    pub fn send(&mut self, message: Multipart) -> Result<(), LinkError> {
        match &mut self.state {
            State::Ready(_) if message.frames().is_empty() => Err(LinkError::NoFrames),
            State::Ready(traffic) => {
                let result = traffic.send(&message, &mut self.output);
                self.closing(result)
            }
            State::Closed => Err(LinkError::Closed),
            _ => Err(LinkError::NotEstablished),
        }
    }

    /// Fills `slices` with the bytes to write next, in order; how many slices were filled.
    pub fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.slices(slices)
    }

    /// Takes `n` bytes that were written off the front of the output, or all if there are fewer.
    pub fn advance_output(&mut self, n: usize) {
        self.output.advance(n);
    }

    /// Bytes still to be written.
    pub fn pending_output(&self) -> usize {
        self.output.pending()
    }

    /// Bytes that the frame under way still lacks; 0 between frames. A hint for how much to read at once.
    pub fn missing_input(&self) -> usize {
        self.head.as_ref().map_or(0, |head| head.len - self.deframer.partial())
    }

    /// False while 64 KiB of replies to the peer's PINGs wait to be written: read on only after writing.
    pub fn accepts_input(&self) -> bool {
        !matches!(self.state, State::Closed) && self.output.replies() < MAX_REPLIES
    }

    /// Acts on the time having come. Early and late calls are harmless.
    ///
    /// # Errors
    /// If the handshake took too long, or the peer left its PINGs unanswered. The link is over.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        let late = self.poll_timeout().is_some_and(|deadline| deadline <= now);
        let result = match &mut self.state {
            State::Closed => return Ok(()),
            State::Ready(traffic) => {
                self.deframer.shrink();
                self.output.shrink();
                free_if_empty(&mut self.events);
                traffic.handle_timeout(now, &mut self.output)
            }
            _ if late => Err(LinkError::HandshakeTimedOut),
            _ => Ok(()),
        };
        self.closing(result)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; later than its last `now`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Greeting { progress, .. } | State::Handshake { progress, .. } => progress.deadline,
            #[cfg(feature = "curve")]
            State::Deciding(deciding) => deciding.progress.deadline,
            State::Ready(traffic) => traffic.liveness.as_ref().and_then(Liveness::poll_timeout),
            State::Closed => None,
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
            self.state = State::Closed;
        }
        result
    }

    fn read(&mut self, now: Instant, data: &mut &[u8]) -> Result<bool, LinkError> {
        while self.read_some(now, data)? {
            if !self.events.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads a greeting or a frame; false once there is no whole one left.
    fn read_some(&mut self, now: Instant, data: &mut &[u8]) -> Result<bool, LinkError> {
        match &mut self.state {
            State::Closed => return Err(LinkError::Closed),
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
        let head = match self.head {
            Some(head) => head,
            None => {
                let Some(head) = self.deframer.head(data)? else { return Ok(false) };
                match &mut self.state {
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
            let Some(payload) = self.deframer.early_payload(data, head.len) else { return Ok(false) };
            self.head = None;
            self.take_handshake(now, &head, payload)?;
        }
        Ok(true)
    }

    /// The peer's greeting is complete.
    fn greeted(&mut self, minor: u8) -> Result<(), LinkError> {
        if let State::Greeting { mut progress, handshake, .. } =
            std::mem::replace(&mut self.state, State::Closed)
        {
            progress.count(Greeting::LEN)?;
            let handshake = handshake.begin(&self.ours, &mut self.output).map_err(LinkError::in_handshake)?;
            self.state = State::Handshake { progress, minor, handshake };
        }
        Ok(())
    }

    #[cfg_attr(not(feature = "curve"), expect(unused_variables, reason = "NULL has one command"))]
    fn take_handshake(&mut self, now: Instant, head: &Head, payload: Vec<u8>) -> Result<(), LinkError> {
        if let State::Handshake { progress, minor, handshake } =
            std::mem::replace(&mut self.state, State::Closed)
        {
            let step = handshake.take_frame(head.command, payload, &self.ours, &mut self.output);
            match step.map_err(LinkError::in_handshake)? {
                #[cfg(feature = "curve")]
                Step::Next(handshake) => self.state = State::Handshake { progress, minor, handshake },
                #[cfg(feature = "curve")]
                Step::Ask(client, identity) => {
                    self.ask(admission::Deciding::new(progress, minor, client, identity));
                }
                Step::Done(outcome) => self.establish(now, minor, outcome),
            }
        }
        Ok(())
    }

    fn establish(&mut self, now: Instant, minor: u8, outcome: Outcome) {
        // ZMTP 3.0 has no PING.
        let liveness = self.keepalive.filter(|_| minor > 0).map(|keepalive| Liveness::new(keepalive, now));
        self.state = State::Ready(Traffic::new(outcome.protection, self.max_message_size, liveness));
        self.events.push_back(LinkEvent::Established {
            identity: outcome.identity,
            #[cfg(feature = "curve")]
            public_key: outcome.public_key,
        });
    }
}

impl fmt::Debug for Link {
    /// Leaves out keys and messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Greeting { .. } => "Greeting",
            State::Handshake { .. } => "Handshake",
            #[cfg(feature = "curve")]
            State::Deciding(_) => "Deciding",
            State::Ready(_) => "Ready",
            State::Closed => "Closed",
        };
        f.debug_struct("Link")
            .field("role", &self.ours.role)
            .field("state", &state)
            .field("pending_output", &self.pending_output())
            .finish_non_exhaustive()
    }
}
