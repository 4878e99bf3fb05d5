//! TBinary and TCompact, written.

use bytes::Bytes;
use callosum_runtime::service::EncodeBuffer;

use crate::error::WriteError;
use crate::protocol::{Protocol, zigzag};
use crate::wire_type::WireType;

/// A type that can be written as a value of Thrift.
pub trait Encode {
    /// Its type on the wire.
    const WIRE_TYPE: WireType;

    /// Writes it.
    fn encode(&self, to: &mut Writer);
}

/// Writes the values of a message, one after the other.
#[derive(Debug)]
pub struct Writer {
    buffer: EncodeBuffer,
    too_long: bool,
    encoding: Encoding,
}

/// The protocol of the next values, with its state.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    Binary,
    Compact {
        /// The number of the last field of this struct, from which the next one's is counted.
        last: i16,
        /// The number of a field that is a `bool`: its header has the value, and is written with it.
        flag: Option<i16>,
    },
}

impl Writer {
    /// Begins to write.
    pub fn new(protocol: Protocol) -> Self {
        let encoding = match protocol {
            Protocol::Binary => Encoding::Binary,
            Protocol::Compact => Encoding::Compact { last: 0, flag: None },
        };
        Self { buffer: EncodeBuffer::new(), too_long: false, encoding }
    }

    fn protocol(&self) -> Protocol {
        match self.encoding {
            Encoding::Binary => Protocol::Binary,
            Encoding::Compact { .. } => Protocol::Compact,
        }
    }

    /// Returns the written message.
    ///
    /// # Errors
    /// If a text or a container was too long.
    pub fn finish(self) -> Result<Bytes, WriteError> {
        match self.too_long {
            true => Err(WriteError::TooLong),
            false => Ok(self.buffer.finish()),
        }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// An integer of TCompact: seven bits a byte, the lowest first.
    pub(crate) fn varint(&mut self, mut number: u64) {
        while number > 0x7f {
            self.buffer.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.buffer.push(number as u8);
    }

    /// An integer of so many bytes, of which there are two at least.
    pub(crate) fn integer(&mut self, number: i64, size: usize) {
        match self.protocol() {
            Protocol::Binary => self.put(&number.to_be_bytes()[8 - size..]),
            Protocol::Compact => self.varint(zigzag(number)),
        }
    }

    pub(crate) fn double(&mut self, number: f64) {
        match self.protocol() {
            Protocol::Binary => self.put(&number.to_be_bytes()),
            Protocol::Compact => self.put(&number.to_le_bytes()),
        }
    }

    pub(crate) fn flag(&mut self, value: bool) {
        let number = if value { 1 } else { 2 };
        match self.encoding {
            Encoding::Binary => self.put(&[value.into()]),
            Encoding::Compact { last, flag: Some(id) } => self.compact_header(number, last, id),
            Encoding::Compact { flag: None, .. } => self.put(&[number]),
        }
    }

    /// A length or a count. If it is too large, `finish` fails.
    pub(crate) fn size(&mut self, size: usize) {
        let size = i32::try_from(size).unwrap_or_else(|_| {
            self.too_long = true;
            0
        });
        match self.protocol() {
            Protocol::Binary => self.put(&size.to_be_bytes()),
            Protocol::Compact => self.varint(size.cast_unsigned().into()),
        }
    }

    /// Bytes, and their length before them.
    pub(crate) fn slice(&mut self, slice: &[u8]) {
        self.size(slice.len());
        // A message that is too long is never sent, so its bytes don't matter.
        if !self.too_long {
            self.put(slice);
        }
    }

    /// Writes a field of a struct.
    pub fn field<T: Encode + ?Sized>(&mut self, id: i16, value: &T) {
        self.field_of(id, T::WIRE_TYPE, |to| value.encode(to));
    }

    /// Writes a field of this type, whose value is what `write` writes.
    pub(crate) fn field_of<R>(
        &mut self,
        id: i16,
        wire_type: WireType,
        write: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let number = self.protocol().number(wire_type);
        match self.encoding {
            Encoding::Binary => {
                self.put(&[number]);
                self.put(&id.to_be_bytes());
            }
            Encoding::Compact { last, .. } if wire_type == WireType::Bool => {
                self.encoding = Encoding::Compact { last, flag: Some(id) };
            }
            Encoding::Compact { last, .. } => {
                self.compact_header(number, last, id);
                // A struct in it counts from 0.
                self.encoding = Encoding::Compact { last: 0, flag: None };
            }
        }
        let written = write(self);
        if let Encoding::Compact { last, flag } = &mut self.encoding {
            (*last, *flag) = (id, None);
        }
        written
    }

    /// The header of a field in TCompact: how much its number is above the last one's, or the number itself.
    fn compact_header(&mut self, number: u8, last: i16, id: i16) {
        match id.checked_sub(last).and_then(|delta| u8::try_from(delta).ok()) {
            Some(delta @ 1..=15) => self.put(&[delta << 4 | number]),
            _ => {
                self.put(&[number]);
                self.varint(zigzag(id.into()));
            }
        }
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
        if let Encoding::Compact { last, .. } = &mut self.encoding {
            // For the next element, if this one is in a list.
            *last = 0;
        }
    }

    /// Begins a list or a set.
    pub(crate) fn elements(&mut self, wire_type: WireType, count: usize) {
        let number = self.protocol().number(wire_type);
        match (self.protocol(), count) {
            (Protocol::Binary, _) => {
                self.put(&[number]);
                self.size(count);
            }
            (Protocol::Compact, 0..15) => self.put(&[(count as u8) << 4 | number]),
            (Protocol::Compact, _) => {
                self.put(&[0xf0 | number]);
                self.size(count);
            }
        }
    }

    /// Begins a map.
    pub(crate) fn entries(&mut self, key: WireType, value: WireType, count: usize) {
        let protocol = self.protocol();
        let (key, value) = (protocol.number(key), protocol.number(value));
        match protocol {
            Protocol::Binary => {
                self.put(&[key, value]);
                self.size(count);
            }
            Protocol::Compact => {
                self.size(count);
                if count > 0 {
                    self.put(&[key << 4 | value]);
                }
            }
        }
    }
}
