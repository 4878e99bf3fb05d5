//! Z85, the text form of keys (RFC 32): five characters for every four bytes.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Encodes a key. Zeroed when dropped, since the key may be secret.
pub(super) fn encode(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(40));
    for chunk in key.as_chunks::<4>().0 {
        let number = u32::from_be_bytes(*chunk);
        let digits = [85_u32.pow(4), 85_u32.pow(3), 85_u32.pow(2), 85, 1].map(|place| number / place % 85);
        text.extend(digits.map(|digit| char::from(ALPHABET[digit as usize])));
    }
    text
}

/// Decodes a key; `None` if the text is not Z85.
pub(super) fn decode(text: &[u8; 40]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    for (chunk, bytes) in text.as_chunks::<5>().0.iter().zip(key.as_chunks_mut::<4>().0) {
        // 64 bits, because five digits can encode more than 32 bits hold. Then the conversion below fails.
        let mut number = 0_u64;
        for character in chunk {
            let digit = ALPHABET.iter().position(|known| known == character)?;
            number = number * 85 + digit as u64;
        }
        *bytes = u32::try_from(number).ok()?.to_be_bytes();
    }
    Some(key)
}
