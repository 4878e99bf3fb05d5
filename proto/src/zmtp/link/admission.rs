//! Whether a client under CURVE may go on is the application's to decide, and may take its time.

use std::time::Instant;

use bytes::Bytes;
use omq_proto::AuthenticationResult;

use super::{Link, LinkEvent, Phase};
use crate::zmtp::{CurvePublicKey, LinkError};

/// What becomes of a client that has proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The handshake goes on.
    Admit,
    /// The client is told so, with ZAP's status 400 (WIRE.md), and the link is over.
    Refuse,
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
        if self.phase == Phase::Closed {
            return Err(LinkError::Closed);
        }
        let Some(held) = self.held.take() else { return Ok(()) };
        let result = match decision {
            Decision::Admit => self.go_on(now, held),
            Decision::Refuse => Err(self.refuse()),
        };
        self.closing(result)
    }

    fn go_on(&mut self, now: Instant, held: Vec<u8>) -> Result<(), LinkError> {
        self.decide(AuthenticationResult::allow())?;
        self.take_handshake(now)?;
        self.read(now, Bytes::from(held))
    }

    fn refuse(&mut self) -> LinkError {
        let told = self.decide(AuthenticationResult::deny());
        match (self.peer_key, told) {
            (Some(public_key), _) => LinkError::NotAdmitted { public_key },
            (None, told) => told.err().unwrap_or(LinkError::Closed),
        }
    }

    fn decide(&mut self, result: AuthenticationResult) -> Result<(), LinkError> {
        let decided =
            self.codec.connection().and_then(|connection| connection.complete_authentication(result));
        self.collect_output();
        decided.map_err(|error| self.codec_error(error))
    }

    /// Asks the application, if the codec wants to know.
    pub(super) fn request_authentication(&mut self) -> Result<(), LinkError> {
        let request = self.codec.awake().and_then(|connection| connection.take_authentication_request());
        let Some(request) = request else { return Ok(()) };
        let key = CurvePublicKey::from_bytes(request.peer().public_key);
        let Ok(public_key) = key else { return Err(self.refuse()) };
        self.peer_key = Some(public_key);
        self.held = Some(Vec::new());
        self.events.push_back(LinkEvent::AuthenticationRequested { public_key });
        Ok(())
    }
}
