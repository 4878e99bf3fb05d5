//! Reading MessagePack out of a received frame without copying it.

use bytes::Bytes;
use rmp::Marker;
use rmp::decode::{self, RmpRead};

use super::{DecodeError, MAX_DEPTH};
use crate::small::SmallBytes;
use crate::{KeyKind, OrderingKey, Text};

/// A cursor over one frame. Every value it hands out is a slice of that frame.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame }
    }

    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(DecodeError::TrailingBytes(more)),
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn peek(&self) -> Result<Marker, DecodeError> {
        self.rest.first().map(|byte| Marker::from_u8(*byte)).ok_or(DecodeError::Truncated)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The number of entries that follow.
    pub(super) fn map(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match self.peek()? {
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                decode::read_map_len(&mut self.rest).map_err(|_| DecodeError::Truncated)
            }
            _ => Err(DecodeError::WrongType { field }),
        }
    }

    /// The number of elements that follow.
    pub(super) fn array(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match self.peek()? {
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                decode::read_array_len(&mut self.rest).map_err(|_| DecodeError::Truncated)
            }
            _ => Err(DecodeError::WrongType { field }),
        }
    }

    /// Whether the next value is a MessagePack integer, of any width.
    pub(super) fn is_int(&self) -> bool {
        self.peek().is_ok_and(|marker| {
            matches!(
                marker,
                Marker::FixPos(_)
                    | Marker::FixNeg(_)
                    | Marker::U8
                    | Marker::U16
                    | Marker::U32
                    | Marker::U64
                    | Marker::I8
                    | Marker::I16
                    | Marker::I32
                    | Marker::I64
            )
        })
    }

    /// Any MessagePack integer, whatever its width.
    pub(super) fn int(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.peek()?;
        if !self.is_int() {
            return Err(DecodeError::WrongType { field });
        }
        decode::read_int(&mut self.rest).map_err(|error| match error {
            decode::NumValueReadError::OutOfRange => DecodeError::OutOfRange(field),
            _ => DecodeError::Truncated,
        })
    }

    /// A non-negative MessagePack integer, whatever its width.
    pub(super) fn uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        if let Marker::FixPos(value) = self.peek()? {
            self.rest = &self.rest[1..];
            return Ok(u64::from(value));
        }
        if self.peek()? == Marker::U64 {
            return decode::read_u64(&mut self.rest).map_err(|_| DecodeError::Truncated);
        }
        u64::try_from(self.int(field)?).map_err(|_| DecodeError::OutOfRange(field))
    }

    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.peek()? {
            Marker::True | Marker::False => {
                decode::read_bool(&mut self.rest).map_err(|_| DecodeError::Truncated)
            }
            _ => Err(DecodeError::WrongType { field }),
        }
    }

    /// `str` or `bin`, and which it was. A `str` is checked to be UTF-8.
    fn str_or_bin(&mut self, field: &'static str) -> Result<(KeyKind, &'a [u8]), DecodeError> {
        match self.peek()? {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let len = decode::read_str_len(&mut self.rest).map_err(|_| DecodeError::Truncated)?;
                let bytes = self.take(len as usize)?;
                std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8(field))?;
                Ok((KeyKind::Str, bytes))
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let len = decode::read_bin_len(&mut self.rest).map_err(|_| DecodeError::Truncated)?;
                Ok((KeyKind::Bin, self.take(len as usize)?))
            }
            _ => Err(DecodeError::WrongType { field }),
        }
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<Text, DecodeError> {
        match self.str_or_bin(field)? {
            (KeyKind::Str, bytes) => Ok(Text::from_checked(SmallBytes::slice_of(self.frame, bytes))),
            (KeyKind::Bin, _) => Err(DecodeError::WrongType { field }),
        }
    }

    pub(super) fn key(&mut self, field: &'static str) -> Result<OrderingKey, DecodeError> {
        let (kind, bytes) = self.str_or_bin(field)?;
        Ok(OrderingKey::from_wire(kind, SmallBytes::slice_of(self.frame, bytes)))
    }

    pub(super) fn bin(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        match self.str_or_bin(field)? {
            (KeyKind::Bin, bytes) => Ok(self.frame.slice_ref(bytes)),
            (KeyKind::Str, _) => Err(DecodeError::WrongType { field }),
        }
    }

    /// `str`, `bin` or nil; nil reads as empty.
    pub(super) fn bytes_or_nil(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        if self.peek()? == Marker::Null {
            self.take(1)?;
            return Ok(Bytes::new());
        }
        Ok(self.frame.slice_ref(self.str_or_bin(field)?.1))
    }

    /// A map's key, as text; `None` (and skipped) if it is of another type.
    pub(super) fn map_key(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.peek()? {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let len = decode::read_str_len(&mut self.rest).map_err(|_| DecodeError::Truncated)?;
                let (key, rest) = self.rest.split_at_checked(len as usize).ok_or(DecodeError::Truncated)?;
                self.rest = rest;
                Ok(Some(key))
            }
            _ => self.skip().map(|()| None),
        }
    }

    /// Passes over one value of any type, however nested, in constant memory.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        // How many values are still to come at each level of nesting.
        let mut open = [0u64; MAX_DEPTH + 1];
        let mut depth = 0;
        open[0] = 1;
        loop {
            while open[depth] == 0 {
                if depth == 0 {
                    return Ok(());
                }
                depth -= 1;
            }
            open[depth] -= 1;
            let children = self.skip_one()?;
            if children > 0 {
                depth += 1;
                *open.get_mut(depth).ok_or(DecodeError::TooDeep)? = children;
            }
        }
    }

    /// Passes over one scalar, or the head of a container; returns how many values the container holds.
    fn skip_one(&mut self) -> Result<u64, DecodeError> {
        let marker = decode::read_marker(&mut self.rest).map_err(|_| DecodeError::Truncated)?;
        let (len, children) = match marker {
            Marker::FixPos(_)
            | Marker::FixNeg(_)
            | Marker::Null
            | Marker::True
            | Marker::False
            | Marker::Reserved => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(len) => (usize::from(len), 0),
            Marker::Str8 | Marker::Bin8 => (self.length(1)?, 0),
            Marker::Str16 | Marker::Bin16 => (self.length(2)?, 0),
            Marker::Str32 | Marker::Bin32 => (self.length(4)?, 0),
            Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::FixExt4 => (5, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => (self.length(1)?.saturating_add(1), 0),
            Marker::Ext16 => (self.length(2)?.saturating_add(1), 0),
            Marker::Ext32 => (self.length(4)?.saturating_add(1), 0),
            Marker::FixArray(len) => (0, u64::from(len)),
            Marker::Array16 => (0, self.length(2)? as u64),
            Marker::Array32 => (0, self.length(4)? as u64),
            Marker::FixMap(len) => (0, 2 * u64::from(len)),
            Marker::Map16 => (0, 2 * self.length(2)? as u64),
            Marker::Map32 => (0, 2 * self.length(4)? as u64),
        };
        self.rest = self.rest.get(len..).ok_or(DecodeError::Truncated)?;
        Ok(children)
    }

    fn length(&mut self, width: usize) -> Result<usize, DecodeError> {
        let mut bytes = [0; 4];
        self.rest.read_exact_buf(&mut bytes[4 - width..]).map_err(|_| DecodeError::Truncated)?;
        Ok(u32::from_be_bytes(bytes) as usize)
    }
}
