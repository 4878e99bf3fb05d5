//! The encodings of messages: what TBinary and TCompact number, and how many bytes values take at least.

use std::fmt;

use crate::wire_type::WireType;

/// How messages are encoded. Both sides have to take the same; like the alias of a service, it is agreed on beside Callosum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// Strict TBinary, as Python Callosum's adapter speaks it.
    #[default]
    Binary,
    /// TCompact: small numbers, and fields whose numbers follow each other, take a byte or two.
    Compact,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "strict TBinary",
            Self::Compact => "TCompact",
        })
    }
}

impl Protocol {
    /// The number of a type. TCompact has one for each `bool`; this is that of `true`, which stands for both where a container declares
    /// its elements.
    pub(crate) fn number(self, wire_type: WireType) -> u8 {
        match self {
            Self::Binary => wire_type as u8,
            Self::Compact => match wire_type {
                WireType::Bool => 1,
                WireType::I8 => 3,
                WireType::I16 => 4,
                WireType::I32 => 5,
                WireType::I64 => 6,
                WireType::Double => 7,
                WireType::Binary => 8,
                WireType::List => 9,
                WireType::Set => 10,
                WireType::Map => 11,
                WireType::Struct => 12,
                WireType::Uuid => 13,
            },
        }
    }

    /// The type of a number, if it has one.
    pub(crate) fn wire_type(self, number: u8) -> Option<WireType> {
        match self {
            Self::Binary => WireType::from_u8(number),
            Self::Compact => Some(match number {
                1 | 2 => WireType::Bool,
                3 => WireType::I8,
                4 => WireType::I16,
                5 => WireType::I32,
                6 => WireType::I64,
                7 => WireType::Double,
                8 => WireType::Binary,
                9 => WireType::List,
                10 => WireType::Set,
                11 => WireType::Map,
                12 => WireType::Struct,
                13 => WireType::Uuid,
                _ => return None,
            }),
        }
    }

    /// The fewest bytes that a value takes: an empty text, an empty list, a struct without fields.
    pub(crate) fn min_size(self, wire_type: WireType) -> usize {
        match (self, wire_type) {
            (_, WireType::Bool | WireType::I8 | WireType::Struct) => 1,
            (_, WireType::Double) => 8,
            (_, WireType::Uuid) => 16,
            (Self::Compact, _) => 1,
            (Self::Binary, WireType::I16) => 2,
            (Self::Binary, WireType::I32 | WireType::Binary) => 4,
            (Self::Binary, WireType::Set | WireType::List) => 5,
            (Self::Binary, WireType::Map) => 6,
            (Self::Binary, WireType::I64) => 8,
        }
    }
}

/// A number so that those near to 0 are small: 0, -1, 1, -2 become 0, 1, 2, 3.
pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// The other way round.
pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests;
