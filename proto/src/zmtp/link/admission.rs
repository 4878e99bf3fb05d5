//! Whether a client under CURVE is admitted is up to the application, which may take its time.

use std::time::Instant;

use bytes::Buf;

use super::{Link, LinkEvent, Outcome, Progress, Properties, State};
use crate::zmtp::LinkError;
use crate::zmtp::curve::Proved;
use crate::zmtp::framing::grow;
use crate::zmtp::traffic::Protection;

/// What becomes of a client that has proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The handshake goes on.
    Admit,
    /// The client is told so, with ZAP's status 400 (PROTOCOL.md, rule A-3), and the link is over.
    Refuse,
}

/// A client that waits, and what came from it meanwhile.
pub(super) struct Deciding {
    pub(super) progress: Progress,
    minor: u8,
    client: Proved,
    peer: Properties,
    held: Vec<u8>,
}

impl Deciding {
    pub(super) fn new(progress: Progress, minor: u8, client: Proved, peer: Properties) -> Self {
        Self { progress, minor, client, peer, held: Vec::new() }
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
    /// Answers [`LinkEvent::AuthenticationRequested`]. Without such a request it does nothing, so that a late or
    /// second answer is harmless.
    ///
    /// # Errors
    /// [`LinkError::NotAdmitted`] on a refusal; [`LinkError::Closed`] if the link was over already; else what
    /// [`handle_input`](Link::handle_input) says of the input that came meanwhile. Any error is the end of the link;
    /// write what is left in the output.
    pub fn authenticate(&mut self, now: Instant, decision: Decision) -> Result<(), LinkError> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Err(LinkError::Closed),
            State::Deciding(deciding) => {
                let result = self.decided(now, deciding, decision);
                self.closing(result)
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn decided(&mut self, now: Instant, deciding: Deciding, decision: Decision) -> Result<(), LinkError> {
        let Deciding { minor, client, peer, held, .. } = deciding;
        let public_key = client.public_key;
        if decision == Decision::Refuse {
            client.refuse(&mut self.output);
            return Err(LinkError::NotAdmitted { public_key });
        }
        let protection = Protection::Curve(client.admit(&self.ours, &mut self.output));
        self.establish(now, minor, Outcome { peer, protection, public_key: Some(public_key) });
        let mut held = &held[..];
        while self.read(now, &mut held)? {}
        Ok(())
    }

    /// Asks the application.
    pub(super) fn ask(&mut self, deciding: Deciding) {
        let public_key = deciding.client.public_key;
        self.state = State::Deciding(deciding);
        self.events.push_back(LinkEvent::AuthenticationRequested { public_key });
    }
}
