//! The hello: the header of a handshake PING or PONG, with the dialects and limits of its sender
//! (PROTOCOL.md, "Handshake").
//!
//! A peer that speaks only dialect 1, such as Python, echoes the hello; another one answers with its own
//! (H-6). Which of these happened is decided in `connection/handshake.rs`.

use bytes::{Bytes, BytesMut};

use super::DecodeError;
use super::dialect1::set;
use super::head::Head;
use super::msgpack::Reader;

/// Length of the nonce in bytes.
pub const NONCE_LEN: usize = 16;

/// Largest hello that is read, in bytes.
pub const MAX_HELLO: usize = 4 * 1024;

/// The dialects and limits that a peer announces in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Bit n is set if the peer speaks dialect n + 1.
    pub dialects: u32,
    /// Random, and new for each connection, so that a restarted peer can be recognized.
    pub nonce: [u8; NONCE_LEN],
    /// Largest body that the peer accepts, in bytes.
    pub max_body: u64,
    /// Initial credit that the peer grants. Needed for dialect 2 only (H-15).
    pub credit: Option<Credit>,
}

/// Initial credit: the most that DATA may cost before the first CREDIT or LINK_CREDIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// For each stream, in bytes.
    pub stream: u64,
    /// For all streams of the connection together, in bytes.
    pub link: u64,
}

impl Hello {
    /// Encodes the hello as a MessagePack map: `callosum` (array of dialect numbers), `nonce` (bin),
    /// `max_body` (uint), and, if given, `credit` (array of two uints).
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        let out = &mut bytes;
        let mut head = Head::new();
        head.map(3 + usize::from(self.credit.is_some())).text(b"callosum");
        let dialects = (0..u32::BITS).filter(|bit| self.dialects & (1 << bit) != 0);
        head.array(self.dialects.count_ones() as usize);
        for dialect in dialects {
            head.uint(u64::from(dialect) + 1);
        }
        head.append_to(out);
        head.text(b"nonce").bin(NONCE_LEN).append_to(out);
        out.extend_from_slice(&self.nonce);
        head.text(b"max_body").uint(self.max_body);
        if let Some(Credit { stream, link }) = self.credit {
            head.text(b"credit").array(2).uint(stream).uint(link);
        }
        head.append_to(out);
        bytes.freeze()
    }

    /// Decodes a hello. Unknown keys and dialects are ignored, so that later versions can add some (H-2).
    ///
    /// # Errors
    /// Any [`DecodeError`]. The frame is then not a hello, but the header of an ordinary PING.
    pub fn decode(frame: &Bytes) -> Result<Self, DecodeError> {
        // Before anything is parsed: a binder tries the header of every PING of its peer.
        if frame.len() > MAX_HELLO {
            return Err(DecodeError::TooLarge { what: "a hello", size: frame.len(), limit: MAX_HELLO });
        }
        let (mut dialects, mut nonce, mut max_body, mut credit) = (None, None, None, None);
        let mut reader = Reader::new(frame);
        for _ in 0..reader.map("hello")? {
            match reader.map_key()? {
                Some(b"callosum") => set(&mut dialects, "callosum", read_dialects(&mut reader)?)?,
                Some(b"nonce") => {
                    let bytes = reader.bin("nonce")?;
                    // H-3: no other length. 16 random bytes never repeat, so that a binder recognizes a
                    // restarted peer (H-12).
                    let array = bytes[..].try_into().map_err(|_| DecodeError::OutOfRange("nonce"))?;
                    set(&mut nonce, "nonce", array)?;
                }
                Some(b"max_body") => set(&mut max_body, "max_body", reader.uint("max_body")?)?,
                Some(b"credit") => set(&mut credit, "credit", read_credit(&mut reader)?)?,
                _ => reader.skip()?,
            }
        }
        reader.end()?;
        Ok(Self {
            dialects: dialects.ok_or(DecodeError::MissingField("callosum"))?,
            nonce: nonce.ok_or(DecodeError::MissingField("nonce"))?,
            max_body: max_body.ok_or(DecodeError::MissingField("max_body"))?,
            credit,
        })
    }
}

fn read_dialects(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let mut dialects = 0;
    for _ in 0..reader.array("callosum")? {
        let number = reader.uint("callosum")?;
        // H-2: 0, and dialects above 32, have no bit and are ignored.
        if let Some(bit) = u32::try_from(number).ok().and_then(|n| n.checked_sub(1))
            && bit < u32::BITS
        {
            dialects |= 1 << bit;
        }
    }
    Ok(dialects)
}

/// Reads two numbers; later versions may add more.
fn read_credit(reader: &mut Reader<'_>) -> Result<Credit, DecodeError> {
    // Its length is the peer's claim, but each element takes a byte: a false one ends as `Truncated`.
    let more = reader.array("credit")?.checked_sub(2).ok_or(DecodeError::MissingField("credit"))?;
    let credit = Credit { stream: reader.uint("credit")?, link: reader.uint("credit")? };
    (0..more).try_for_each(|_| reader.skip())?;
    Ok(credit)
}
