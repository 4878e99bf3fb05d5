//! Decodes MessagePack from a received frame, without allocating for announced lengths. Method names, keys and
//! texts are copied, bodies are not.

use bytes::Bytes;
use rmp::Marker;

use super::{DecodeError, MAX_DEPTH};
use crate::{KeyKind, OrderingKey, Text};

/// A cursor over one frame.
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

    /// The first byte of the next value.
    #[inline]
    fn first(&self) -> Result<u8, DecodeError> {
        self.rest.first().copied().ok_or(DecodeError::Truncated)
    }

    fn peek(&self) -> Result<Marker, DecodeError> {
        self.first().map(Marker::from_u8)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An integer of `N` bytes after its marker.
    #[inline]
    fn wide<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) =
            self.rest.get(1..).and_then(<[u8]>::split_first_chunk).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A length of `width` bytes (1, 2 or 4) after its marker.
    #[inline]
    fn length(&mut self, width: u8) -> Result<u32, DecodeError> {
        Ok(match width {
            1 => u32::from(u8::from_be_bytes(self.wide()?)),
            2 => u32::from(u16::from_be_bytes(self.wide()?)),
            _ => u32::from_be_bytes(self.wide()?),
        })
    }

    /// A length that is part of its marker.
    #[inline]
    fn short(&mut self, len: u8) -> u32 {
        // `first` has read the marker, so there is a byte.
        self.rest = &self.rest[1..];
        u32::from(len)
    }

    /// The head of a map; returns the number of entries that follow.
    pub(super) fn map(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match self.first()? {
            // The number is not compared with the rest of the frame: each entry takes a byte at least, so a
            // false one ends as `Truncated` (W-8).
            head @ 0x80..=0x8f => Ok(self.short(head & 0xf)),
            0xde => self.length(2),
            0xdf => self.length(4),
            _ => Err(DecodeError::WrongType { field }),
        }
    }

    /// The head of an array; returns the number of elements that follow.
    pub(super) fn array(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match self.first()? {
            head @ 0x90..=0x9f => Ok(self.short(head & 0xf)),
            0xdc => self.length(2),
            0xdd => self.length(4),
            _ => Err(DecodeError::WrongType { field }),
        }
    }

    /// Whether the next value is a MessagePack integer, of any width.
    pub(super) fn is_int(&self) -> bool {
        use Marker::{FixNeg, FixPos, I8, I16, I32, I64, U8, U16, U32, U64};
        let is_int =
            |marker| matches!(marker, FixPos(_) | FixNeg(_) | U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64);
        // At the end of the frame: false. The read that follows reports `Truncated`.
        self.peek().is_ok_and(is_int)
    }

    /// An integer of any width.
    pub(super) fn int(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(match self.peek()? {
            Marker::FixNeg(value) => {
                self.rest = &self.rest[1..];
                i64::from(value)
            }
            Marker::I8 => i64::from(i8::from_be_bytes(self.wide()?)),
            Marker::I16 => i64::from(i16::from_be_bytes(self.wide()?)),
            Marker::I32 => i64::from(i32::from_be_bytes(self.wide()?)),
            Marker::I64 => i64::from_be_bytes(self.wide()?),
            // W-4: unsigned forms, too. A number above 2^63 - 1 is out of range for every signed field.
            _ => i64::try_from(self.uint(field)?).map_err(|_| DecodeError::OutOfRange(field))?,
        })
    }

    /// A non-negative integer of any width.
    #[inline]
    pub(super) fn uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        match self.rest {
            [value @ ..=0x7f, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*value))
            }
            _ => self.wide_uint(field),
        }
    }

    fn wide_uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(match self.first()? {
            0xcc => u64::from(u8::from_be_bytes(self.wide()?)),
            0xcd => u64::from(u16::from_be_bytes(self.wide()?)),
            0xce => u64::from(u32::from_be_bytes(self.wide()?)),
            0xcf => u64::from_be_bytes(self.wide()?),
            0xd0..=0xd3 | 0xe0.. => {
                // A signed form (W-4). A negative number has been read when this fails, so the reader is at the
                // next value: `read_options` relies on that.
                u64::try_from(self.int(field)?).map_err(|_| DecodeError::OutOfRange(field))?
            }
            _ => return Err(DecodeError::WrongType { field }),
        })
    }

    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        let value = match self.peek()? {
            Marker::True => true,
            Marker::False => false,
            _ => return Err(DecodeError::WrongType { field }),
        };
        self.rest = &self.rest[1..];
        Ok(value)
    }

    /// The bytes and the type of a `str` or `bin`. Checks that a `str` is UTF-8.
    #[inline]
    fn str_or_bin(&mut self, field: &'static str) -> Result<(KeyKind, &'a [u8]), DecodeError> {
        let (kind, len) = match self.first()? {
            head @ 0xa0..=0xbf => (KeyKind::Str, self.short(head & 0x1f)),
            0xd9 => (KeyKind::Str, self.length(1)?),
            0xda => (KeyKind::Str, self.length(2)?),
            0xdb => (KeyKind::Str, self.length(4)?),
            0xc4 => (KeyKind::Bin, self.length(1)?),
            0xc5 => (KeyKind::Bin, self.length(2)?),
            0xc6 => (KeyKind::Bin, self.length(4)?),
            _ => return Err(DecodeError::WrongType { field }),
        };
        let bytes = self.take(len as usize)?;
        // Most texts are ASCII, for which `is_ascii` is cheaper than `from_utf8`.
        if kind == KeyKind::Str && !bytes.is_ascii() {
            std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8(field))?;
        }
        Ok((kind, bytes))
    }

    #[inline]
    pub(super) fn text(&mut self, field: &'static str) -> Result<Text, DecodeError> {
        match self.str_or_bin(field)? {
            (KeyKind::Str, bytes) => Ok(Text::from_checked(bytes)),
            (KeyKind::Bin, _) => Err(DecodeError::WrongType { field }),
        }
    }

    #[inline]
    pub(super) fn key(&mut self, field: &'static str) -> Result<OrderingKey, DecodeError> {
        let (kind, bytes) = self.str_or_bin(field)?;
        Ok(OrderingKey::from_wire(kind, bytes))
    }

    pub(super) fn bin(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        Ok(self.frame.slice_ref(self.raw_bin(field)?))
    }

    /// The same, copied if it would keep a much larger frame alive; see [`wire::keep`](super::keep).
    #[inline]
    pub(super) fn kept_bin(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let bytes = self.raw_bin(field)?;
        Ok(match super::is_copied(bytes.len(), self.frame.len()) {
            true => Bytes::copy_from_slice(bytes),
            false => self.frame.slice_ref(bytes),
        })
    }

    #[inline]
    fn raw_bin(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = match self.first()? {
            0xc4 => self.length(1)?,
            0xc5 => self.length(2)?,
            0xc6 => self.length(4)?,
            _ => return Err(DecodeError::WrongType { field }),
        };
        self.take(len as usize)
    }

    /// `str`, `bin` or nil; nil reads as empty.
    pub(super) fn bytes_or_nil(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        if self.peek()? == Marker::Null {
            self.take(1)?;
            return Ok(Bytes::new());
        }
        Ok(self.frame.slice_ref(self.str_or_bin(field)?.1))
    }

    /// The bytes of a map key of type `str`; skips a key of another type, and returns `None`.
    pub(super) fn map_key(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        // W-5: not checked for UTF-8, since the names of unknown keys may be anything.
        let len = match self.peek()? {
            Marker::FixStr(len) => self.short(len),
            Marker::Str8 => self.length(1)?,
            Marker::Str16 => self.length(2)?,
            Marker::Str32 => self.length(4)?,
            _ => return self.skip().map(|()| None),
        };
        self.take(len as usize).map(Some)
    }

    /// Skips one value of any type, in constant memory and without recursion.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        // Values left to skip at each level of nesting.
        // `u64`, because a map announces up to 2^33. On the stack: the depth is the peer's choice, and
        // recursion would let it exhaust the stack.
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

    /// Skips one scalar, or the head of a container; returns the number of values in the container.
    fn skip_one(&mut self) -> Result<u64, DecodeError> {
        // Bytes left to skip, including the marker if it has not been read; and values in the container.
        let (len, children) = match self.peek()? {
            Marker::FixPos(_)
            | Marker::FixNeg(_)
            | Marker::Null
            | Marker::True
            | Marker::False
            // MessagePack never uses 0xc1, but unknown values are not interpreted.
            | Marker::Reserved => (1, 0),
            Marker::U8 | Marker::I8 => (2, 0),
            Marker::U16 | Marker::I16 | Marker::FixExt1 => (3, 0),
            Marker::FixExt2 => (4, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (5, 0),
            Marker::FixExt4 => (6, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (9, 0),
            Marker::FixExt8 => (10, 0),
            Marker::FixExt16 => (18, 0),
            Marker::FixStr(len) => (1 + usize::from(len), 0),
            Marker::Str8 | Marker::Bin8 => (self.length(1)? as usize, 0),
            Marker::Str16 | Marker::Bin16 => (self.length(2)? as usize, 0),
            Marker::Str32 | Marker::Bin32 => (self.length(4)? as usize, 0),
            // One byte more for the type. Saturating, for an Ext32 of 4 GiB where `usize` has 32 bits.
            Marker::Ext8 => ((self.length(1)? as usize).saturating_add(1), 0),
            Marker::Ext16 => ((self.length(2)? as usize).saturating_add(1), 0),
            Marker::Ext32 => ((self.length(4)? as usize).saturating_add(1), 0),
            Marker::FixArray(len) => (1, u64::from(len)),
            Marker::Array16 => (0, u64::from(self.length(2)?)),
            Marker::Array32 => (0, u64::from(self.length(4)?)),
            Marker::FixMap(len) => (1, 2 * u64::from(len)),
            Marker::Map16 => (0, 2 * u64::from(self.length(2)?)),
            Marker::Map32 => (0, 2 * u64::from(self.length(4)?)),
        };
        self.rest = self.rest.get(len..).ok_or(DecodeError::Truncated)?;
        Ok(children)
    }
}
