//! CURVE messages: the encrypted frames after the handshake (RFC 26, section "MESSAGE").
//!
//! ```text
//! message = %d7 "MESSAGE" number(8) tag(16) encrypted( flags(1) payload )
//! ```
//! Each side numbers its messages consecutively, after the number of its last command of the handshake. RFC
//! 26 only requires rising numbers, but peers count by one. Any other number is an error, so that nobody on
//! the path can drop messages, and so join frames of several messages into one (A-9).

use bytes::{BufMut, BytesMut};

use super::crypto::{MessageKey, SharedKey, TAG};
use crate::zmtp::ZmtpViolation;

const NAME: &[u8; 8] = b"\x07MESSAGE";
const NUMBER: usize = 8;
const FLAGS: usize = 1;
/// Where the tag begins.
const SEALED: usize = NAME.len() + NUMBER;
/// Bytes of a CURVE message in addition to its payload.
pub(in crate::zmtp) const OVERHEAD: usize = SEALED + TAG + FLAGS;

// Both directions have one key, and their numbers overlap: only the prefix makes the nonces differ.
const FROM_CLIENT: &[u8; 16] = b"CurveZMQMESSAGEC";
const FROM_SERVER: &[u8; 16] = b"CurveZMQMESSAGES";

// RFC 26 defines MORE only. COMMAND is libzmq's, for PING and PONG between the frames.
/// Flags inside a message. Others are ignored, as in libzmq.
const MORE: u8 = 1;
const COMMAND: u8 = 2;

/// What a CURVE message contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::zmtp) enum MessageKind {
    /// A frame; `more` if other frames of its message follow.
    Frame {
        more: bool,
    },
    Command,
}

/// Encrypts and decrypts the messages of one connection, and checks their numbers.
pub(in crate::zmtp) struct Cipher {
    sealing: MessageKey,
    opening: MessageKey,
    last_sent: u64,
    last_received: u64,
}

/// Which side of CURVE this end is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Cipher {
    /// `last_sent` and `last_received` are the numbers of the last commands of the handshake.
    pub(super) fn new(key: &SharedKey, side: Side, last_sent: u64, last_received: u64) -> Self {
        let (ours, theirs) = match side {
            Side::Client => (FROM_CLIENT, FROM_SERVER),
            Side::Server => (FROM_SERVER, FROM_CLIENT),
        };
        let (sealing, opening) = (MessageKey::new(key, ours), MessageKey::new(key, theirs));
        Self { sealing, opening, last_sent, last_received }
    }

    /// Reserves numbers for this many messages, and returns the first. `None`, and none are reserved, if
    /// fewer are left: using a nonce twice would reveal both messages.
    pub(in crate::zmtp) fn reserve(&mut self, messages: usize) -> Option<u64> {
        // Wraps only if no number is left, and then the next line fails.
        let first = self.last_sent.wrapping_add(1);
        self.last_sent = self.last_sent.checked_add(messages as u64)?;
        Some(first)
    }

    /// Appends a message with a reserved number and the concatenated parts as payload, and encrypts it in
    /// place.
    pub(in crate::zmtp) fn seal(
        &self,
        number: u64,
        kind: MessageKind,
        parts: [&[u8]; 2],
        out: &mut BytesMut,
    ) {
        out.put_slice(NAME);
        out.put_u64(number);
        let sealed = out.len();
        out.put_bytes(0, TAG);
        out.put_u8(match kind {
            MessageKind::Frame { more } => {
                if more {
                    MORE
                } else {
                    0
                }
            }
            MessageKind::Command => COMMAND,
        });
        parts.iter().for_each(|part| out.put_slice(part));
        self.sealing.seal(number, &mut out[sealed..]);
    }

    /// Decrypts the next message in place; its payload begins at [`OVERHEAD`]. Fails for any other message
    /// than the next.
    pub(in crate::zmtp) fn open(&mut self, message: &mut [u8]) -> Result<MessageKind, ZmtpViolation> {
        if !message.starts_with(NAME) {
            return Err(ZmtpViolation::NotEncrypted);
        }
        if message.len() < OVERHEAD {
            return Err(ZmtpViolation::Forged);
        }
        let (head, sealed) = message.split_at_mut(SEALED);
        let number = head.last_chunk().copied().map(u64::from_be_bytes);
        // There is no next number after 2^64 - 1.
        let due = self.last_received.checked_add(1).filter(|due| number == Some(*due));
        let due = due.ok_or(ZmtpViolation::OutOfOrder)?;
        let inside = self.opening.open(due, sealed).ok_or(ZmtpViolation::Forged)?;
        // Only now that it is authenticated: a forged message has no effect.
        self.last_received = due;
        // There is a first byte, since the message has at least `OVERHEAD` bytes.
        Ok(match inside[0] {
            flags if flags & COMMAND != 0 => MessageKind::Command,
            flags => MessageKind::Frame { more: flags & MORE != 0 },
        })
    }

    #[cfg(test)]
    pub(in crate::zmtp) fn last_sent(&mut self) -> &mut u64 {
        &mut self.last_sent
    }
}

#[cfg(test)]
mod tests {
    use x25519_dalek::StaticSecret;

    use super::*;

    fn pair() -> [Cipher; 2] {
        let key = SharedKey::agree(&StaticSecret::from([1; 32]), &[9; 32]).unwrap();
        [Side::Client, Side::Server].map(|side| Cipher::new(&key, side, 2, 2))
    }

    fn message(cipher: &Cipher, number: u64) -> BytesMut {
        let mut message = BytesMut::new();
        cipher.seal(number, MessageKind::Command, [b"a", b"b"], &mut message);
        message
    }

    #[test]
    fn no_number_is_given_twice() {
        let [mut client, _] = pair();
        assert_eq!(client.reserve(2), Some(3));
        client.last_sent = u64::MAX - 4;
        assert_eq!(client.reserve(3), Some(u64::MAX - 3));
        assert_eq!(client.reserve(2), None, "one is left");
        assert_eq!(client.reserve(1), Some(u64::MAX));
        assert_eq!(client.reserve(1), None);
    }

    #[test]
    fn nothing_follows_the_last_number() {
        let [client, mut server] = pair();
        server.last_received = u64::MAX - 2;
        for number in [u64::MAX - 1, u64::MAX] {
            assert_eq!(server.open(&mut message(&client, number)), Ok(MessageKind::Command));
        }
        for number in [0, 1, u64::MAX] {
            assert_eq!(server.open(&mut message(&client, number)), Err(ZmtpViolation::OutOfOrder));
        }
    }

    #[test]
    fn messages_open_in_place() {
        let [client, mut server] = pair();
        let mut sealed = message(&client, 3);
        assert_eq!(sealed.len(), OVERHEAD + 2);
        assert_eq!(server.open(&mut sealed), Ok(MessageKind::Command));
        assert_eq!(&sealed[OVERHEAD..], b"ab");
    }
}
