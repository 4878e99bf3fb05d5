//! The envelope of a message: kind, method and number, then one struct.

use bytes::Bytes;

use crate::error::ReadError;
use crate::limits::Limits;
use crate::reader::Reader;
use crate::writer::Writer;

/// The first half of a message's first four bytes; the last of them is its kind.
const VERSION: u32 = 0x8001_0000;
const VERSION_MASK: u32 = 0xffff_0000;

/// What a message is.
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
    /// If it is malformed, not strict TBinary, or too large.
    pub fn read(bytes: &'a Bytes, limits: Limits) -> Result<(Self, Reader<'a>), ReadError> {
        let mut reader = Reader::new(bytes, limits)?;
        let first = u32::from_be_bytes(reader.array()?);
        if first & VERSION_MASK != VERSION {
            return Err(ReadError::BadVersion(first));
        }
        let [.., number] = first.to_be_bytes();
        let kind = match number {
            1 => MessageKind::Call,
            2 => MessageKind::Reply,
            3 => MessageKind::Exception,
            4 => MessageKind::Oneway,
            other => return Err(ReadError::BadKind(other)),
        };
        let method = std::str::from_utf8(reader.slice()?).map_err(|_| ReadError::NotUtf8)?;
        let sequence = reader.i32()?;
        Ok((Self { kind, method, sequence }, reader))
    }

    /// Writes the envelope of a message; the struct in it is to follow.
    pub fn write(&self) -> Writer {
        let mut writer = Writer::new();
        writer.put(&(VERSION | self.kind as u32).to_be_bytes());
        writer.slice(self.method.as_bytes());
        writer.put(&self.sequence.to_be_bytes());
        writer
    }
}

#[cfg(test)]
mod tests;
