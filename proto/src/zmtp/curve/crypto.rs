//! The primitives of CURVE, without its protocol: X25519, XSalsa20-Poly1305 (NaCl's `crypto_box`), and the
//! derivation of all secrets and nonces from the host's seed.
//!
//! Which crates, and why:
//! - `x25519-dalek` for X25519: the most widely used one, and the only one of the three that was audited
//!   (with `curve25519-dalek`, by Quarkslab in 2019).
//! - `salsabox` for messages above [`SMALL`] bytes: its Salsa20 uses SIMD, its Poly1305 is RustCrypto's. It
//!   encrypts 64 KiB in 48 µs; RustCrypto's `crypto_secretbox` takes 157 µs, `cryptoxide` 182 µs (one core of
//!   an x86-64 server with AVX2). Not audited; neither are the RustCrypto crates for Salsa20.
//! - `cryptoxide` for smaller messages: portable code without `unsafe` and dependencies. RustCrypto's
//!   Poly1305 detects AVX2 at run time and sets up tables for it, which takes longer than a small message as
//!   a whole: for 64 bytes, `salsabox` takes 2.0 µs and `cryptoxide` 0.3 µs.
//!
//! Tests compare both with each other and with `crypto_secretbox` at every length around the threshold, and
//! with the test vectors of NaCl and libsodium.

use cryptoxide::mac::Mac;
use cryptoxide::poly1305::Poly1305;
use cryptoxide::salsa20::Salsa20;
use salsabox::{SecretBox, hsalsa20};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes of the authentication tag, which precedes the ciphertext.
pub(super) const TAG: usize = 16;

/// Messages of up to this size are encrypted by `cryptoxide`. At this size, the two are equally fast
/// (measured as above).
const SMALL: usize = 1024;

/// Unpredictable bytes from the host. All ephemeral keys, cookies and random nonces of a connection are
/// derived from them.
pub(in crate::zmtp) struct Seed(Zeroizing<[u8; 32]>);

impl Seed {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Derives 32 bytes, different for each label: HSalsa20, as NaCl uses it, is a pseudorandom function.
    pub(super) fn derive(&self, label: &[u8; 16]) -> Zeroizing<[u8; 32]> {
        // The label is the whole input of HSalsa20, so labels that differ give independent bytes.
        Zeroizing::new(hsalsa20(&self.0, label))
    }
}

/// The secret that two key pairs share: NaCl's `crypto_box_beforenm`.
pub(in crate::zmtp) struct SharedKey(Zeroizing<[u8; 32]>);

impl SharedKey {
    /// `None` if the public key has a low order: then the result would not be secret.
    pub(super) fn agree(secret: &StaticSecret, public: &[u8; 32]) -> Option<Self> {
        let shared = secret.diffie_hellman(&PublicKey::from(*public));
        shared.was_contributory().then(|| Self(Zeroizing::new(hsalsa20(shared.as_bytes(), &[0; 16]))))
    }

    /// Encrypts in place all bytes after the first [`TAG`], and writes the tag to these.
    pub(super) fn seal(&self, nonce: &[u8; 24], sealed: &mut [u8]) {
        let (tag, inside) = sealed.split_at_mut(TAG);
        tag.copy_from_slice(&SecretBox::from_key(&self.0).encrypt_detached(nonce, inside));
    }

    /// Decrypts in place the bytes after the tag, and returns them. `None`, and nothing is changed, if the
    /// tag is wrong.
    pub(super) fn open<'a>(&self, nonce: &[u8; 24], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (tag, inside) = sealed.split_first_chunk_mut()?;
        SecretBox::from_key(&self.0).decrypt_detached(nonce, inside, tag).ok()?;
        Some(inside)
    }
}

/// Encrypts or decrypts the messages of one direction. Their nonces are a prefix and the number of the
/// message.
///
/// XSalsa20 is Salsa20 with a key derived from the first 16 bytes of the nonce. Here these are constant, so
/// the derived key is cached for small messages.
pub(super) struct MessageKey {
    whole: SecretBox,
    derived: Zeroizing<[u8; 32]>,
    prefix: &'static [u8; 16],
}

impl MessageKey {
    pub(super) fn new(key: &SharedKey, prefix: &'static [u8; 16]) -> Self {
        let derived = Zeroizing::new(hsalsa20(&key.0, prefix));
        Self { whole: SecretBox::from_key(&key.0), derived, prefix }
    }

    /// Like [`SharedKey::seal`], with the nonce of this number.
    pub(super) fn seal(&self, number: u64, sealed: &mut [u8]) {
        let (tag, inside) = sealed.split_at_mut(TAG);
        tag.copy_from_slice(&if inside.len() <= SMALL {
            let (mut cipher, mut authenticator) = self.start(number);
            // NaCl authenticates the ciphertext, so encrypt first.
            cipher.process_mut(inside);
            authenticate(&mut authenticator, inside)
        } else {
            self.whole.encrypt_detached(&numbered_nonce(self.prefix, number), inside)
        });
    }

    /// Like [`SharedKey::open`], with the nonce of this number.
    pub(super) fn open<'a>(&self, number: u64, sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (tag, inside) = sealed.split_first_chunk_mut::<TAG>()?;
        if inside.len() <= SMALL {
            let (mut cipher, mut authenticator) = self.start(number);
            // Before decryption: a forged message must not change the buffer.
            let expected = authenticate(&mut authenticator, inside);
            // In constant time, as in NaCl, so that the duration says nothing about the right tag.
            if !bool::from(expected.ct_eq(tag)) {
                return None;
            }
            cipher.process_mut(inside);
        } else {
            self.whole.decrypt_detached(&numbered_nonce(self.prefix, number), inside, tag).ok()?;
        }
        Some(inside)
    }

    /// Salsa20 after the first 32 bytes of its key stream, and Poly1305, whose key they are.
    fn start(&self, number: u64) -> (Salsa20, Poly1305) {
        let mut cipher = Salsa20::new(&*self.derived, &number.to_be_bytes());
        // NaCl: the first 32 bytes of the key stream encrypt nothing. They are the one-time key of Poly1305.
        let mut key = Zeroizing::new([0; 32]);
        cipher.process_mut(&mut *key);
        (cipher, Poly1305::new(&key))
    }
}

fn authenticate(authenticator: &mut Poly1305, bytes: &[u8]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    authenticator.input(bytes);
    authenticator.raw_result(&mut tag);
    tag
}

/// The nonce with a number of this connection.
pub(super) fn numbered_nonce(prefix: &[u8; 16], number: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(prefix);
    nonce[16..].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// A nonce with random bytes.
pub(super) fn random_nonce(prefix: &[u8; 8], random: &[u8; 16]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(prefix);
    nonce[8..].copy_from_slice(random);
    nonce
}

#[cfg(test)]
mod tests;
