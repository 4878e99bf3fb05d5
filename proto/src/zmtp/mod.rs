//! ZeroMQ's wire protocol over any byte stream: bytes in, multipart messages out, and back.
//!
//! [`Link`] is one end of one connection that speaks ZMTP 3.0 or 3.1 ([RFC 23], [RFC 37]). The handshake,
//! commands and encryption are `omq-proto`'s; plain data frames are read and written here, because that is
//! where copies and allocations are decided.
//!
//! [RFC 23]: https://rfc.zeromq.org/spec/23/
//! [RFC 37]: https://rfc.zeromq.org/spec/37/

mod assembly;
mod config;
mod error;
mod framing;
mod greeting;
mod link;
mod liveness;
mod output;

#[cfg(test)]
mod tests;

pub use config::{Heartbeat, LinkConfig, Mechanism, Role, SocketType};
pub use error::{LinkError, SendError, Violation};
pub use link::{Link, LinkEvent, PeerInfo};
