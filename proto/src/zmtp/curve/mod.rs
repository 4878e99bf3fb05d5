//! CURVE, ZeroMQ's encryption and authentication (RFC 26): HELLO, WELCOME, INITIATE, READY, and then
//! messages.
//!
//! ```text
//! client                                                   server
//!   HELLO     C', box of zeros ( C' -> S )            ->
//!             <-   WELCOME   box of S' and a cookie ( S -> C' )
//!   INITIATE  cookie, box of C, a vouch and metadata ( C' -> S' )  ->
//!             <-   READY     box of metadata ( S' -> C' )
//!   MESSAGE   ( C' -> S' )                            <->  MESSAGE ( S' -> C' )
//! ```
//! C and S are the long-term keys, C' and S' the ephemeral ones; the vouch, a box of C' and S ( C -> S' ),
//! proves that the client has C. Each state of either side is a type or variant that owns the keys it still
//! needs: what is left behind is erased. Ephemeral keys, cookies and nonces are derived from the seed of the
//! connection, so that the same seeds, keys and inputs make the same bytes.
//!
//! **The cookie** lets RFC 26's server forget its ephemeral secret between WELCOME and INITIATE, by sending
//! it to the client in a box. A server on TCP holds a connection meanwhile anyway, so this one keeps the 32
//! bytes, and its cookie is 96 bytes of the seed that mean nothing to anybody: no secret ever leaves it,
//! there is no cookie key to keep or to expire, and a cookie of another connection is just a wrong one.

mod client;
mod crypto;
mod keys;
mod messages;
mod server;
mod z85;

pub(super) use client::Client;
pub use keys::{CurveKeyPair, CurvePublicKey, KeyError};
pub(super) use messages::{Cipher, MessageKind, OVERHEAD};
pub(super) use server::{Proved, Server};

use super::ZmtpViolation;
use crypto::{SharedKey, TAG};
use x25519_dalek::StaticSecret;

/// Bytes of a WELCOME's cookie.
const COOKIE: usize = 96;
/// Bytes of a HELLO's body, and where in it are the client's ephemeral key and the box with its number.
const HELLO: usize = 194;
const HELLO_PADDING: usize = 72;
/// What is in the box of a HELLO: zeros, so that it is no shorter than the answer.
const HELLO_ZEROS: [u8; 64] = [0; 64];
/// CURVE's version, with which a HELLO begins.
const VERSION: [u8; 2] = [1, 0];
/// Bytes of a box with the client's ephemeral key and the server's long-term key in it.
const VOUCH: usize = TAG + 64;

const NONCE_HELLO: &[u8; 16] = b"CurveZMQHELLO---";
const NONCE_WELCOME: &[u8; 8] = b"WELCOME-";
const NONCE_INITIATE: &[u8; 16] = b"CurveZMQINITIATE";
const NONCE_VOUCH: &[u8; 8] = b"VOUCH---";
const NONCE_READY: &[u8; 16] = b"CurveZMQREADY---";

/// A public key that a command brings must have one spelling and be good for a secret.
fn agree(
    secret: &StaticSecret,
    public: &[u8; 32],
    command: &'static str,
) -> Result<SharedKey, ZmtpViolation> {
    if !keys::is_canonical(public) {
        return Err(ZmtpViolation::NotCanonical { command });
    }
    SharedKey::agree(secret, public).ok_or(ZmtpViolation::LowOrder { command })
}

/// A box with these parts in it.
fn sealed(key: &SharedKey, nonce: &[u8; 24], parts: &[&[u8]]) -> Vec<u8> {
    let len = TAG + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut sealed = Vec::with_capacity(len);
    sealed.resize(TAG, 0);
    parts.iter().for_each(|part| sealed.extend_from_slice(part));
    key.seal(nonce, &mut sealed);
    sealed
}

#[cfg(test)]
mod tests;
