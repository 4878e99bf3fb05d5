//! Frames to records and records to frames, for both dialects.
//!
//! Above this module a call has one number, and what happens to it is a [`Record`], whichever dialect is
//! spoken. Dialect 2 has both on the wire. Dialect 1 names a call by `(seq, method, key)`; this module
//! numbers such calls and keeps their names:
//!
//! | dialect 1 | record |
//! | --- | --- |
//! | FUNCTION | OPEN with the whole body |
//! | RESULT | RESULT with the whole body |
//! | FAILURE, ERROR, CANCELLED | FAIL |
//! | CANCEL | CANCEL |
//!
//! Numbers of dialect 1 are at 2^62 and above, where dialect 2 has none: a connector may take requests of
//! dialect 1 before it learns that dialect 2 is spoken (PROTOCOL.md, H-11), and answers them as they came.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::dialect1::{self, CallName, Encoder, MessageType, Payload};
use super::dialect2::{Failure, MAX_FIRST, Options, PacketWriter, Piece, Record};
use super::{DecodeError, Number};
use crate::ids::CallId;
use crate::{Multipart, OrderingKey, Text};

/// The first number of a call of dialect 1.
const DIALECT_1: Number = 1 << 62;

/// A piece is sent compressed if that saves 1/8 of it.
const WORTH: usize = 8;

/// The number of a call of ours in dialect 1.
pub(crate) fn number_in_dialect_1(call: CallId) -> Number {
    DIALECT_1 | call.0
}

/// The call of ours with a number of dialect 1.
pub(crate) fn call_in_dialect_1(number: Number) -> Option<CallId> {
    is_dialect_1(number).then_some(CallId(number & !DIALECT_1))
}

pub(crate) fn is_dialect_1(number: Number) -> bool {
    number >= DIALECT_1
}

/// Numbers the calls of one side without gaps: every other number is the other side's.
pub(crate) fn ordinal(number: Number) -> u64 {
    number >> 1
}

/// Most bytes of a body in OPEN or RESULT; the rest follows as DATA.
pub(crate) fn max_first(number: Number) -> usize {
    if is_dialect_1(number) { usize::MAX } else { MAX_FIRST }
}

/// What a message of dialect 1 says.
#[derive(Debug)]
pub(crate) enum Inbound {
    Record(Record),
    /// A request whose body can't be read.
    BadRequest {
        call: Number,
        key: OrderingKey,
        error: DecodeError,
    },
    /// An answer whose body can't be read.
    BadAnswer {
        call: Number,
        error: DecodeError,
    },
}

/// Why a message of dialect 1 is dropped.
#[derive(Debug)]
pub(crate) enum Dropped {
    Header(DecodeError),
    DuplicateRequest,
    UnknownReply,
    UnknownCancel,
}

#[derive(Debug, Default)]
pub(crate) struct Codec {
    encoder: Encoder,
    packet: PacketWriter,
    /// A message of dialect 1, which is always complete.
    message: Option<Multipart>,
    names: Names,
    /// Made when something is first compressed, and used again: it has tables of its own.
    snappy: Option<Box<snap::raw::Encoder>>,
}

/// The names of calls of dialect 1.
#[derive(Debug, Default)]
struct Names {
    /// Of the peer's calls that have not been answered on the wire.
    theirs: FxHashMap<Number, CallName>,
    /// Of those that are open: another request with such a name is a duplicate. A tree, ordered by `seq`
    /// first: the peer could choose names that collide in a hash table, and a search must not compare many
    /// long names of which only the ends differ.
    open: BTreeMap<CallName, Number>,
    requests: u64,
    /// Of our calls that have left, by `seq`.
    ours: FxHashMap<u32, Sent>,
}

#[derive(Debug)]
struct Sent {
    call: Number,
    method: Text,
    key: OrderingKey,
    /// No answer is waited for; a CANCEL is about to leave.
    abandoned: bool,
}

impl Codec {
    /// Reads header and body of an UPPER message. The body of a CANCEL is not read (D-6).
    pub(crate) fn read_upper(
        &mut self,
        header: &Bytes,
        body: Bytes,
        max_body: usize,
    ) -> Result<Inbound, Dropped> {
        let header = dialect1::decode_header(header).map_err(Dropped::Header)?;
        match header.kind {
            MessageType::Function if self.names.open.contains_key(&header.id) => {
                Err(Dropped::DuplicateRequest)
            }
            MessageType::Function => {
                let decoded = dialect1::decode_body(&header, body, max_body);
                let (method, key) = (header.id.method.clone(), header.id.key.clone());
                let call = DIALECT_1 | (self.names.requests << 1);
                self.names.requests += 1;
                self.names.theirs.insert(call, header.id);
                Ok(match decoded {
                    Ok(payload) => {
                        let (options, piece) = (Options::default(), Piece::whole(payload.into_body()));
                        Inbound::Record(Record::Open { call, method, key, options, piece })
                    }
                    Err(error) => Inbound::BadRequest { call, key, error },
                })
            }
            MessageType::Cancel => match self.names.open.get(&header.id) {
                Some(&call) => Ok(Inbound::Record(Record::Cancel { call })),
                None => Err(Dropped::UnknownCancel),
            },
            _ => {
                let call = self.names.take_answered(&header.id).ok_or(Dropped::UnknownReply)?;
                Ok(match dialect1::decode_body(&header, body, max_body) {
                    Ok(payload) => Inbound::Record(answer(call, payload)),
                    Err(error) => Inbound::BadAnswer { call, error },
                })
            }
        }
    }

    /// A request is open from now on: its name is taken.
    pub(crate) fn accept(&mut self, call: Number) {
        if let Some(name) = self.names.theirs.get(&call) {
            self.names.open.insert(name.clone(), call);
        }
    }

    /// A request is answered, though the answer may wait: its name is free again.
    pub(crate) fn release_name(&mut self, call: Number) {
        if let Some(name) = self.names.theirs.get(&call) {
            self.names.open.remove(name);
        }
    }

    /// Bytes of the name that the answer to a request has to echo.
    pub(crate) fn name_size(&self, call: Number, key: &OrderingKey) -> usize {
        self.names.theirs.get(&call).map_or(key.as_bytes().len(), CallName::size)
    }

    /// Copies the name of a request out of the buffer that it came in, which may be larger than what is
    /// counted.
    pub(crate) fn detach_name(&mut self, call: Number) {
        if let Some(name) = self.names.theirs.get_mut(&call) {
            *name = name.detached();
            if self.names.open.get(name) == Some(&call) {
                // The key there is a slice of the same buffer.
                self.names.open.remove(name);
                self.names.open.insert(name.clone(), call);
            }
        }
    }

    /// Nobody waits for the answer to a call of ours any more: one that comes belongs to no call. A CANCEL
    /// follows.
    pub(crate) fn abandon(&mut self, call: Number) {
        if let Some(sent) = self.names.ours.get_mut(&(call as u32)).filter(|sent| sent.call == call) {
            sent.abandoned = true;
        }
    }

    /// Bytes that have been encoded since the last [`take`](Self::take).
    pub(crate) fn len(&self) -> usize {
        self.packet.len()
    }

    /// Whether a record of this call may be added now.
    pub(crate) fn accepts(&self, call: Number) -> bool {
        !self.is_full() && (!is_dialect_1(call) || self.packet.is_empty())
    }

    /// Whether nothing more can be added.
    pub(crate) fn is_full(&self) -> bool {
        self.message.is_some() || self.packet.is_closed()
    }

    /// The message that was encoded, if any.
    pub(crate) fn take(&mut self) -> Option<Multipart> {
        self.message.take().or_else(|| (!self.packet.is_empty()).then(|| self.packet.take()))
    }

    /// A call of ours leaves, with all of its body or the beginning.
    pub(crate) fn open(
        &mut self,
        call: Number,
        (method, key): (&Text, &OrderingKey),
        options: &Options,
        (piece, compress): (Piece, bool),
    ) {
        if is_dialect_1(call) {
            let (seq, payload) = (call as u32, Payload::Function(piece.bytes));
            self.message = Some(self.encoder.encode_parts(seq, method, key, &payload, compress));
            let sent = Sent { call, method: method.clone(), key: key.clone(), abandoned: false };
            self.names.ours.insert(seq, sent);
        } else {
            let piece = self.compress(piece, compress);
            self.packet.open(call, method, key, options, &piece);
        }
    }

    /// A result leaves, all of it or the beginning.
    pub(crate) fn result(&mut self, call: Number, options: &Options, piece: Piece, compress: bool) {
        if is_dialect_1(call) {
            self.answer(call, Payload::Result(piece.bytes), compress);
        } else {
            let piece = self.compress(piece, compress);
            self.packet.result(call, options, &piece);
        }
    }

    /// A call of the peer's has failed.
    pub(crate) fn fail(&mut self, call: Number, failure: Failure, options: &Options) {
        if is_dialect_1(call) {
            let payload = match failure {
                Failure::Failure(info) => Payload::Failure(info),
                Failure::Error(info) => Payload::Error(info),
                Failure::Cancelled => Payload::Cancelled,
            };
            self.answer(call, payload, false);
        } else {
            self.packet.fail(call, &failure, options);
        }
    }

    /// More of a stream leaves.
    pub(crate) fn data(&mut self, call: Number, offset: u64, piece: Piece, compress: bool) {
        let piece = self.compress(piece, compress);
        self.packet.data(call, offset, &piece);
    }

    /// Any record that has no piece.
    pub(crate) fn control(&mut self, record: &Record) {
        match record {
            Record::Cancel { call } if is_dialect_1(*call) => {
                let Some(sent) = self.names.ours.remove(&(*call as u32)) else { return };
                let (seq, payload) = (*call as u32, Payload::Cancel);
                let message = self.encoder.encode_parts(seq, &sent.method, &sent.key, &payload, false);
                self.message = Some(message);
            }
            other => self.packet.write(other),
        }
    }

    fn answer(&mut self, call: Number, payload: Payload, compress: bool) {
        let Some(CallName { seq, method, key }) = self.names.theirs.remove(&call) else { return };
        self.message = Some(self.encoder.encode_parts(seq, &method, &key, &payload, compress));
    }

    #[inline]
    pub(crate) fn compress(&mut self, piece: Piece, wanted: bool) -> Piece {
        if wanted { self.compressed(piece) } else { piece }
    }

    fn compressed(&mut self, piece: Piece) -> Piece {
        let snappy = self.snappy.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        let block = snappy.compress_vec(&piece.bytes);
        match block {
            Ok(mut block) if block.len() + piece.bytes.len() / WORTH < piece.bytes.len() => {
                // It has room for the worst case, which would wait for the peer uncounted.
                block.shrink_to_fit();
                Piece { bytes: Bytes::from(block), compressed: true, ..piece }
            }
            _ => piece,
        }
    }

    /// Gives back the memory that is kept for messages to come.
    pub(crate) fn shrink(&mut self) {
        if self.message.is_none() && self.packet.is_empty() {
            (self.encoder, self.packet, self.snappy) = Default::default();
        }
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn has_no_names(&self) -> bool {
        self.names.theirs.is_empty() && self.names.open.is_empty() && self.names.ours.is_empty()
    }

    /// The connection is over.
    pub(crate) fn clear(&mut self) {
        let requests = self.names.requests;
        *self = Self { names: Names { requests, ..Names::default() }, ..Self::default() };
    }
}

impl Names {
    /// The call that an answer belongs to: one that has left and was not abandoned, with the same method and
    /// key.
    fn take_answered(&mut self, name: &CallName) -> Option<Number> {
        let sent = self.ours.get(&name.seq)?;
        if sent.abandoned || sent.method != name.method || sent.key != name.key {
            return None;
        }
        self.ours.remove(&name.seq).map(|sent| sent.call)
    }
}

fn answer(call: Number, payload: Payload) -> Record {
    let options = Options::default();
    let failure = match payload {
        Payload::Failure(info) => Failure::Failure(info),
        Payload::Error(info) => Failure::Error(info),
        Payload::Cancelled => Failure::Cancelled,
        result => return Record::Result { call, options, piece: Piece::whole(result.into_body()) },
    };
    Record::Fail { call, failure, options }
}
