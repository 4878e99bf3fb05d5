//! The envelope of a message: kind, method and number, then one struct.

use bytes::Bytes;

use crate::error::ReadError;
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::reader::Reader;
use crate::writer::Writer;

/// TBinary: the first half of a message's first four bytes, of which the last is its kind.
const VERSION: u32 = 0x8001_0000;
const VERSION_MASK: u32 = 0xffff_0000;
/// TCompact: a message's first two bytes, of which the upper three bits of the second are its kind.
const COMPACT_VERSION: u16 = 0x8201;
const COMPACT_VERSION_MASK: u16 = 0xff1f;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageKind {
    /// A call that is answered.
    Call = 1,
    /// A result, or an exception that the method declares.
    Reply = 2,
    /// An [`ApplicationException`](crate::ApplicationException).
    Exception = 3,
    /// A call whose caller wants no answer.
    Oneway = 4,
}

impl MessageKind {
    fn from_number(number: u8) -> Result<Self, ReadError> {
        Ok(match number {
            1 => Self::Call,
            2 => Self::Reply,
            3 => Self::Exception,
            4 => Self::Oneway,
            other => return Err(ReadError::BadKind(other)),
        })
    }
}

/// The envelope of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: MessageKind,
    /// The method that is called, or whose reply it is.
    pub method: &'a str,
    /// The number of the call.
    pub sequence: i32,
}

impl<'a> Message<'a> {
    /// Reads the envelope of a message, and leaves the reader at the struct in it.
    ///
    /// # Errors
    /// If it is malformed, of another protocol, or too large.
    pub fn read(
        bytes: &'a Bytes,
        protocol: Protocol,
        limits: Limits,
    ) -> Result<(Self, Reader<'a>), ReadError> {
        let mut reader = Reader::new(bytes, protocol, limits)?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| ReadError::NotUtf8);
        let message = match protocol {
            Protocol::Binary => {
                let first = u32::from_be_bytes(reader.array()?);
                if first & VERSION_MASK != VERSION {
                    return Err(ReadError::BadVersion { protocol, first });
                }
                let [.., kind] = first.to_be_bytes();
                let (kind, method) = (MessageKind::from_number(kind)?, text(reader.slice()?)?);
                Self { kind, method, sequence: reader.integer()? }
            }
            Protocol::Compact => {
                let first = u16::from_be_bytes(reader.array()?);
                if first & COMPACT_VERSION_MASK != COMPACT_VERSION {
                    return Err(ReadError::BadVersion { protocol, first: first.into() });
                }
                let [_, kind] = first.to_be_bytes();
                let kind = MessageKind::from_number(kind >> 5)?;
                let sequence = u32::try_from(reader.varint()?).map_err(|_| ReadError::Number)?.cast_signed();
                Self { kind, method: text(reader.slice()?)?, sequence }
            }
        };
        Ok((message, reader))
    }

    /// Writes the envelope of a message; the struct in it is to follow.
    pub fn write(&self, protocol: Protocol) -> Writer {
        let mut writer = Writer::new(protocol);
        match protocol {
            Protocol::Binary => {
                writer.put(&(VERSION | self.kind as u32).to_be_bytes());
                writer.slice(self.method.as_bytes());
                writer.put(&self.sequence.to_be_bytes());
            }
            Protocol::Compact => {
                writer.put(&(COMPACT_VERSION | (self.kind as u16) << 5).to_be_bytes());
                writer.varint(self.sequence.cast_unsigned().into());
                writer.slice(self.method.as_bytes());
            }
        }
        writer
    }
}

#[cfg(test)]
mod tests;
