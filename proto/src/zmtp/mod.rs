//! ZeroMQ's wire protocol over any byte stream: bytes in, multipart messages out, and back.
//!
//! [`Link`] is one end of one connection that speaks ZMTP 3.0 or 3.1 ([RFC 23], [RFC 37]). The handshake,
//! commands and encryption are `omq-proto`'s; plain data frames are read and written here, because that is
//! where copies and allocations are decided.
//!
//! Feature `curve` adds CURVE ([RFC 26]). Its ephemeral keys and nonces are made below, in `omq-proto`, from the
//! operating system's randomness: the one place where the core is not a function of its inputs.
//!
//! # Example
//! Two links in memory; their owners would carry the bytes over a connection.
//! ```
//! use std::io::IoSlice;
//! use std::time::Instant;
//!
//! use callosum_proto::Multipart;
//! use callosum_proto::zmtp::{Link, LinkConfig, LinkError, LinkEvent, Role};
//!
//! fn carry(from: &mut Link, to: &mut Link, now: Instant) -> Result<(), LinkError> {
//!     while from.pending_output() > 0 {
//!         let mut slices = [IoSlice::new(&[]); 16];
//!         let filled = from.output(&mut slices);
//!         let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
//!         from.advance_output(bytes.len());
//!         to.handle_input(now, bytes.into())?;
//!     }
//!     Ok(())
//! }
//!
//! let now = Instant::now();
//! let mut connector = Link::new(&LinkConfig::new(Role::Connector), now);
//! let mut binder = Link::new(&LinkConfig::new(Role::Binder), now);
//! while !(connector.is_established() && binder.is_established()) {
//!     carry(&mut connector, &mut binder, now)?;
//!     carry(&mut binder, &mut connector, now)?;
//! }
//! let message = Multipart::new("PING".into(), "".into(), "".into());
//! connector.send(message.clone())?;
//! carry(&mut connector, &mut binder, now)?;
//! assert!(matches!(binder.poll_event(), Some(LinkEvent::Established(_))));
//! assert_eq!(binder.poll_event(), Some(LinkEvent::Message(message)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
