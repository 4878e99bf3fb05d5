//! The functions of a connection over a byte stream, which run ZMTP below the same connection.

use std::io::IoSlice;
use std::time::Instant;

use super::Connection;
use crate::Multipart;
use crate::event::Event;
use crate::stream::FULL_PIECE;
use crate::zmtp::{Link, LinkConfig, LinkError, LinkEvent};

impl Connection {
    // Measured on loopback (`bench/`): with 64 KiB, small calls beside an upload wait half as long as with 256 KiB, and the upload is no
    // slower. A DATA with a full piece is written by itself.
    /// Bytes that ZMTP may hold to be written: as long as it holds fewer, it gets the next message. What the send queue keeps instead
    /// can still be taken back, and is overtaken by what is more urgent. For hosts that drive a [`Link`] of their own.
    pub const WRITE_AHEAD: usize = FULL_PIECE;

    /// There is a byte stream to the peer now, which speaks ZMTP: its greeting is the first thing to [transmit](Self::poll_transmit).
    /// `seed` is 32 unpredictable bytes, new for each byte stream; CURVE's ephemeral keys and nonces are made of them.
    pub fn open(&mut self, now: Instant, config: &LinkConfig, seed: [u8; 32]) {
        self.link = Some(Box::new(Link::new(config, seed, now)));
    }

    /// Takes bytes of the peer, cut in any way. Ignored if there is no byte stream.
    ///
    /// # Errors
    /// The byte stream is of no more use: write what is left to transmit, for it may tell the peer why, and close it. Then call
    /// [`handle_disconnected`](Self::handle_disconnected), if there may be another one, or [`close`](Self::close).
    pub fn handle_input(&mut self, now: Instant, mut bytes: &[u8]) -> Result<(), LinkError> {
        while let Some(link) = &mut self.link {
            let more = link.read_until_event(now, &mut bytes);
            self.take_link_events(now);
            if !more? {
                break;
            }
        }
        Ok(())
    }

    /// Admits the client of [`Event::AuthenticationRequested`]. A late or second answer is harmless.
    ///
    /// # Errors
    /// As [`handle_input`](Self::handle_input).
    #[cfg(feature = "curve")]
    pub fn admit(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let result = link.admit(now);
        self.take_link_events(now);
        result
    }

    /// Refuses that client.
    ///
    /// # Errors
    /// [`LinkError::NotAdmitted`]. The byte stream is of no more use, as after an error of [`handle_input`](Self::handle_input).
    #[cfg(feature = "curve")]
    pub fn refuse(&mut self) -> Result<(), LinkError> {
        self.link.as_mut().map_or(Ok(()), |link| link.refuse())
    }

    /// Fills `slices` with the bytes to write next, in order; returns how many slices were filled, 0 if there is nothing to write.
    /// Report what was written with [`transmitted`](Self::transmitted), or with [`handle_write_blocked`](Self::handle_write_blocked) that
    /// nothing could be.
    ///
    /// # Errors
    /// [`LinkError::Exhausted`] after 2^64 - 1 frames under CURVE. The connection is of no more use.
    pub fn poll_transmit<'a>(
        &'a mut self,
        now: Instant,
        slices: &mut [IoSlice<'a>],
    ) -> Result<usize, LinkError> {
        while self.link.as_ref().is_some_and(|link| link.pending_output() < Self::WRITE_AHEAD) {
            let Some(message) = self.poll_message(now) else { break };
            if let Some(link) = &mut self.link {
                // Nothing leaves before the link is established, so only the encryption can fail.
                link.send(message)?;
            }
        }
        Ok(self.link.as_ref().map_or(0, |link| link.output(slices)))
    }

    /// Appends the bytes to write next to a buffer of the host's, and counts them as written: the simplest way, at the cost of a
    /// copy. Nothing is appended if there is nothing to write.
    ///
    /// # Errors
    /// As [`poll_transmit`](Self::poll_transmit).
    pub fn transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Result<(), LinkError> {
        let before = buffer.len();
        let mut slices = [IoSlice::new(&[]); 32];
        let filled = self.poll_transmit(now, &mut slices)?;
        slices[..filled].iter().for_each(|slice| buffer.extend_from_slice(slice));
        self.transmitted(buffer.len() - before);
        Ok(())
    }

    /// So many bytes were written.
    pub fn transmitted(&mut self, bytes: usize) {
        if let Some(link) = &mut self.link {
            link.advance_output(bytes);
        }
        if bytes > 0 {
            self.handle_write_progress();
        }
    }

    /// Whether bytes wait to be written, besides what [`poll_transmit`](Self::poll_transmit) may add.
    pub fn has_output(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.pending_output() > 0)
    }

    /// False while 64 KiB of replies to the peer's ZMTP PINGs wait to be written: read on only after writing.
    pub fn accepts_input(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.accepts_input())
    }

    /// Bytes that the frame under way still lacks; 0 between frames. A hint for how much to read at once.
    pub fn missing_input(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.missing_input())
    }

    fn take_link_events(&mut self, now: Instant) {
        while let Some(event) = self.link.as_mut().and_then(|link| link.poll_event()) {
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
                    self.handle_connected(now);
                }
                LinkEvent::Message(message) => self.handle_message(now, message),
                LinkEvent::Acknowledged { messages } => self.handle_acknowledged(messages),
                // A message of too many frames is no message of ours (M-1).
                LinkEvent::Ignored { .. } => self.handle_message(now, Multipart::default()),
            }
        }
    }

    /// What is due for ZMTP at `now`.
    pub(super) fn handle_link_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        self.link.as_mut().map_or(Ok(()), |link| link.handle_timeout(now))
    }

    pub(super) fn next_link_timeout(&self) -> Option<Instant> {
        self.link.as_ref().and_then(|link| link.poll_timeout())
    }
}
