//! The handshake between the greetings and the first message, one command at a time. NULL (RFC 23) is here,
//! CURVE in [`curve`](super::curve).
//!
//! Each state owns what it needs. A command consumes the state and returns the next one, so there is no state
//! after an error.

use std::time::Instant;

use bytes::Bytes;

#[cfg(feature = "curve")]
use super::CurvePublicKey;
use super::command::{self, Properties};
#[cfg(feature = "curve")]
use super::curve::{self, Client, Server};
use super::greeting::Terms;
use super::output::OutputQueue;
use super::traffic::Protection;
use super::{LinkConfig, LinkError, Mechanism, ZmtpViolation};

/// A handshake that is not complete.
pub(super) enum Handshake {
    /// Waits for READY.
    Null,
    #[cfg(feature = "curve")]
    CurveServer(Server),
    #[cfg(feature = "curve")]
    CurveClient(Client),
}

/// The limits of a handshake, and the bytes received so far.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    pub(super) deadline: Option<Instant>,
    bytes: usize,
    max_bytes: usize,
}

impl Progress {
    pub(super) fn new(config: &LinkConfig, now: Instant) -> Self {
        // Z-16: fixed from the beginning. A peer that sends one byte now and then does not extend it.
        let deadline = now.checked_add(config.handshake_timeout);
        Self { deadline, bytes: 0, max_bytes: config.max_handshake_bytes }
    }

    pub(super) fn count(&mut self, len: usize) -> Result<(), LinkError> {
        self.bytes = self.bytes.saturating_add(len);
        if self.bytes > self.max_bytes {
            return Err(LinkError::HandshakeTooLarge { max: self.max_bytes });
        }
        Ok(())
    }

    /// Bytes that may still come.
    #[cfg(feature = "curve")]
    pub(super) fn left(&self) -> usize {
        self.max_bytes.saturating_sub(self.bytes)
    }
}

/// The result of a command.
pub(super) enum Step {
    /// The peer has to send another command.
    #[cfg(feature = "curve")]
    Next(Handshake),
    /// The application has to decide whether to admit the client.
    #[cfg(feature = "curve")]
    Ask(curve::Proved, Bytes),
    Done(Outcome),
}

/// The result of a complete handshake.
pub(super) struct Outcome {
    /// The routing id that the peer has requested.
    pub(super) identity: Bytes,
    pub(super) protection: Protection,
    #[cfg(feature = "curve")]
    pub(super) public_key: Option<CurvePublicKey>,
}

impl Handshake {
    /// The first state of a mechanism. All its randomness is derived from the seed.
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

    /// Queues the first command of this end after the greetings, if it sends one.
    pub(super) fn begin(self, ours: &Properties, output: &mut OutputQueue) -> Result<Self, LinkError> {
        Ok(match self {
            Self::Null => {
                // RFC 23: READY does not wait for the peer's. If each side waited, neither would send it.
                command::queue(output, b"\x05READY", &[&ours.encode()]);
                Self::Null
            }
            // RFC 26: the client sends the first command.
            #[cfg(feature = "curve")]
            Self::CurveServer(server) => Self::CurveServer(server),
            #[cfg(feature = "curve")]
            Self::CurveClient(client) => Self::CurveClient(client.begin(output)?),
        })
    }

    /// The name of the next command.
    fn expected(&self) -> &'static str {
        match self {
            Self::Null => "READY",
            #[cfg(feature = "curve")]
            Self::CurveServer(server) => server.expected(),
            #[cfg(feature = "curve")]
            Self::CurveClient(client) => client.expected(),
        }
    }

    /// Handles the payload of one frame.
    pub(super) fn take_frame(
        self,
        is_command: bool,
        mut payload: Vec<u8>,
        ours: &Properties,
        output: &mut OutputQueue,
    ) -> Result<Step, LinkError> {
        let unexpected = ZmtpViolation::Unexpected { expected: self.expected() };
        // Z-6: no messages before the handshake is complete.
        if !is_command {
            return Err(unexpected.into());
        }
        let (name, body) = command::split(&payload)?;
        // Z-7: at any step, so before the expected name. Under CURVE, too, it is in the clear, so somebody on
        // the path can forge it: at worst, the link ends, and waiting calls with it as not sent.
        if name == b"ERROR" {
            return Err(LinkError::refused(command::reason(body)));
        }
        if name != self.expected().as_bytes() {
            return Err(unexpected.into());
        }
        // Borrow the body again, as mutable: CURVE decrypts it in place.
        let start = payload.len() - body.len();
        let step = self.take_body(&mut payload[start..], ours, output);
        // Z-1: the peer learns why with an ERROR command.
        if matches!(step, Err(LinkError::IncompatibleSocket { .. })) {
            command::queue_error(output, "Incompatible socket types");
        }
        step
    }

    /// Handles the body of the expected command.
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
                // Check the metadata first: the application is not asked about a peer that must be refused
                // anyway.
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
