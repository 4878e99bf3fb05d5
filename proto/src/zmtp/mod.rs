//! ZeroMQ's wire protocol over any byte stream: bytes in, multipart messages out, and back.
//!
//! [`Link`] is one end of one connection that speaks ZMTP 3.0 or 3.1 ([RFC 23], [RFC 37]). The handshake,
//! commands and encryption are `omq-proto`'s; plain data frames are read and written here, because that is
//! where copies and allocations are decided.
//!
//! Feature `curve` adds CURVE ([RFC 26]). Its ephemeral keys and nonces are made below, in `omq-proto`, from the
//! operating system's randomness: the one place where the core is not a function of its inputs.
//!
//! [RFC 23]: https://rfc.zeromq.org/spec/23/
//! [RFC 26]: https://rfc.zeromq.org/spec/26/
//! [RFC 37]: https://rfc.zeromq.org/spec/37/

mod assembly;
mod boxes;
mod codec;
mod config;
mod error;
mod framing;
mod greeting;
#[cfg(feature = "curve")]
mod keys;
mod link;
mod liveness;
mod output;

#[cfg(test)]
mod tests;

pub use config::{Heartbeat, LinkConfig, Mechanism, Role, SocketType};
pub use error::{LinkError, RefusalStatus, SendError, Violation};
#[cfg(feature = "curve")]
pub use keys::{CurveKeyPair, CurvePublicKey, CurveSecretKey, KeyError};
#[cfg(feature = "curve")]
pub use link::Decision;
pub use link::{Link, LinkEvent, PeerInfo};

/// A command that is longer can't be one that matters to a ROUTER or DEALER.
const MAX_COMMAND: usize = 8 << 10;
