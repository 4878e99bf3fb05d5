//! Whether a client under CURVE is admitted is up to the application, which may take its time.

use std::time::Instant;

use bytes::{Buf, Bytes};

use super::{Link, LinkEvent, Outcome, Progress, State};
use crate::zmtp::LinkError;
use crate::zmtp::curve::Proved;
use crate::zmtp::framing::grow;
use crate::zmtp::traffic::Protection;

/// A client that waits, and what came from it meanwhile.
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

    /// Keeps the input until the application has decided.
    pub(super) fn hold(&mut self, data: &mut &[u8]) -> Result<(), LinkError> {
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
    /// Admits the client of [`LinkEvent::AuthenticationRequested`]: the handshake goes on. Without such a
    /// request it does nothing, so that a late or second answer is harmless.
    ///
    /// # Errors
    /// [`LinkError::Closed`] if the link was over already; else what [`handle_input`](Link::handle_input)
    /// says of the input that came meanwhile. Any error is the end of the link.
    pub fn admit(&mut self, now: Instant) -> Result<(), LinkError> {
        self.decide(|link, deciding| {
            let Deciding { minor, client, identity, held, .. } = deciding;
            let public_key = Some(client.public_key);
            let protection = Protection::Curve(client.admit(&link.ours, &mut link.output));
            link.establish(now, minor, Outcome { identity, protection, public_key });
            let mut held = &held[..];
            while link.read(now, &mut held)? {}
            Ok(())
        })
    }

    /// Refuses that client: it is told so, with ZAP's status 400 (PROTOCOL.md, rule A-3), and the link is
    /// over.
    ///
    /// # Errors
    /// [`LinkError::NotAdmitted`], after which the output is to be written; [`LinkError::Closed`] if the link
    /// was over already.
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
            State::Deciding(deciding) => {
                let result = act(self, deciding);
                self.closing(result)
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    /// Asks the application.
    pub(super) fn ask(&mut self, deciding: Deciding) {
        let public_key = deciding.client.public_key;
        self.state = State::Deciding(deciding);
        self.events.push_back(LinkEvent::AuthenticationRequested { public_key });
    }
}
