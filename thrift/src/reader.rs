//! TBinary and TCompact, read: bytes of a peer that may be anything.
//!
//! The idea: nothing is believed before it is there. A count is compared with the fewest bytes that so many elements take, a length with
//! the bytes that are left, and memory is taken element by element, out of a budget. So no message makes the reader loop or
//! allocate for longer than the message is and its [`Limits`] say. A list that declares 2,147,483,647 structs in a message of 20 bytes is
//! [`ReadError::Truncated`] at its header.

use bytes::Bytes;

use crate::error::ReadError;
use crate::limits::Limits;
use crate::protocol::{Protocol, unzigzag};
use crate::wire_type::WireType;

/// A type that can be read as a value of Thrift.
pub trait Decode: Sized {
    /// Its type on the wire.
    const WIRE_TYPE: WireType;

    /// Reads it.
    ///
    /// # Errors
    /// If the bytes are malformed, or over a limit.
    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError>;
}

/// Reads the values of a message, one after the other.
#[derive(Debug)]
pub struct Reader<'a> {
    message: &'a Bytes,
    at: usize,
    depth: usize,
    memory: usize,
    limits: Limits,
    encoding: Encoding,
}

/// The protocol of the next values, with its state.
#[derive(Debug)]
enum Encoding {
    Binary,
    Compact {
        /// The number of the last field of this struct, to which that of the next is added.
        last: i16,
        /// The value of a `bool`, if the header of its field was read, where it stands.
        flag: Option<bool>,
    },
}

impl<'a> Reader<'a> {
    /// Begins to read.
    ///
    /// # Errors
    /// If the message is over [`Limits::size`].
    pub fn new(message: &'a Bytes, protocol: Protocol, limits: Limits) -> Result<Self, ReadError> {
        let (size, limit) = (message.len(), limits.size);
        match size > limit {
            true => Err(ReadError::TooLarge { size, limit }),
            false => Ok(Self::resume(message, 0, protocol, limits)),
        }
    }

    fn protocol(&self) -> Protocol {
        match self.encoding {
            Encoding::Binary => Protocol::Binary,
            Encoding::Compact { .. } => Protocol::Compact,
        }
    }

    /// Begins to read behind what an earlier reader has read, which has checked the size.
    pub(crate) fn resume(message: &'a Bytes, at: usize, protocol: Protocol, limits: Limits) -> Self {
        let encoding = match protocol {
            Protocol::Binary => Encoding::Binary,
            Protocol::Compact => Encoding::Compact { last: 0, flag: None },
        };
        Self { message, at, depth: 0, memory: limits.memory, limits, encoding }
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.message.len() - self.at
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// If something is.
    pub fn finish(self) -> Result<(), ReadError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(ReadError::TrailingBytes(count)),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let rest = &self.message[self.at..];
        let taken = rest.get(..count).ok_or(ReadError::Truncated)?;
        self.at += count;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("exactly that many bytes were taken"))
    }

    /// An integer of TCompact: seven bits a byte, the lowest first.
    pub(crate) fn varint(&mut self) -> Result<u64, ReadError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(ReadError::Number);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(ReadError::Number)
    }

    /// An integer of any size but a byte.
    pub(crate) fn integer<T: TryFrom<i64>>(&mut self) -> Result<T, ReadError> {
        let number = match self.protocol() {
            Protocol::Binary => {
                let size = size_of::<T>();
                let mut bytes = [0; 8];
                bytes[..size].copy_from_slice(self.take(size)?);
                i64::from_be_bytes(bytes) >> (64 - 8 * size)
            }
            Protocol::Compact => unzigzag(self.varint()?),
        };
        T::try_from(number).map_err(|_| ReadError::Number)
    }

    pub(crate) fn double(&mut self) -> Result<f64, ReadError> {
        let bytes = self.array()?;
        Ok(match self.protocol() {
            Protocol::Binary => f64::from_be_bytes(bytes),
            Protocol::Compact => f64::from_le_bytes(bytes),
        })
    }

    /// A `bool`. In TBinary, anything but 0 is true, as for other implementations; in TCompact, 1 is.
    pub(crate) fn flag(&mut self) -> Result<bool, ReadError> {
        match &mut self.encoding {
            Encoding::Binary => Ok(self.array()? != [0_u8]),
            Encoding::Compact { flag, .. } => match flag.take() {
                Some(flag) => Ok(flag),
                None => Ok(self.array()? == [1_u8]),
            },
        }
    }

    /// A length or a count.
    fn size(&mut self) -> Result<usize, ReadError> {
        let size: i32 = match self.protocol() {
            Protocol::Binary => self.integer()?,
            Protocol::Compact => u32::try_from(self.varint()?).map_err(|_| ReadError::Number)?.cast_signed(),
        };
        usize::try_from(size).map_err(|_| ReadError::NegativeSize(size))
    }

    /// Subtracts memory from the budget, as for the default of a missing field.
    ///
    /// # Errors
    /// If less is left of [`Limits::memory`].
    pub fn charge(&mut self, bytes: usize) -> Result<(), ReadError> {
        self.memory = self.memory.checked_sub(bytes).ok_or(ReadError::TooMuchMemory(self.limits.memory))?;
        Ok(())
    }

    /// Takes the memory of one more element of a list that has `len`. The first makes room for four.
    pub(crate) fn charge_element<T>(&mut self, len: usize) -> Result<(), ReadError> {
        self.charge(if len == 0 { 4 * size_of::<T>() } else { size_of::<T>() })
    }

    /// Takes the memory of one more entry of a tree that has `len`. The first makes a node, which has room for eleven.
    pub(crate) fn charge_entry<T>(&mut self, len: usize) -> Result<(), ReadError> {
        self.charge(if len == 0 { 11 * size_of::<T>() } else { size_of::<T>() })
    }

    /// Bytes with their length before them.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8], ReadError> {
        let size = self.size()?;
        self.take(size)
    }

    /// The same, to be kept: without a copy, unless it would pin a message more than twice as long.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, ReadError> {
        let slice = self.slice()?;
        if slice.len() >= self.message.len() / 2 {
            return Ok(self.message.slice_ref(slice));
        }
        self.charge(slice.len())?;
        Ok(Bytes::copy_from_slice(slice))
    }

    pub(crate) fn text(&mut self) -> Result<String, ReadError> {
        let text = std::str::from_utf8(self.slice()?).map_err(|_| ReadError::NotUtf8)?;
        self.charge(text.len())?;
        Ok(text.to_owned())
    }

    /// Goes one level deeper.
    fn nest<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        if self.depth == self.limits.depth {
            return Err(ReadError::TooDeep(self.limits.depth));
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Reads a struct: calls `field` with the number and the type of each field, which it has to [read](Self::field) or to
    /// [skip](Self::skip).
    ///
    /// # Errors
    /// If the struct is malformed or nests too deeply, or with what `field` fails with.
    pub fn structure(
        &mut self,
        mut field: impl FnMut(&mut Self, i16, WireType) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        self.nest(|reader| {
            let outer = reader.set_last_field(0);
            while let Some((id, wire_type)) = reader.field_header()? {
                field(reader, id, wire_type)?;
            }
            reader.set_last_field(outer);
            Ok(())
        })
    }

    /// The number and the type of the next field; `None` at the end of the struct.
    fn field_header(&mut self) -> Result<Option<(i16, WireType)>, ReadError> {
        let [byte] = self.array()?;
        if byte == 0 {
            return Ok(None);
        }
        let (number, id) = match self.encoding {
            Encoding::Binary => (byte, None),
            Encoding::Compact { last, .. } => match byte >> 4 {
                0 => (byte, None),
                delta => (byte & 0x0f, Some(last.checked_add(delta.into()).ok_or(ReadError::Number)?)),
            },
        };
        let wire_type = self.wire_type(number)?;
        let id = match id {
            Some(id) => id,
            None => self.integer()?,
        };
        if let Encoding::Compact { last, flag } = &mut self.encoding {
            *last = id;
            *flag = (wire_type == WireType::Bool).then_some(number == 1);
        }
        Ok(Some((id, wire_type)))
    }

    /// Sets the number to which that of the next field is added, if any is. Returns what it was.
    fn set_last_field(&mut self, id: i16) -> i16 {
        match &mut self.encoding {
            Encoding::Binary => 0,
            Encoding::Compact { last, .. } => std::mem::replace(last, id),
        }
    }

    fn wire_type(&self, number: u8) -> Result<WireType, ReadError> {
        self.protocol().wire_type(number).ok_or(ReadError::UnknownType(number))
    }

    /// Reads a field into its place. One of another type is skipped, as if it were not known; of several, the last counts.
    ///
    /// # Errors
    /// If the value is malformed.
    pub fn field<T: Decode>(&mut self, wire_type: WireType, place: &mut Option<T>) -> Result<(), ReadError> {
        match wire_type == T::WIRE_TYPE {
            true => *place = Some(T::decode(self)?),
            false => self.skip(wire_type)?,
        }
        Ok(())
    }

    /// Reads a list or a set: calls `element` for each. An empty one may declare any type.
    pub(crate) fn elements(
        &mut self,
        expected: WireType,
        mut element: impl FnMut(&mut Self) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let (number, count) = self.list_header()?;
        if count == 0 {
            return Ok(());
        }
        self.check_element(number, expected)?;
        self.check_count(count, &[expected])?;
        self.nest(|reader| (0..count).try_for_each(|_| element(reader)))
    }

    /// The same for a map and its entries.
    pub(crate) fn entries(
        &mut self,
        (key, value): (WireType, WireType),
        mut entry: impl FnMut(&mut Self) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let ([key_number, value_number], count) = self.map_header()?;
        if count == 0 {
            return Ok(());
        }
        self.check_element(key_number, key)?;
        self.check_element(value_number, value)?;
        self.check_count(count, &[key, value])?;
        self.nest(|reader| (0..count).try_for_each(|_| entry(reader)))
    }

    /// The number of the type of a list's or a set's elements, and how many there are.
    fn list_header(&mut self) -> Result<(u8, usize), ReadError> {
        let [byte] = self.array()?;
        match self.protocol() {
            Protocol::Binary => Ok((byte, self.size()?)),
            Protocol::Compact => {
                let count = if byte >> 4 == 15 { self.size()? } else { usize::from(byte >> 4) };
                Ok((byte & 0x0f, count))
            }
        }
    }

    /// The same for a map. An empty one has no types in TCompact.
    fn map_header(&mut self) -> Result<([u8; 2], usize), ReadError> {
        match self.protocol() {
            Protocol::Binary => Ok((self.array()?, self.size()?)),
            Protocol::Compact => match self.size()? {
                0 => Ok(([0, 0], 0)),
                count => {
                    let [byte] = self.array()?;
                    Ok(([byte >> 4, byte & 0x0f], count))
                }
            },
        }
    }

    fn check_element(&self, number: u8, expected: WireType) -> Result<(), ReadError> {
        let found = self.wire_type(number)?;
        if found == expected { Ok(()) } else { Err(ReadError::WrongType { expected, found }) }
    }

    /// Whether so many values of each of these types can still come.
    fn check_count(&self, count: usize, types: &[WireType]) -> Result<(), ReadError> {
        let protocol = self.protocol();
        let min_size = types.iter().map(|wire_type| protocol.min_size(*wire_type)).sum();
        match count.checked_mul(min_size) {
            Some(bytes) if bytes <= self.remaining() => Ok(()),
            _ => Err(ReadError::Truncated),
        }
    }

    /// Skips a value. It takes no memory.
    ///
    /// # Errors
    /// If the value is malformed or nests too deeply.
    pub fn skip(&mut self, wire_type: WireType) -> Result<(), ReadError> {
        match wire_type {
            WireType::Struct => self.structure(|reader, _, wire_type| reader.skip(wire_type)),
            WireType::List | WireType::Set => {
                let (number, count) = self.list_header()?;
                self.skip_all(count, [number])
            }
            WireType::Map => {
                let (numbers, count) = self.map_header()?;
                self.skip_all(count, numbers)
            }
            WireType::Binary => self.slice().map(drop),
            WireType::Bool => self.flag().map(drop),
            WireType::I16 | WireType::I32 | WireType::I64 if self.protocol() == Protocol::Compact => {
                self.varint().map(drop)
            }
            fixed => self.take(self.protocol().min_size(fixed)).map(drop),
        }
    }

    /// Skips so many times a value of each of these types.
    fn skip_all<const N: usize>(&mut self, count: usize, numbers: [u8; N]) -> Result<(), ReadError> {
        if count == 0 {
            return Ok(());
        }
        let mut types = [WireType::Bool; N];
        for (wire_type, number) in types.iter_mut().zip(numbers) {
            *wire_type = self.wire_type(number)?;
        }
        self.check_count(count, &types)?;
        self.nest(|reader| {
            (0..count).try_for_each(|_| types.iter().try_for_each(|wire_type| reader.skip(*wire_type)))
        })
    }

    #[cfg(test)]
    pub(crate) fn memory_left(&self) -> usize {
        self.memory
    }
}

#[cfg(test)]
mod tests;
