//! A client's side of ZMTP's handshake: what the end of a link means as long as the server has not accepted it.

use std::io;

use callosum_proto::zmtp::LinkError;

use crate::auth::AuthenticationError;
use crate::error::DisconnectCause;

pub(super) struct Overture {
    mechanism: &'static str,
    /// Whether the server has sent any bytes.
    answered: bool,
}

impl Overture {
    pub(super) fn new(mechanism: &'static str) -> Self {
        Self { mechanism, answered: false }
    }

    /// The server has sent bytes.
    pub(super) fn answer(&mut self) {
        self.answered = true;
    }

    /// The cause that the end of the link stands for.
    pub(super) fn explain(&self, cause: DisconnectCause) -> DisconnectCause {
        let Self { mechanism, answered: true } = *self else { return cause };
        let error = match &cause {
            DisconnectCause::PeerClosed => AuthenticationError::BrokenOff { ours: mechanism },
            DisconnectCause::Io(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) =>
            {
                AuthenticationError::BrokenOff { ours: mechanism }
            }
            DisconnectCause::Protocol(error) => match &**error {
                LinkError::Refused { status: status @ Some(_), .. } => {
                    AuthenticationError::Refused { status: *status }
                }
                LinkError::Handshake { .. } if mechanism == "CURVE" => AuthenticationError::ServerNotProved,
                LinkError::Refused { .. } if mechanism == "CURVE" => {
                    AuthenticationError::Refused { status: None }
                }
                _ => return cause,
            },
            _ => return cause,
        };
        error.into()
    }
}
