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
//! C and S are the long-term keys of client and server, C' and S' the ephemeral ones. `box of x ( A -> B )`
//! is x encrypted with the secret that A and B share. The vouch, a box of C' and S ( C -> S' ), proves that
//! the client owns C. Each state of either side is a type or variant that owns the keys it still needs; keys
//! that are no longer needed are zeroed. Ephemeral keys, cookies and nonces are derived from the seed of the
//! connection, so the same seeds, keys and inputs give the same bytes.
//!
//! **The cookie** lets a server of RFC 26 forget its ephemeral secret between WELCOME and INITIATE, by
//! storing it, encrypted, at the client. On TCP, a server holds a connection in that time anyway, so this
//! server keeps the 32 bytes, and its cookie is 96 pseudorandom bytes. So no secret ever leaves the server,
//! there is no cookie key to keep or to expire, and a cookie of another connection is just wrong.

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

/// Bytes of the cookie in a WELCOME.
const COOKIE: usize = 96;
/// Bytes of the body of a HELLO, and of the padding in it.
const HELLO: usize = 194;
const HELLO_PADDING: usize = 72;
/// The plaintext in the box of a HELLO. Zeros make the HELLO no shorter than its answer.
const HELLO_ZEROS: [u8; 64] = [0; 64];
/// The version of CURVE, at the start of a HELLO.
const VERSION: [u8; 2] = [1, 0];
/// Bytes of the vouch: a box with the client's ephemeral key and the server's long-term key.
const VOUCH: usize = TAG + 64;

// RFC 26: each command has its own prefix, so two commands under one key never have the same nonce.
const NONCE_HELLO: &[u8; 16] = b"CurveZMQHELLO---";
const NONCE_WELCOME: &[u8; 8] = b"WELCOME-";
const NONCE_INITIATE: &[u8; 16] = b"CurveZMQINITIATE";
const NONCE_VOUCH: &[u8; 8] = b"VOUCH---";
const NONCE_READY: &[u8; 16] = b"CurveZMQREADY---";

/// The secret shared with a public key from `command`, which must be canonical and must not have a low order
/// (A-8).
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

/// A box with the concatenated parts.
fn sealed(key: &SharedKey, nonce: &[u8; 24], parts: &[&[u8]]) -> Vec<u8> {
    let len = TAG + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut sealed = Vec::with_capacity(len);
    // Room for the tag, which `seal` writes once the rest is encrypted.
    sealed.resize(TAG, 0);
    parts.iter().for_each(|part| sealed.extend_from_slice(part));
    key.seal(nonce, &mut sealed);
    sealed
}

#[cfg(test)]
mod tests;
