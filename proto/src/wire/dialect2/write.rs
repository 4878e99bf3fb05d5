//! Encodes packets of dialect 2. Only the last piece of a packet may be left uncopied, so it closes the
//! packet.

use bytes::{Bytes, BytesMut};

use super::{Failure, Options, Piece, Record, failure, flag, kind, option};
use crate::wire::head::{Head, string};
use crate::{ErrorInfo, Metadata, Multipart, OrderingKey, Text};

/// Pieces of at least this many bytes are not copied, but sent as the [`tail`](Multipart::tail) of the
/// message.
const TAIL_FROM: usize = 4 * 1024;

/// Size of the writer's buffer.
const SCRATCH: usize = 32 * 1024;

/// Encodes records one after the other into packets. Small packets share a buffer.
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

    /// Whether the packet has no records.
    pub fn is_empty(&self) -> bool {
        self.scratch.is_empty()
    }

    /// Whether the packet is full, because the last piece was not copied.
    pub fn is_closed(&self) -> bool {
        // A piece that was not copied has at least `TAIL_FROM` bytes.
        !self.tail.is_empty()
    }

    /// Takes the packet, as a message of one frame.
    pub fn take(&mut self) -> Multipart {
        Multipart::single(self.scratch.split().freeze(), std::mem::take(&mut self.tail))
    }

    /// Adds a record.
    ///
    /// # Panics
    /// If the packet [is closed](Self::is_closed), or a field has 4 GiB or more.
    pub fn write(&mut self, record: &Record) {
        match record {
            Record::Open { call, method, key, options, piece } => {
                self.open(*call, method, key, options, piece);
            }
            Record::Result { call, options, piece } => self.result(*call, options, piece),
            Record::Fail { call, failure, options } => self.fail(*call, failure, options),
            Record::Data { call, offset, piece } => self.data(*call, *offset, piece),
            Record::Cancel { call } => self.short(kind::CANCEL, [*call]),
            Record::Abort { call } => self.short(kind::ABORT, [*call]),
            Record::Stop { call } => self.short(kind::STOP, [*call]),
            Record::Credit { call, consumed, limit } => {
                self.short(kind::CREDIT, [*call, *consumed, *limit]);
            }
            Record::LinkCredit { limit } => self.short(kind::LINK_CREDIT, [*limit]),
            Record::Goodbye { next } => self.short(kind::GOODBYE, [*next]),
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
        let out = self.begin(64 + names + options.metadata.size() + copied(&piece.bytes));
        let mut head = Head::new();
        head.array(7).uint(kind::OPEN).uint(call).uint(flags(piece));
        head.str(method.as_bytes().len()).append_to(out);
        out.extend_from_slice(method.as_bytes());
        head.key(key.kind(), key.as_bytes().len());
        // Without a key, which is common, its head is appended with what follows.
        if !key.as_bytes().is_empty() {
            head.append_to(out);
            out.extend_from_slice(key.as_bytes());
        }
        self.options(&mut head, options);
        self.piece(&mut head, &piece.bytes);
    }

    /// Adds a RESULT.
    pub(crate) fn result(&mut self, call: u64, options: &Options, piece: &Piece) {
        self.begin(64 + options.metadata.size() + copied(&piece.bytes));
        let mut head = Head::new();
        head.array(5).uint(kind::RESULT).uint(call).uint(flags(piece));
        self.options(&mut head, options);
        self.piece(&mut head, &piece.bytes);
    }

    /// Adds a FAIL.
    pub(crate) fn fail(&mut self, call: u64, failed: &Failure, options: &Options) {
        // CANCELLED has three empty texts.
        let none = ErrorInfo::default();
        let (kind, info) = match failed {
            Failure::Failure(info) => (failure::FAILURE, info),
            Failure::Error(info) => (failure::ERROR, info),
            Failure::Cancelled => (failure::CANCELLED, &none),
        };
        let out = self.begin(64 + info.size() + options.metadata.size());
        let mut head = Head::new();
        head.array(7).uint(kind::FAIL).uint(call).uint(kind).append_to(out);
        for text in [&info.name, &info.repr, &info.traceback] {
            string(out, text.as_bytes());
        }
        self.options(&mut head, options);
        head.append_to(&mut self.scratch);
    }

    /// Adds a DATA.
    pub(crate) fn data(&mut self, call: u64, offset: u64, piece: &Piece) {
        self.begin(64 + copied(&piece.bytes));
        let mut head = Head::new();
        self.piece(head.array(5).uint(kind::DATA).uint(call).uint(flags(piece)).uint(offset), &piece.bytes);
    }

    fn short<const N: usize>(&mut self, kind: u64, fields: [u64; N]) {
        let mut head = Head::new();
        head.array(1 + N).uint(kind);
        for field in fields {
            head.uint(field);
        }
        head.append_to(self.begin(64));
    }

    fn begin(&mut self, needed: usize) -> &mut BytesMut {
        assert!(self.tail.is_empty(), "nothing follows a piece that was not copied");
        // An estimate: the buffer grows for a longer record.
        let needed = needed.min(SCRATCH);
        if self.scratch.capacity() - self.scratch.len() < needed {
            // Not more than before, so that `BytesMut` can reuse its allocation.
            self.scratch.reserve(needed.max(SCRATCH - self.scratch.len().min(SCRATCH)));
        }
        &mut self.scratch
    }

    #[inline]
    fn piece(&mut self, head: &mut Head, bytes: &Bytes) {
        // One `bin` in two places: its head ends the buffer, and the transport writes the tail right after
        // it.
        head.bin(bytes.len()).append_to(&mut self.scratch);
        if copied(bytes) == bytes.len() {
            self.scratch.extend_from_slice(bytes);
        } else {
            self.tail = bytes.clone();
        }
    }

    #[inline]
    fn options(&mut self, head: &mut Head, options: &Options) {
        let Options { metadata, remaining, urgency, size, unsupported: _ } = options;
        if metadata.is_empty() && remaining.is_none() && urgency.is_none() && size.is_none() {
            head.map(0);
        } else {
            self.given_options(head, options);
        }
    }

    #[cold]
    fn given_options(&mut self, head: &mut Head, options: &Options) {
        let Options { metadata, remaining, urgency, size, unsupported: _ } = options;
        let numbers = [
            (option::REMAINING, remaining.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))),
            (option::URGENCY, urgency.map(|urgency| u64::from(urgency.get()))),
            (option::SIZE, *size),
        ];
        // The head of a map needs the number of entries before the first one.
        let given = numbers.iter().filter(|(_, value)| value.is_some()).count();
        head.map(given + usize::from(!metadata.is_empty()));
        if !metadata.is_empty() {
            head.uint(option::METADATA).map(metadata.len()).append_to(&mut self.scratch);
            self.metadata(metadata);
        }
        for (key, value) in numbers {
            if let Some(value) = value {
                // One by one: all options together could exceed the capacity of a head.
                head.uint(key).uint(value).append_to(&mut self.scratch);
            }
        }
    }

    fn metadata(&mut self, metadata: &Metadata) {
        for (name, value) in metadata.iter() {
            string(&mut self.scratch, name.as_bytes());
            Head::new().bin(value.len()).append_to(&mut self.scratch);
            self.scratch.extend_from_slice(value);
        }
    }
}

/// Bytes of a piece that are copied: all or none.
fn copied(piece: &Bytes) -> usize {
    if piece.len() < TAIL_FROM { piece.len() } else { 0 }
}

fn flags(piece: &Piece) -> u64 {
    let flags = [(piece.fin, flag::FIN), (piece.item, flag::ITEM), (piece.compressed, flag::SNAPPY)];
    flags.into_iter().map(|(set, flag)| u64::from(set) * flag).sum()
}
