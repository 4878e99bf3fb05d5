//! The types on the wire.

/// A type, as TBinary numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WireType {
    /// One byte.
    Bool = 2,
    /// One byte.
    I8 = 3,
    /// Eight bytes.
    Double = 4,
    /// Two bytes.
    I16 = 6,
    /// Four bytes; an enum too.
    I32 = 8,
    /// Eight bytes.
    I64 = 10,
    /// A length and bytes; a string too.
    Binary = 11,
    /// Fields until a stop; a union and an exception too.
    Struct = 12,
    /// Two types, a count, and entries.
    Map = 13,
    /// A type, a count, and elements.
    Set = 14,
    /// A type, a count, and elements.
    List = 15,
    /// Sixteen bytes.
    Uuid = 16,
}

impl WireType {
    /// The type of TBinary's number, if it has one.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            2 => Self::Bool,
            3 => Self::I8,
            4 => Self::Double,
            6 => Self::I16,
            8 => Self::I32,
            10 => Self::I64,
            11 => Self::Binary,
            12 => Self::Struct,
            13 => Self::Map,
            14 => Self::Set,
            15 => Self::List,
            16 => Self::Uuid,
            _ => return None,
        })
    }
}
