//! Writing packets.

use bytes::{BufMut, Bytes, BytesMut};
use rmp::encode;

use super::{Failure, Options, Piece, Record, failure, flag, kind, option};
use crate::wire::dialect1::{Writer, infallible, write_str_bytes};
use crate::{ErrorInfo, KeyKind, Multipart, OrderingKey, Text};

/// A piece of at least this many bytes is sent from where it is instead of being copied.
const TAIL_FROM: usize = 4 * 1024;

/// How much the writer asks for when its buffer is used up.
const SCRATCH: usize = 32 * 1024;

/// Writes records one after the other into packets. Small ones share one buffer.
#[derive(Debug, Default)]
pub struct PacketWriter {
    scratch: BytesMut,
    tail: Bytes,
}

impl PacketWriter {
    /// Bytes written since the last packet was taken.
    pub fn len(&self) -> usize {
        self.scratch.len() + self.tail.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scratch.is_empty()
    }

    /// Whether the packet has to be taken, because the last record's piece was not copied.
    pub fn is_closed(&self) -> bool {
        !self.tail.is_empty()
    }

    /// The packet, as a message of one frame.
    pub fn take(&mut self) -> Multipart {
        Multipart::single(self.scratch.split().freeze(), std::mem::take(&mut self.tail))
    }

    /// Adds a record.
    ///
    /// # Panics
    /// If the packet [is closed](Self::is_closed), or a part of the record has 4 GiB or more.
    pub fn write(&mut self, record: &Record) {
        match record {
            Record::Open { call, method, key, options, piece } => {
                self.open(*call, method, key, options, piece);
            }
            Record::Result { call, options, piece } => self.result(*call, options, piece),
            Record::Fail { call, failure, options } => self.fail(*call, failure, options),
            Record::Data { call, offset, piece } => self.data(*call, *offset, piece),
            Record::Cancel { call } => self.short(kind::CANCEL, &[*call]),
            Record::Abort { call } => self.short(kind::ABORT, &[*call]),
            Record::Stop { call } => self.short(kind::STOP, &[*call]),
            Record::Credit { call, consumed, limit } => {
                self.short(kind::CREDIT, &[*call, *consumed, *limit]);
            }
            Record::LinkCredit { limit } => self.short(kind::LINK_CREDIT, &[*limit]),
            Record::Goodbye { next } => self.short(kind::GOODBYE, &[*next]),
        }
    }

    /// Adds an OPEN.
    pub(crate) fn open(
        &mut self,
        call: u64,
        method: &Text,
        key: &OrderingKey,
        options: &Options,
        piece: &Piece,
    ) {
        let names = method.as_bytes().len() + key.as_bytes().len();
        let out = &mut self.begin(64 + names + options.metadata.size() + piece.bytes.len());
        infallible(encode::write_array_len(out, 7));
        write_uints(out, &[kind::OPEN, call, flags(piece)]);
        write_str_bytes(out, method.as_bytes());
        match key.kind() {
            KeyKind::Str => write_str_bytes(out, key.as_bytes()),
            KeyKind::Bin => infallible(encode::write_bin(out, key.as_bytes())),
        }
        write_options(out, options);
        self.piece(&piece.bytes);
    }

    /// Adds a RESULT.
    pub(crate) fn result(&mut self, call: u64, options: &Options, piece: &Piece) {
        let out = &mut self.begin(64 + options.metadata.size() + piece.bytes.len());
        infallible(encode::write_array_len(out, 5));
        write_uints(out, &[kind::RESULT, call, flags(piece)]);
        write_options(out, options);
        self.piece(&piece.bytes);
    }

    /// Adds a FAIL.
    pub(crate) fn fail(&mut self, call: u64, failed: &Failure, options: &Options) {
        let none = ErrorInfo::default();
        let (kind, info) = match failed {
            Failure::Failure(info) => (failure::FAILURE, info),
            Failure::Error(info) => (failure::ERROR, info),
            Failure::Cancelled => (failure::CANCELLED, &none),
        };
        let out = &mut self.begin(64 + info.size() + options.metadata.size());
        infallible(encode::write_array_len(out, 7));
        write_uints(out, &[kind::FAIL, call, kind]);
        for text in [&info.name, &info.repr, &info.traceback] {
            write_str_bytes(out, text.as_bytes());
        }
        write_options(out, options);
    }

    /// Adds a DATA.
    pub(crate) fn data(&mut self, call: u64, offset: u64, piece: &Piece) {
        let out = &mut self.begin(64 + piece.bytes.len());
        infallible(encode::write_array_len(out, 5));
        write_uints(out, &[kind::DATA, call, flags(piece), offset]);
        self.piece(&piece.bytes);
    }

    fn short(&mut self, kind: u64, fields: &[u64]) {
        let out = &mut self.begin(64);
        infallible(encode::write_array_len(out, 1 + fields.len() as u32));
        write_uints(out, &[kind]);
        write_uints(out, fields);
    }

    fn begin(&mut self, needed: usize) -> Writer<'_> {
        assert!(self.tail.is_empty(), "nothing follows a piece that was not copied");
        let needed = needed.min(SCRATCH);
        if self.scratch.capacity() - self.scratch.len() < needed {
            self.scratch.reserve(SCRATCH);
        }
        (&mut self.scratch).writer()
    }

    fn piece(&mut self, bytes: &Bytes) {
        let out = &mut (&mut self.scratch).writer();
        let len = u32::try_from(bytes.len()).expect("pieces are limited to less than 4 GiB");
        infallible(encode::write_bin_len(out, len));
        if bytes.len() < TAIL_FROM {
            self.scratch.put_slice(bytes);
        } else {
            self.tail = bytes.clone();
        }
    }
}

fn flags(piece: &Piece) -> u64 {
    let mut flags = 0;
    for (set, flag) in [(piece.fin, flag::FIN), (piece.item, flag::ITEM), (piece.compressed, flag::SNAPPY)] {
        flags |= if set { flag } else { 0 };
    }
    flags
}

fn write_uints(out: &mut Writer<'_>, values: &[u64]) {
    for value in values {
        infallible(encode::write_uint(out, *value));
    }
}

fn write_options(out: &mut Writer<'_>, options: &Options) {
    let Options { metadata, remaining, urgency, size, unsupported: _ } = options;
    let numbers = [
        (option::REMAINING, remaining.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))),
        (option::URGENCY, urgency.map(|urgency| u64::from(urgency.get()))),
        (option::SIZE, *size),
    ];
    let given = numbers.iter().filter(|(_, value)| value.is_some()).count();
    infallible(encode::write_map_len(out, given as u32 + u32::from(!metadata.is_empty())));
    if !metadata.is_empty() {
        write_uints(out, &[option::METADATA]);
        infallible(encode::write_map_len(out, metadata.len() as u32));
        for (name, value) in metadata.iter() {
            write_str_bytes(out, name.as_bytes());
            infallible(encode::write_bin(out, value));
        }
    }
    for (key, value) in numbers {
        if let Some(value) = value {
            write_uints(out, &[key, value]);
        }
    }
}
