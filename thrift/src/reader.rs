//! TBinary, read: bytes of a peer that may be anything.
//!
//! The idea: nothing is believed before it is there. A count is compared with the fewest bytes that so many elements take, a length with
//! the bytes that are left, and memory is taken element by element, out of a budget. So no message makes the reader loop or
//! allocate for longer than the message is and its [`Limits`] say. A list that declares 2,147,483,647 structs in a message of 20 bytes is
//! [`ReadError::Truncated`] at its header.

use bytes::Bytes;

use crate::error::ReadError;
use crate::limits::Limits;
use crate::wire_type::WireType;

/// What can be read as a value of Thrift.
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
}

impl<'a> Reader<'a> {
    /// Begins to read.
    ///
    /// # Errors
    /// If the message is over [`Limits::size`].
    pub fn new(message: &'a Bytes, limits: Limits) -> Result<Self, ReadError> {
        let (size, limit) = (message.len(), limits.size);
        match size > limit {
            true => Err(ReadError::TooLarge { size, limit }),
            false => Ok(Self { message, at: 0, depth: 0, memory: limits.memory, limits }),
        }
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
        Ok(bytes.try_into().expect("so many bytes were taken"))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, ReadError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A length or a count.
    fn size(&mut self) -> Result<usize, ReadError> {
        let size = self.i32()?;
        usize::try_from(size).map_err(|_| ReadError::NegativeSize(size))
    }

    /// Takes memory out of the budget.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), ReadError> {
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
            loop {
                let [number] = reader.array()?;
                if number == 0 {
                    return Ok(());
                }
                let wire_type = WireType::from_u8(number).ok_or(ReadError::UnknownType(number))?;
                let id = i16::from_be_bytes(reader.array()?);
                field(reader, id, wire_type)?;
            }
        })
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
        let [number] = self.array()?;
        let count = self.size()?;
        if count == 0 {
            return Ok(());
        }
        self.check_element(number, expected)?;
        self.check_count(count, expected.min_size())?;
        self.nest(|reader| (0..count).try_for_each(|_| element(reader)))
    }

    /// The same for a map and its entries.
    pub(crate) fn entries(
        &mut self,
        (key, value): (WireType, WireType),
        mut entry: impl FnMut(&mut Self) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let [key_number, value_number] = self.array()?;
        let count = self.size()?;
        if count == 0 {
            return Ok(());
        }
        self.check_element(key_number, key)?;
        self.check_element(value_number, value)?;
        self.check_count(count, key.min_size() + value.min_size())?;
        self.nest(|reader| (0..count).try_for_each(|_| entry(reader)))
    }

    fn check_element(&self, number: u8, expected: WireType) -> Result<(), ReadError> {
        match WireType::from_u8(number) {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(ReadError::WrongType { expected, found }),
            None => Err(ReadError::UnknownType(number)),
        }
    }

    /// Whether so many elements can still come.
    fn check_count(&self, count: usize, min_size: usize) -> Result<(), ReadError> {
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
        if let Some(size) = wire_type.fixed_size() {
            return self.take(size).map(drop);
        }
        match wire_type {
            WireType::Struct => self.structure(|reader, _, wire_type| reader.skip(wire_type)),
            WireType::List | WireType::Set => {
                let numbers: [u8; 1] = self.array()?;
                let count = self.size()?;
                self.skip_all(count, numbers)
            }
            WireType::Map => {
                let numbers: [u8; 2] = self.array()?;
                let count = self.size()?;
                self.skip_all(count, numbers)
            }
            _ => self.slice().map(drop),
        }
    }

    /// Skips so many times a value of each of these types.
    fn skip_all<const N: usize>(&mut self, count: usize, numbers: [u8; N]) -> Result<(), ReadError> {
        if count == 0 {
            return Ok(());
        }
        let mut types = [WireType::Bool; N];
        for (wire_type, number) in types.iter_mut().zip(numbers) {
            *wire_type = WireType::from_u8(number).ok_or(ReadError::UnknownType(number))?;
        }
        self.check_count(count, types.iter().map(|wire_type| wire_type.min_size()).sum())?;
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
