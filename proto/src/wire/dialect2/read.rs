//! Decodes packets of dialect 2: one record at a time, in one pass, without lookahead.

use std::time::Duration;

use bytes::Bytes;

use super::{CRITICAL, Failure, MAX_CALL, MAX_PACKET, Options, Piece, Record, failure, flag, kind, option};
use crate::wire::DecodeError;
use crate::wire::msgpack::Reader;
use crate::{ErrorInfo, Metadata, Text, Urgency};

/// The records of a packet, in order. Ends after the first malformed one.
///
/// Bytes are slices of the packet, except for pieces of OPEN and RESULT that would keep a much larger packet
/// alive.
#[derive(Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
    failed: bool,
}

/// Decodes a packet.
///
/// # Errors
/// If it is empty or has more than [`MAX_PACKET`] bytes. The iterator returns the error of a malformed
/// record.
pub fn records(packet: &Bytes) -> Result<Records<'_>, DecodeError> {
    if packet.len() > MAX_PACKET {
        return Err(DecodeError::TooLarge { what: "a packet", size: packet.len(), limit: MAX_PACKET });
    }
    if packet.is_empty() {
        return Err(DecodeError::Truncated);
    }
    Ok(Records { reader: Reader::new(packet), failed: false })
}

impl Iterator for Records<'_> {
    type Item = Result<Record, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.begin() {
            Ok(None) => return None,
            Ok(Some((kind, left))) => {
                let mut fields = Fields { reader: &mut self.reader, left };
                // Changed in place, because a record is large, and `and_then` would move it once more.
                let mut record = read_record(kind, &mut fields);
                if record.is_ok()
                    && let Err(error) = fields.skip_rest()
                {
                    record = Err(error);
                }
                record
            }
            Err(error) => Err(error),
        };
        // where the next record begins is unknown, so there is none.
        self.failed = record.is_err();
        Some(record)
    }
}

impl Records<'_> {
    /// The type of the next known record, and the number of its other fields; `None` at the end.
    #[inline]
    fn begin(&mut self) -> Result<Option<(u64, u32)>, DecodeError> {
        // a loop, because records of unknown types from 32 on are skipped.
        while !self.failed && !self.reader.is_at_end() {
            let left = self.reader.array("record")?;
            let mut fields = Fields { reader: &mut self.reader, left };
            match fields.uint("type")? {
                kind @ kind::OPEN..=kind::GOODBYE => return Ok(Some((kind, fields.left))),
                unknown if unknown < CRITICAL => return Err(DecodeError::UnknownType(unknown as i64)),
                _ => fields.skip_rest()?,
            }
        }
        Ok(None)
    }
}

/// The remaining fields of a record.
struct Fields<'a, 'b> {
    reader: &'b mut Reader<'a>,
    left: u32,
}

impl Fields<'_, '_> {
    fn next(&mut self, field: &'static str) -> Result<&mut Self, DecodeError> {
        self.left = self.left.checked_sub(1).ok_or(DecodeError::MissingField(field))?;
        Ok(self)
    }

    fn uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.next(field)?.reader.uint(field)
    }

    fn text(&mut self, field: &'static str) -> Result<Text, DecodeError> {
        self.next(field)?.reader.text(field)
    }

    fn call(&mut self) -> Result<u64, DecodeError> {
        match self.uint("call")? {
            // Numbers from 2^62 on are calls of dialect 1, which a packet must not be able to name.
            call @ 0..=MAX_CALL => Ok(call),
            _ => Err(DecodeError::OutOfRange("call")),
        }
    }

    /// The flags of the [`piece`](Self::piece), which comes after other fields.
    #[inline]
    fn flags(&mut self) -> Result<u64, DecodeError> {
        match self.uint("flags")? {
            flags if flags & !flag::ALL == 0 => Ok(flags),
            _ => Err(DecodeError::OutOfRange("flags")),
        }
    }

    fn piece(&mut self, flags: u64) -> Result<Piece, DecodeError> {
        // Only a slice: `RecvHalf` decides whether to copy it, because reassembly copies most pieces itself.
        Ok(flagged(self.next("piece")?.reader.bin("piece")?, flags))
    }

    /// The piece of an OPEN or a RESULT. It may live as long as its call, so it must not keep the packet
    /// alive.
    #[inline]
    fn first_piece(&mut self, flags: u64) -> Result<Piece, DecodeError> {
        Ok(flagged(self.next("piece")?.reader.kept_bin("piece")?, flags))
    }

    #[inline]
    fn options(&mut self) -> Result<Options, DecodeError> {
        let reader = &mut *self.next("options")?.reader;
        match reader.map("options")? {
            // The common case, inlined.
            0 => Ok(Options::default()),
            given => read_options(reader, given),
        }
    }

    /// Skips unknown fields, which later versions may add.
    fn skip_rest(self) -> Result<(), DecodeError> {
        (0..self.left).try_for_each(|_| self.reader.skip())
    }
}

#[inline]
fn flagged(bytes: Bytes, flags: u64) -> Piece {
    let has = |flag| flags & flag != 0;
    Piece { bytes, fin: has(flag::FIN), item: has(flag::ITEM), compressed: has(flag::SNAPPY) }
}

/// Reads a record of a known type.
#[inline]
fn read_record(kind: u64, fields: &mut Fields<'_, '_>) -> Result<Record, DecodeError> {
    Ok(match kind {
        kind::OPEN => read_open(fields)?,
        kind::RESULT => {
            let (call, flags) = (fields.call()?, fields.flags()?);
            Record::Result { call, options: fields.options()?, piece: fields.first_piece(flags)? }
        }
        kind::FAIL => read_fail(fields)?,
        kind::DATA => {
            let (call, flags) = (fields.call()?, fields.flags()?);
            Record::Data { call, offset: fields.uint("offset")?, piece: fields.piece(flags)? }
        }
        kind::CANCEL => Record::Cancel { call: fields.call()? },
        kind::ABORT => Record::Abort { call: fields.call()? },
        kind::STOP => Record::Stop { call: fields.call()? },
        kind::CREDIT => Record::Credit {
            call: fields.call()?,
            consumed: fields.uint("consumed")?,
            limit: fields.uint("limit")?,
        },
        kind::LINK_CREDIT => Record::LinkCredit { limit: fields.uint("limit")? },
        // `begin` returns known types only.
        _ => Record::Goodbye { next: fields.uint("next")? },
    })
}

#[inline]
fn read_open(fields: &mut Fields<'_, '_>) -> Result<Record, DecodeError> {
    let (call, flags) = (fields.call()?, fields.flags()?);
    let method = fields.text("method")?;
    let key = fields.next("key")?.reader.key("key")?;
    Ok(Record::Open { call, method, key, options: fields.options()?, piece: fields.first_piece(flags)? })
}

fn read_fail(fields: &mut Fields<'_, '_>) -> Result<Record, DecodeError> {
    let call = fields.call()?;
    let kind = fields.uint("kind")?;
    // the texts of CANCELLED are empty, and dropped if they are not.
    let info = ErrorInfo {
        name: fields.text("name")?,
        repr: fields.text("repr")?,
        traceback: fields.text("traceback")?,
    };
    let failure = match kind {
        failure::FAILURE => Failure::Failure(info),
        failure::ERROR => Failure::Error(info),
        failure::CANCELLED => Failure::Cancelled,
        _ => return Err(DecodeError::OutOfRange("kind")),
    };
    Ok(Record::Fail { call, failure, options: fields.options()? })
}

fn read_options(reader: &mut Reader<'_>, given: u32) -> Result<Options, DecodeError> {
    let mut options = Options::default();
    let mut seen = 0_u32;
    for _ in 0..given {
        let key = match reader.is_int() {
            true => match reader.uint("option") {
                // A negative key, and so an unknown one.
                Err(DecodeError::OutOfRange(_)) => u64::MAX,
                key => key?,
            },
            false => {
                reader.skip()?;
                u64::MAX
            }
        };
        // only for keys below 32 is a duplicate an error.
        if key < CRITICAL {
            if seen & (1 << key) != 0 {
                return Err(DecodeError::DuplicateField("option"));
            }
            seen |= 1 << key;
        }
        match key {
            option::METADATA => options.metadata = read_metadata(reader)?,
            option::REMAINING => {
                options.remaining = Some(Duration::from_micros(reader.uint("remaining")?));
            }
            option::URGENCY => {
                let class = u8::try_from(reader.uint("urgency")?).ok().and_then(Urgency::new);
                options.urgency = Some(class.ok_or(DecodeError::OutOfRange("urgency"))?);
            }
            option::SIZE => options.size = Some(reader.uint("size")?),
            unknown => {
                // Skip the value of a critical option, too: only this call is refused, and the packet goes
                // on.
                options.unsupported |= unknown < CRITICAL;
                reader.skip()?;
            }
        }
    }
    Ok(options)
}

fn read_metadata(reader: &mut Reader<'_>) -> Result<Metadata, DecodeError> {
    let mut metadata = Metadata::new();
    for _ in 0..reader.map("metadata")? {
        let (name, value) = (reader.text("metadata")?, reader.bin("metadata")?);
        // The limits hold for each entry that is added, so at most one is read past them.
        match metadata.insert(name, value) {
            Ok(None) => {}
            Ok(Some(_)) => return Err(DecodeError::DuplicateField("metadata")),
            Err(error) => {
                let (what, size, limit) = ("metadata", error.bytes, Metadata::MAX_BYTES);
                return Err(DecodeError::TooLarge { what, size, limit });
            }
        }
    }
    Ok(metadata)
}
