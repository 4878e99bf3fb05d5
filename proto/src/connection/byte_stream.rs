//! A connection over a byte stream: moves messages between the connection and the ZMTP [`Link`] below it.
//!
//! Not responsible for ZMTP itself, nor for transports that deliver messages: their hosts call
//! [`Connection::handle_message`] and [`Connection::poll_message`] instead.

use std::io::IoSlice;
use std::time::Instant;

use super::{Connection, Phase};
use crate::Multipart;
use crate::event::Event;
use crate::stream::FULL_PIECE;
use crate::zmtp::{Link, LinkConfig, LinkError, LinkEvent};

impl Connection {
    // Measured on loopback (`bench/`): compared with 256 KiB, small calls beside an upload have half the
    // latency, and the upload is no slower. A DATA with a full piece reaches this limit alone.
    /// Target for unwritten bytes in the ZMTP layer: it gets the next message while it holds fewer. Messages
    /// that stay in the send queue can still be cancelled, and more urgent ones can overtake them. For hosts
    /// that drive a [`Link`] themselves.
    pub const WRITE_AHEAD: usize = FULL_PIECE;

    /// Starts ZMTP on a new byte stream to the peer; next, [transmit](Self::poll_transmit) the greeting.
    /// `seed` must be 32 unpredictable bytes, new for each byte stream: CURVE derives its ephemeral keys and
    /// nonces from them. Replaces a byte stream whose ZMTP handshake is not complete. Ignored if the connection
    /// already has a transport, or has ended.
    pub fn open(&mut self, now: Instant, config: &LinkConfig, seed: [u8; 32]) {
        if self.phase != Phase::Unconnected {
            return;
        }
        self.link = Some(Box::new(Link::new(config, seed, now)));
    }

    /// Handles bytes from the peer, split in any way. Ignored if there is no byte stream.
    ///
    /// # Errors
    /// The byte stream is unusable. Transmit what is left, since it may contain an ERROR command for the
    /// peer, and close the byte stream. Then call [`handle_disconnected`](Self::handle_disconnected) to try
    /// another byte stream, or [`close`](Self::close).
    pub fn handle_input(&mut self, now: Instant, mut bytes: &[u8]) -> Result<(), LinkError> {
        while let Some(link) = &mut self.link {
            // One event at a time: a message is dropped before the next one is read, which can then reuse its
            // memory.
            let more = link.read_until_event(now, &mut bytes);
            self.take_link_events(now);
            // An error only after the events before it: messages that precede a fault still take effect.
            if !more? {
                break;
            }
        }
        Ok(())
    }

    /// Admits the client of [`Event::AuthenticationRequested`]. Does nothing if no client waits, so a late or
    /// second answer is harmless. A fault in input that arrived while the client waited is an error of the next
    /// [`handle_timeout`](Self::handle_timeout), which is due at once, or [`handle_input`](Self::handle_input).
    #[cfg(feature = "curve")]
    pub fn admit(&mut self, now: Instant) {
        if let Some(link) = &mut self.link {
            link.admit(now);
            self.take_link_events(now);
        }
    }

    /// Refuses the client of [`Event::AuthenticationRequested`]: it gets an ERROR command. The next
    /// [`handle_timeout`](Self::handle_timeout), which is due at once, or [`handle_input`](Self::handle_input)
    /// returns [`LinkError::NotAdmitted`]: transmit first, then close the byte stream. Does nothing if no client
    /// waits.
    #[cfg(feature = "curve")]
    pub fn refuse(&mut self, now: Instant) {
        if let Some(link) = &mut self.link {
            link.refuse(now);
        }
    }

    /// Fills `slices` with the bytes to write next, in order, and returns the number of filled slices: 0 if
    /// there is nothing to write. Report the bytes that were written with [`transmitted`](Self::transmitted);
    /// if none could be written, call [`handle_write_blocked`](Self::handle_write_blocked).
    ///
    /// # Errors
    /// [`LinkError::Exhausted`] after 2^64 - 1 frames under CURVE. The byte stream is unusable.
    pub fn poll_transmit<'a>(
        &'a mut self,
        now: Instant,
        slices: &mut [IoSlice<'a>],
    ) -> Result<usize, LinkError> {
        // A link that has failed takes no more messages, but may have output left, such as an ERROR command.
        let takes_more = |link: &Link| link.is_established() && link.pending_output() < Self::WRITE_AHEAD;
        while self.link.as_deref().is_some_and(takes_more) {
            let Some(message) = self.poll_message(now) else { break };
            if let Some(link) = &mut self.link {
                // The link is established, so only the encryption can fail.
                link.send(message)?;
            }
        }
        Ok(self.link.as_ref().map_or(0, |link| link.output(slices)))
    }

    /// Appends the bytes to write next to `buffer`, and counts them as written. Simpler than
    /// [`poll_transmit`](Self::poll_transmit), at the cost of a copy. Appends nothing if there is nothing to
    /// write.
    ///
    /// # Errors
    /// As [`poll_transmit`](Self::poll_transmit).
    pub fn transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Result<(), LinkError> {
        let before = buffer.len();
        // Output that needs more slices is left for the next call.
        let mut slices = [IoSlice::new(&[]); 32];
        let filled = self.poll_transmit(now, &mut slices)?;
        slices[..filled].iter().for_each(|slice| buffer.extend_from_slice(slice));
        self.transmitted(buffer.len() - before);
        Ok(())
    }

    /// The host has written this many bytes of the output.
    pub fn transmitted(&mut self, bytes: usize) {
        if let Some(link) = &mut self.link {
            link.advance_output(bytes);
        }
        // No bytes are no progress, and must not stop the write timeout (K-3).
        if bytes > 0 {
            self.handle_write_progress();
        }
    }

    /// False while 64 KiB of ZMTP PONGs wait to be written (PROTOCOL.md, Z-15): write before reading on.
    pub fn accepts_input(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.accepts_input())
    }

    /// Bytes missing from the frame that is being received; 0 between frames. A hint for the size of the next
    /// read.
    pub fn missing_input(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.missing_input())
    }

    fn take_link_events(&mut self, now: Instant) {
        while let Some(event) = self.link.as_mut().and_then(|link| link.poll_event()) {
            // The peer may go on until the transport is closed, but `Closed` was the last event about it.
            if self.is_closed() {
                continue;
            }
            match event {
                #[cfg(feature = "curve")]
                LinkEvent::AuthenticationRequested { public_key } => {
                    self.calls.events().push_back(Event::AuthenticationRequested { public_key });
                }
                LinkEvent::Established {
                    identity,
                    #[cfg(feature = "curve")]
                    public_key,
                } => {
                    self.calls.events().push_back(Event::Connected {
                        identity,
                        #[cfg(feature = "curve")]
                        public_key,
                    });
                    // Z-6: Callosum's handshake, and the time that it may take, begin when ZMTP's is
                    // complete.
                    self.handle_connected(now);
                }
                LinkEvent::Message(message) => self.handle_message(now, message),
                LinkEvent::Acknowledged { messages } => self.handle_acknowledged(messages),
                // Reported as a message that is not Callosum's, like any other with a wrong number of frames
                // (M-1).
                LinkEvent::Ignored { .. } => self.handle_message(now, Multipart::default()),
            }
        }
    }

    /// Handles the timers of ZMTP that are due at `now`.
    pub(super) fn handle_link_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        match &mut self.link {
            // The link of a closed connection is only left for its output, and needs no heartbeats.
            Some(link) if !matches!(self.phase, Phase::Closed(_)) => link.handle_timeout(now),
            _ => Ok(()),
        }
    }

    pub(super) fn next_link_timeout(&self) -> Option<Instant> {
        self.link.as_ref().filter(|_| !self.is_closed())?.poll_timeout()
    }
}
