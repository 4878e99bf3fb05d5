//! The primitives of CURVE, and nothing of its protocol: X25519, XSalsa20-Poly1305 (NaCl's `crypto_box`), and
//! the derivation of all that is random from the host's seed.
//!
//! Which crates, and why:
//! - `x25519-dalek` for X25519: the only one of the three that was audited (with `curve25519-dalek`, by
//!   Quarkslab in 2019), and the one that everybody uses.
//! - `salsabox` for boxes above [`SMALL`] bytes: its Salsa20 uses SIMD, its Poly1305 is RustCrypto's. It
//!   seals 64 KiB in 48 µs where RustCrypto's `crypto_secretbox` takes 157 µs and `cryptoxide` 182 µs (one
//!   core of an x86-64 server with AVX2). Not audited; neither are the RustCrypto crates for Salsa20.
//! - `cryptoxide` for smaller boxes: portable code without `unsafe`, and without dependencies. RustCrypto's
//!   Poly1305 looks for AVX2 at run time and sets up tables for it, which costs more than a small box
//!   altogether: 64 bytes take `salsabox` 2.0 µs and `cryptoxide` 0.3 µs.
//!
//! Tests compare the two with each other and with `crypto_secretbox` at every length around the border, and
//! with the vectors that NaCl and libsodium publish.

use cryptoxide::mac::Mac;
use cryptoxide::poly1305::Poly1305;
use cryptoxide::salsa20::Salsa20;
use salsabox::{SecretBox, hsalsa20};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes of the tag that stands before what it authenticates.
pub(super) const TAG: usize = 16;

/// Up to this size a message is sealed by `cryptoxide`; where the two were measured to be equally fast.
const SMALL: usize = 1024;

/// Unpredictable bytes of the host, from which everything random of one connection is derived.
pub(in crate::zmtp) struct Seed(Zeroizing<[u8; 32]>);

impl Seed {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// 32 bytes that belong to this label alone: HSalsa20, as NaCl uses it, is a pseudorandom function of its
    /// input.
    pub(super) fn derive(&self, label: &[u8; 16]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(hsalsa20(&self.0, label))
    }
}

/// What two key pairs agree on: NaCl's `crypto_box_beforenm`.
pub(in crate::zmtp) struct SharedKey(Zeroizing<[u8; 32]>);

impl SharedKey {
    /// `None` if the public key is of low order, so that the result would be no secret.
    pub(super) fn agree(secret: &StaticSecret, public: &[u8; 32]) -> Option<Self> {
        let shared = secret.diffie_hellman(&PublicKey::from(*public));
        shared.was_contributory().then(|| Self(Zeroizing::new(hsalsa20(shared.as_bytes(), &[0; 16]))))
    }

    /// Encrypts in place what stands behind the first [`TAG`] bytes, which become the tag.
    pub(super) fn seal(&self, nonce: &[u8; 24], sealed: &mut [u8]) {
        let (tag, inside) = sealed.split_at_mut(TAG);
        tag.copy_from_slice(&SecretBox::from_key(&self.0).encrypt_detached(nonce, inside));
    }

    /// Decrypts in place; what stood behind the tag. `None`, and nothing is changed, if the tag is not right.
    pub(super) fn open<'a>(&self, nonce: &[u8; 24], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (tag, inside) = sealed.split_first_chunk_mut()?;
        SecretBox::from_key(&self.0).decrypt_detached(nonce, inside, tag).ok()?;
        Some(inside)
    }
}

/// Seals or opens the numbered messages of one direction, whose nonces are a prefix and the number.
///
/// XSalsa20 is Salsa20 with a key that it derives from the first 16 bytes of the nonce. Here they are always
/// the same, so that small messages take that key from here.
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
            let expected = authenticate(&mut authenticator, inside);
            if !bool::from(expected.ct_eq(tag)) {
                return None;
            }
            cipher.process_mut(inside);
        } else {
            self.whole.decrypt_detached(&numbered_nonce(self.prefix, number), inside, tag).ok()?;
        }
        Some(inside)
    }

    /// The key stream behind its first 32 bytes, which are the authenticator's key.
    fn start(&self, number: u64) -> (Salsa20, Poly1305) {
        let mut cipher = Salsa20::new(&*self.derived, &number.to_be_bytes());
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

/// A nonce that is a number of this connection.
pub(super) fn numbered_nonce(prefix: &[u8; 16], number: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(prefix);
    nonce[16..].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// A nonce that is random.
pub(super) fn random_nonce(prefix: &[u8; 8], random: &[u8; 16]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(prefix);
    nonce[8..].copy_from_slice(random);
    nonce
}

#[cfg(test)]
mod tests;
