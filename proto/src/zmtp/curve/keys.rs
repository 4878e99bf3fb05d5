//! Long-term keys of CURVE, and their text form (RFC 26, RFC 32). Secrets are zeroed when dropped, and never
//! shown.

use std::fmt;
use std::str::FromStr;

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::z85;

const KEY_BYTES: usize = 32;

/// Why bytes or a text are not a key. Does not contain them, since they may be a secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text does not have 40 characters.
    #[error("a key has 40 characters, not {0} bytes")]
    Length(usize),
    /// The text has characters that are not in Z85, or five that encode more than 32 bits.
    #[error("a key must be Z85 text")]
    NotZ85,
    /// The public key has a low order (zero, for example): every shared secret with it would be the same.
    #[error("a public key of low order")]
    LowOrder,
    /// The public key is not in its canonical form: it could be used to bypass the revocation of the same
    /// key.
    #[error("a public key that is not in its canonical form")]
    NotCanonical,
}

/// A long-term public key, which identifies a peer. Its text form is 40 characters of Z85.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CurvePublicKey([u8; KEY_BYTES]);

impl CurvePublicKey {
    /// The key with these bytes, as on the wire.
    ///
    /// # Errors
    /// If it has a low order, or is not in its canonical form. No honest peer has such a key.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        if !is_canonical(&bytes) {
            return Err(KeyError::NotCanonical);
        }
        // Any secret reveals a low order: clamping makes it a multiple of the cofactor, 8.
        let shared = StaticSecret::from([1; KEY_BYTES]).diffie_hellman(&PublicKey::from(bytes));
        if !shared.was_contributory() {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(bytes))
    }

    /// The bytes, as on the wire.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// A key whose owner has proved to have the secret key. Key agreement rejects keys of low order, so the
    /// check is not repeated.
    pub(super) fn from_proved(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }
}

/// Whether the number is below the prime of the field, 2^255 - 19, and the unused top bit is zero.
pub(super) fn is_canonical(bytes: &[u8; KEY_BYTES]) -> bool {
    // Little-endian: the prime has the bytes ED, 30 times FF, and 7F.
    let [first, middle @ .., last] = bytes;
    *last < 0x7F || (*last == 0x7F && (middle.iter().any(|byte| *byte != 0xFF) || *first < 0xED))
}

impl FromStr for CurvePublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // `decode` is for secret keys, too, so it returns bytes that are zeroed. These are public.
        Self::from_bytes(*decode(text)?)
    }
}

impl fmt::Display for CurvePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&z85::encode(&self.0))
    }
}

impl fmt::Debug for CurvePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurvePublicKey({self})")
    }
}

/// A secret key and its public key. The secret is zeroed when it is dropped, and `Debug` omits it.
#[derive(Clone)]
pub struct CurveKeyPair {
    public: CurvePublicKey,
    secret: Zeroizing<[u8; KEY_BYTES]>,
}

impl CurveKeyPair {
    /// A pair from 32 bytes of the operating system's randomness, since the engine has none. Any 32 bytes are
    /// a valid secret key; they must be unpredictable to be a safe one.
    pub fn generate(secret: impl Into<Zeroizing<[u8; KEY_BYTES]>>) -> Self {
        let secret = secret.into();
        // Can't have a low order: it is a clamped secret times the base point.
        let public = CurvePublicKey(PublicKey::from(&StaticSecret::from(*secret)).to_bytes());
        Self { public, secret }
    }

    /// The pair of a secret key, given as 40 characters of Z85.
    ///
    /// # Errors
    /// If the text is not 40 characters of Z85.
    pub fn from_secret_z85(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self::generate)
    }

    /// The public key.
    pub fn public(&self) -> CurvePublicKey {
        self.public
    }

    /// The secret key, as 40 characters of Z85. The text is zeroed when it is dropped.
    pub fn secret_z85(&self) -> Zeroizing<String> {
        z85::encode(&self.secret)
    }

    pub(super) fn exchange_key(&self) -> StaticSecret {
        StaticSecret::from(*self.secret)
    }

    #[cfg(feature = "internals")]
    pub(crate) fn secret_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.secret
    }
}

impl fmt::Debug for CurveKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurveKeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let text = text.as_bytes().try_into().map_err(|_| KeyError::Length(text.len()))?;
    z85::decode(text).ok_or(KeyError::NotZ85)
}

#[cfg(test)]
mod tests {
    use super::*;

    // zmq_curve(7), "Test key values".
    const SERVER_PUBLIC: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    const SERVER_SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";

    #[test]
    fn texts_are_libzmqs() {
        let pair = CurveKeyPair::from_secret_z85(SERVER_SECRET).unwrap();
        assert_eq!(pair.public().to_string(), SERVER_PUBLIC);
        assert_eq!(SERVER_PUBLIC.parse(), Ok(pair.public()));
        assert_eq!(*pair.secret_z85(), SERVER_SECRET);
    }

    #[test]
    fn other_texts_are_refused() {
        let parse = |text: &str| text.parse::<CurvePublicKey>().unwrap_err();
        assert_eq!(parse(""), KeyError::Length(0));
        assert_eq!(parse(&SERVER_PUBLIC[1..]), KeyError::Length(39));
        assert_eq!(parse(&format!("{SERVER_PUBLIC}\n")), KeyError::Length(41));
        assert_eq!(parse(&SERVER_PUBLIC.replace('M', "~")), KeyError::NotZ85);
        assert_eq!(parse(&"é".repeat(20)), KeyError::NotZ85);
        assert_eq!(parse(&"#".repeat(40)), KeyError::NotZ85, "more than 32 bits");
        assert_eq!(CurveKeyPair::from_secret_z85("short").unwrap_err(), KeyError::Length(5));
        assert_eq!(CurveKeyPair::from_secret_z85(&"#".repeat(40)).unwrap_err(), KeyError::NotZ85);
    }

    #[test]
    fn points_of_low_order_are_refused() {
        assert_eq!("0".repeat(40).parse::<CurvePublicKey>(), Err(KeyError::LowOrder));
        let one = std::array::from_fn(|at| u8::from(at == 0));
        let mut minus_one = [0xFF; KEY_BYTES];
        minus_one[0] = 0xEC;
        minus_one[31] = 0x7F;
        let order_8 =
            |hex: &str| std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
        for point in [
            one,
            minus_one,
            order_8("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
            order_8("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        ] {
            assert_eq!(CurvePublicKey::from_bytes(point), Err(KeyError::LowOrder));
        }
    }

    #[test]
    fn every_key_has_one_spelling() {
        let mut bytes = *SERVER_PUBLIC.parse::<CurvePublicKey>().unwrap().as_bytes();
        bytes[31] |= 0x80;
        assert_eq!(CurvePublicKey::from_bytes(bytes), Err(KeyError::NotCanonical));
        let mut prime_and_more = [0xFF; KEY_BYTES];
        prime_and_more[31] = 0x7F;
        for first in 0xED..=0xFF {
            prime_and_more[0] = first;
            assert_eq!(CurvePublicKey::from_bytes(prime_and_more), Err(KeyError::NotCanonical));
        }
        prime_and_more[0] = 0xEB;
        assert!(CurvePublicKey::from_bytes(prime_and_more).is_ok(), "just below");
    }

    #[test]
    fn debug_hides_secrets() {
        let pair = CurveKeyPair::generate([7; KEY_BYTES]);
        let shown = format!("CurveKeyPair {{ public: CurvePublicKey({}), .. }}", pair.public());
        assert_eq!(format!("{pair:?}"), shown);
    }

    /// Only the types can be checked: whether memory is zeroed could only be seen after it is freed.
    #[test]
    fn secrets_are_of_types_that_erase_them() {
        fn erases_itself<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let pair = CurveKeyPair::generate([7; KEY_BYTES]);
        let CurveKeyPair { public: _, secret } = &pair;
        erases_itself(secret);
        erases_itself(&pair.secret_z85());
        erases_itself(&decode(SERVER_SECRET).unwrap());
        erases_itself(&StaticSecret::from([7; KEY_BYTES]));
        erases_itself(&pair.exchange_key());
    }
}
