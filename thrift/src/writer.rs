//! TBinary, written.

use bytes::Bytes;

use crate::error::WriteError;
use crate::wire_type::WireType;

/// What can be written as a value of Thrift.
pub trait Encode {
    /// Its type on the wire.
    const WIRE_TYPE: WireType;

    /// Writes it.
    fn encode(&self, to: &mut Writer);
}

/// Writes the values of a message, one after the other.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Writer {
    /// Begins to write.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    ///
    /// # Errors
    /// If a text or a container was too long.
    pub fn finish(self) -> Result<Bytes, WriteError> {
        match self.too_long {
            true => Err(WriteError::TooLong),
            false => Ok(self.bytes.into()),
        }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A length or a count. One that is too large is told at the end.
    pub(crate) fn size(&mut self, size: usize) {
        let size = i32::try_from(size).unwrap_or_else(|_| {
            self.too_long = true;
            0
        });
        self.put(&size.to_be_bytes());
    }

    /// Bytes, and their length before them.
    pub(crate) fn slice(&mut self, slice: &[u8]) {
        self.size(slice.len());
        // It will not be sent.
        if !self.too_long {
            self.put(slice);
        }
    }

    /// Writes a field of a struct.
    pub fn field<T: Encode + ?Sized>(&mut self, id: i16, value: &T) {
        self.field_header(id, T::WIRE_TYPE);
        value.encode(self);
    }

    pub(crate) fn field_header(&mut self, id: i16, wire_type: WireType) {
        self.put(&[wire_type as u8]);
        self.put(&id.to_be_bytes());
    }

    /// Writes a field of a struct, if it is there.
    pub fn optional<T: Encode>(&mut self, id: i16, value: Option<&T>) {
        if let Some(value) = value {
            self.field(id, value);
        }
    }

    /// Ends a struct.
    pub fn stop(&mut self) {
        self.put(&[0]);
    }

    /// Begins a list or a set.
    pub(crate) fn elements(&mut self, wire_type: WireType, count: usize) {
        self.put(&[wire_type as u8]);
        self.size(count);
    }

    /// Begins a map.
    pub(crate) fn entries(&mut self, key: WireType, value: WireType, count: usize) {
        self.put(&[key as u8, value as u8]);
        self.size(count);
    }
}
