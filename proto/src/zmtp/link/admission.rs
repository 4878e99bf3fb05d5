//! Admission: a server of CURVE waits while the application decides about a client. It buffers the client's
//! input, within the limits of the handshake.

use std::time::Instant;

use bytes::{Buf, Bytes};

use super::{Link, LinkEvent, Outcome, Progress, State};
use crate::zmtp::LinkError;
use crate::zmtp::curve::Proved;
use crate::zmtp::framing::grow;
use crate::zmtp::traffic::Protection;

/// A client that waits for the decision, and its input in that time.
pub(super) struct Deciding {
    pub(super) progress: Progress,
    minor: u8,
    client: Proved,
    identity: Bytes,
    held: Vec<u8>,
}

impl Deciding {
    pub(super) fn new(progress: Progress, minor: u8, client: Proved, identity: Bytes) -> Self {
        Self { progress, minor, client, identity, held: Vec::new() }
    }

    /// Buffers input until the decision.
    pub(super) fn hold(&mut self, data: &mut &[u8]) -> Result<(), LinkError> {
        // Z-16: the client is not admitted yet, so its bytes count like those of the handshake. They stay
        // unparsed, because no message may take effect before the decision.
        let left = self.progress.max_bytes.saturating_sub(self.progress.bytes);
        self.progress.count(data.len())?;
        let most = self.held.len() + left;
        grow(&mut self.held, data.len(), 0, most);
        self.held.extend_from_slice(data);
        data.advance(data.len());
        Ok(())
    }
}

impl Link {
    /// Admits the client of [`LinkEvent::AuthenticationRequested`], which completes the handshake. Does
    /// nothing if no client waits, so a late or second answer is harmless.
    ///
    /// # Errors
    /// [`LinkError::Closed`] if the link had ended; otherwise as [`handle_input`](Link::handle_input), for
    /// the buffered input. Any error ends the link.
    pub fn admit(&mut self, now: Instant) -> Result<(), LinkError> {
        self.decide(|link, deciding| {
            let Deciding { minor, client, identity, held, .. } = deciding;
            let public_key = Some(client.public_key);
            // READY is queued first: input that was held may contain PINGs, whose PONGs must follow it.
            let protection = Protection::Curve(client.admit(&link.ours, &mut link.output));
            link.establish(now, minor, Outcome { identity, protection, public_key });
            let mut held = &held[..];
            while link.read(now, &mut held)? {}
            Ok(())
        })
    }

    /// Refuses the client of [`LinkEvent::AuthenticationRequested`]: it gets an ERROR command with the ZAP
    /// status 400 (PROTOCOL.md, A-3), and the link ends. Does nothing if no client waits.
    ///
    /// # Errors
    /// [`LinkError::NotAdmitted`] if a client waits: write the output before closing the connection.
    /// [`LinkError::Closed`] if the link had ended.
    pub fn refuse(&mut self) -> Result<(), LinkError> {
        self.decide(|link, Deciding { client, .. }| {
            client.refuse(&mut link.output);
            Err(LinkError::NotAdmitted { public_key: client.public_key })
        })
    }

    fn decide(
        &mut self,
        act: impl FnOnce(&mut Self, Deciding) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Err(LinkError::Closed),
            // The state stays `Closed` unless `act` establishes the link.
            State::Deciding(deciding) => {
                let result = act(self, deciding);
                self.closing(result)
            }
            // Nobody waits: the client was decided about already, or has not got this far.
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    /// Asks the application to decide.
    pub(super) fn ask(&mut self, deciding: Deciding) {
        let public_key = deciding.client.public_key;
        self.state = State::Deciding(deciding);
        self.events.push_back(LinkEvent::AuthenticationRequested { public_key });
    }
}
