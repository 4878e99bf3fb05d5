//! The handshake between the greetings and the first message, one command at a time: NULL's (RFC 23) here,
//! CURVE's in [`curve`](super::curve).
//!
//! Every state owns what it needs, and a command takes the state and returns the next one, so an error leaves
//! none behind.

use bytes::Bytes;

#[cfg(feature = "curve")]
use super::CurvePublicKey;
use super::command::{self, Properties};
#[cfg(feature = "curve")]
use super::curve::{self, Client, Server};
use super::greeting::Terms;
use super::output::OutputQueue;
use super::traffic::Protection;
use super::{LinkError, Mechanism, ZmtpViolation};

/// A handshake under way.
pub(super) enum Handshake {
    /// Waits for READY.
    Null,
    #[cfg(feature = "curve")]
    CurveServer(Server),
    #[cfg(feature = "curve")]
    CurveClient(Client),
}

/// What came of a command.
pub(super) enum Step {
    /// Another command is due.
    #[cfg(feature = "curve")]
    Next(Handshake),
    /// The application has to admit the client.
    #[cfg(feature = "curve")]
    Ask(curve::Proved, Bytes),
    Done(Outcome),
}

/// A handshake that is complete.
pub(super) struct Outcome {
    /// The routing id that the peer asks for.
    pub(super) identity: Bytes,
    pub(super) protection: Protection,
    #[cfg(feature = "curve")]
    pub(super) public_key: Option<CurvePublicKey>,
}

impl Handshake {
    /// The start of a mechanism. Everything random in it comes from the seed.
    #[cfg_attr(not(feature = "curve"), expect(unused_variables, reason = "NULL has nothing random"))]
    pub(super) fn new(mechanism: &Mechanism, seed: [u8; 32]) -> Self {
        match mechanism {
            Mechanism::Null => Self::Null,
            #[cfg(feature = "curve")]
            Mechanism::CurveServer { keys } => Self::CurveServer(Server::new(keys.clone(), seed)),
            #[cfg(feature = "curve")]
            Mechanism::CurveClient { keys, server } => {
                Self::CurveClient(Client::new(keys.clone(), *server, seed))
            }
        }
    }

    pub(super) fn terms(&self) -> Terms {
        match self {
            Self::Null => Terms { mechanism: "NULL", is_server: false },
            #[cfg(feature = "curve")]
            Self::CurveServer(_) => Terms { mechanism: "CURVE", is_server: true },
            #[cfg(feature = "curve")]
            Self::CurveClient(_) => Terms { mechanism: "CURVE", is_server: false },
        }
    }

    /// Says what this end says first after the greetings.
    pub(super) fn begin(self, ours: &Properties, output: &mut OutputQueue) -> Result<Self, LinkError> {
        Ok(match self {
            Self::Null => {
                command::queue(output, b"\x05READY", &[&ours.encode()]);
                Self::Null
            }
            #[cfg(feature = "curve")]
            Self::CurveServer(server) => Self::CurveServer(server),
            #[cfg(feature = "curve")]
            Self::CurveClient(client) => Self::CurveClient(client.begin(output)?),
        })
    }

    /// The command that is due.
    fn expected(&self) -> &'static str {
        match self {
            Self::Null => "READY",
            #[cfg(feature = "curve")]
            Self::CurveServer(server) => server.expected(),
            #[cfg(feature = "curve")]
            Self::CurveClient(client) => client.expected(),
        }
    }

    /// Takes the payload of one frame.
    pub(super) fn take_frame(
        self,
        is_command: bool,
        mut payload: Vec<u8>,
        ours: &Properties,
        output: &mut OutputQueue,
    ) -> Result<Step, LinkError> {
        let unexpected = ZmtpViolation::Unexpected { expected: self.expected() };
        if !is_command {
            return Err(unexpected.into());
        }
        let (name, body) = command::split(&payload)?;
        if name == b"ERROR" {
            return Err(LinkError::refused(command::reason(body)));
        }
        if name != self.expected().as_bytes() {
            return Err(unexpected.into());
        }
        let start = payload.len() - body.len();
        let step = self.take_body(&mut payload[start..], ours, output);
        if matches!(step, Err(LinkError::IncompatibleSocket { .. })) {
            command::queue_error(output, "Incompatible socket types");
        }
        step
    }

    /// Takes the body of the command that is due.
    #[cfg_attr(not(feature = "curve"), expect(unused_variables, reason = "NULL answers nothing"))]
    fn take_body(
        self,
        body: &mut [u8],
        ours: &Properties,
        output: &mut OutputQueue,
    ) -> Result<Step, LinkError> {
        let parse = |metadata: &[u8]| command::parse_properties(metadata, ours.role);
        Ok(match self {
            Self::Null => Step::Done(Outcome {
                identity: parse(body)?,
                protection: Protection::None,
                #[cfg(feature = "curve")]
                public_key: None,
            }),
            #[cfg(feature = "curve")]
            Self::CurveServer(server @ Server::Hello { .. }) => {
                Step::Next(Self::CurveServer(server.hello(body, output)?))
            }
            #[cfg(feature = "curve")]
            Self::CurveServer(server) => {
                let (proved, metadata) = server.initiate(body, output)?;
                Step::Ask(proved, parse(metadata)?)
            }
            #[cfg(feature = "curve")]
            Self::CurveClient(client @ Client::Ready { .. }) => {
                let (server, metadata, cipher) = client.ready(body)?;
                let (protection, public_key) = (Protection::Curve(cipher), Some(server));
                Step::Done(Outcome { identity: parse(metadata)?, protection, public_key })
            }
            #[cfg(feature = "curve")]
            Self::CurveClient(client) => Step::Next(Self::CurveClient(client.welcomed(body, ours, output)?)),
        })
    }
}
