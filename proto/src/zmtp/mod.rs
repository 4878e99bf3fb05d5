//! ZeroMQ's wire protocol over any byte stream: bytes in, multipart messages out, and back.
//!
//! [`Link`] is one end of a connection that speaks ZMTP 3.0 or 3.1 ([RFC 23], [RFC 37]) with the mechanism
//! NULL or, with the feature `curve`, CURVE ([RFC 26]). It does no I/O, and has neither a clock nor
//! randomness: CURVE derives its keys and nonces from a seed that the host provides for each link. The same
//! seeds, keys and inputs give the same output, byte for byte. The contents of messages are opaque here.
//!
//! # Example
//! Two links in memory; a host would send the bytes over a connection.
//! ```
//! use std::io::IoSlice;
//! use std::time::Instant;
//!
//! use callosum_proto::zmtp::{Link, LinkConfig, LinkError, LinkEvent};
//! use callosum_proto::{Multipart, Role};
//!
//! fn carry(from: &mut Link, to: &mut Link, now: Instant) -> Result<(), LinkError> {
//!     while from.pending_output() > 0 {
//!         let mut slices = [IoSlice::new(&[]); 16];
//!         let filled = from.output(&mut slices);
//!         let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
//!         from.advance_output(bytes.len());
//!         to.handle_input(now, &bytes)?;
//!     }
//!     Ok(())
//! }
//!
//! let now = Instant::now();
//! // Under CURVE, use 32 random bytes of the operating system, new for each link.
//! let seed = [0; 32];
//! let mut connector = Link::new(&LinkConfig::new(Role::Connector), seed, now);
//! let mut binder = Link::new(&LinkConfig::new(Role::Binder), seed, now);
//! while !(connector.is_established() && binder.is_established()) {
//!     carry(&mut connector, &mut binder, now)?;
//!     carry(&mut binder, &mut connector, now)?;
//! }
//! let message = Multipart::new("PING".into(), "".into(), "".into());
//! connector.send(message.clone())?;
//! carry(&mut connector, &mut binder, now)?;
//! assert!(matches!(binder.poll_event(), Some(LinkEvent::Established { .. })));
//! assert_eq!(binder.poll_event(), Some(LinkEvent::Message(message)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [RFC 23]: https://rfc.zeromq.org/spec/23/
//! [RFC 26]: https://rfc.zeromq.org/spec/26/
//! [RFC 37]: https://rfc.zeromq.org/spec/37/

#[cfg(feature = "curve")]
mod admission;
mod assembly;
mod command;
mod config;
#[cfg(feature = "curve")]
mod curve;
mod error;
mod event;
mod framing;
mod greeting;
mod handshake;
mod link;
mod liveness;
mod output;
mod traffic;

#[cfg(test)]
mod tests;

pub use config::{LinkConfig, Mechanism};
#[cfg(feature = "curve")]
pub use curve::{CurveKeyPair, CurvePublicKey, KeyError};
pub use error::{LinkError, RefusalStatus, ZmtpViolation};
pub use event::LinkEvent;
pub use link::Link;

/// Largest command that is accepted, in bytes. No command that a ROUTER or DEALER handles is longer.
const MAX_COMMAND: usize = 8 << 10;
