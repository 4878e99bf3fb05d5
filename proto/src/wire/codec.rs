//! Frames to records and records to frames, for both dialects.
//!
//! Above this module, each call has one number, and what happens to it is a [`Record`], in both dialects.
//! Dialect 2 sends both as they are. Dialect 1 identifies a call by `(seq, method, key)`, so this module
//! assigns numbers to its calls, and keeps their names for the answers:
//!
//! | dialect 1 | record |
//! | --- | --- |
//! | FUNCTION | OPEN with the whole body |
//! | RESULT | RESULT with the whole body |
//! | FAILURE, ERROR, CANCELLED | FAIL |
//! | CANCEL | CANCEL |
//!
//! Numbers of dialect 1 start at 2^62, above all numbers of dialect 2. A connection can have calls of both: a
//! connector accepts requests of dialect 1 before it learns that the peer speaks dialect 2 (PROTOCOL.md,
//! H-11), and answers these in dialect 1.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::dialect1::{self, CallName, Encoder, MessageType, Payload};
use super::dialect2::{Failure, MAX_FIRST, MAX_TEXTS, Options, PacketWriter, Piece, Record};
use super::{DecodeError, Number};
use crate::ids::CallId;
use crate::{Multipart, OrderingKey, Text};

/// The first number of a call of dialect 1.
const DIALECT_1: Number = 1 << 62;

/// A piece is only sent compressed if that saves more than 1/8 of it.
const WORTH: usize = 8;

/// The number of our call in dialect 1.
pub(crate) fn number_in_dialect_1(call: CallId) -> Number {
    // The low 32 bits are the `seq` of dialect 1. The peer's calls may have the same numbers: which side sent
    // the record tells them apart.
    DIALECT_1 | call.0
}

/// Our call with a number of dialect 1.
pub(crate) fn call_in_dialect_1(number: Number) -> Option<CallId> {
    is_dialect_1(number).then_some(CallId(number & !DIALECT_1))
}

pub(crate) fn is_dialect_1(number: Number) -> bool {
    number >= DIALECT_1
}

/// Consecutive numbers for the calls of one side: every other number belongs to the other side.
pub(crate) fn ordinal(number: Number) -> u64 {
    number >> 1
}

/// The most bytes of a body in OPEN or RESULT; the rest follows in DATA.
pub(crate) fn max_first(number: Number) -> usize {
    if is_dialect_1(number) { usize::MAX } else { MAX_FIRST }
}

/// The most bytes of the three texts of an error together, in addition to the limit on bodies.
pub(crate) fn max_texts(number: Number) -> usize {
    if is_dialect_1(number) { usize::MAX } else { MAX_TEXTS }
}

/// A decoded message of dialect 1.
#[derive(Debug)]
pub(crate) enum Inbound {
    Record(Record),
    /// A request whose body was not read.
    Refused {
        call: Number,
        key: OrderingKey,
    },
    /// A request with a malformed or too large body.
    BadRequest {
        call: Number,
        key: OrderingKey,
        error: DecodeError,
    },
    /// An answer with a malformed or too large body.
    BadAnswer {
        call: Number,
        error: DecodeError,
    },
}

/// Why a message of dialect 1 is dropped without an answer.
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
    /// An encoded message of dialect 1. It has one record, so nothing can be added to it.
    message: Option<Multipart>,
    names: Names,
    /// Created when first needed, and reused because of its tables.
    snappy: Option<Box<snap::raw::Encoder>>,
}

/// The names of calls of dialect 1, by the numbers that the codec assigned.
#[derive(Debug, Default)]
struct Names {
    /// Calls of the peer whose answers have not been encoded.
    // Hashed without a secret, because the codec assigns these numbers: the peer can't choose colliding ones.
    theirs: FxHashMap<Number, CallName>,
    /// Those that are open: another request with the same name is a duplicate. A tree, because the peer could
    /// choose names that collide in a hash table; ordered by `seq` first, so that a search does not compare
    /// many long names that only differ at the end.
    open: BTreeMap<CallName, Number>,
    requests: u64,
    /// Our calls that have been sent, by `seq`.
    ours: FxHashMap<u32, Sent>,
}

#[derive(Debug)]
struct Sent {
    call: Number,
    method: Text,
    key: OrderingKey,
    /// The caller has given up, and a CANCEL is queued.
    abandoned: bool,
}

impl Codec {
    /// Decodes header and body of an UPPER message. The body of a CANCEL is not read (D-6), nor that of a
    /// request unless requests are accepted.
    pub(crate) fn read_upper(
        &mut self,
        header: &Bytes,
        body: Bytes,
        max_body: usize,
        accepts_requests: bool,
    ) -> Result<Inbound, Dropped> {
        let header = dialect1::decode_header(header).map_err(Dropped::Header)?;
        match header.kind {
            // C-8: before the body is decoded, so that a duplicate costs no decompression.
            MessageType::Function if self.names.open.contains_key(&header.id) => {
                Err(Dropped::DuplicateRequest)
            }
            MessageType::Function => {
                // A peer that sends many calls over a limit must not make this side decompress each.
                let decoded = accepts_requests.then(|| dialect1::decode_body(&header, body, max_body));
                let (method, key) = (header.id.method.clone(), header.id.key.clone());
                // Every other number, as in dialect 2, so that `ordinal` counts without gaps.
                let call = DIALECT_1 | (self.names.requests << 1);
                self.names.requests += 1;
                // Also if the request will be refused: the ERROR must echo the name (C-9). But the name is
                // only taken once the request is accepted.
                self.names.theirs.insert(call, header.id);
                Ok(match decoded {
                    None => Inbound::Refused { call, key },
                    Some(Ok(payload)) => {
                        let (options, piece) = (Options::default(), Piece::whole(payload.into_body()));
                        Inbound::Record(Record::Open { call, method, key, options, piece })
                    }
                    Some(Err(error)) => Inbound::BadRequest { call, key, error },
                })
            }
            // D-5: only an open request can be cancelled. The body is not interpreted (D-6).
            MessageType::Cancel => match self.names.open.get(&header.id) {
                Some(&call) => Ok(Inbound::Record(Record::Cancel { call })),
                None => Err(Dropped::UnknownCancel),
            },
            _ => {
                // C-6: a malformed answer ends its call, too, so the name goes before the body is decoded.
                let call = self.names.take_answered(&header.id).ok_or(Dropped::UnknownReply)?;
                Ok(match dialect1::decode_body(&header, body, max_body) {
                    Ok(payload) => Inbound::Record(answer(call, payload)),
                    Err(error) => Inbound::BadAnswer { call, error },
                })
            }
        }
    }

    /// A request was accepted: its name is taken until `release_name`.
    pub(crate) fn accept(&mut self, call: Number) {
        if let Some(name) = self.names.theirs.get(&call) {
            self.names.open.insert(name.clone(), call);
        }
    }

    /// A request was answered, though the answer may not have been sent: its name is free again.
    pub(crate) fn release_name(&mut self, call: Number) {
        if let Some(name) = self.names.theirs.get(&call) {
            self.names.open.remove(name);
        }
    }

    /// Bytes of the name that the answer must echo.
    pub(crate) fn name_size(&self, call: Number, key: &OrderingKey) -> usize {
        // In dialect 2, the answer echoes no name. But the queued answer holds the key, for its order.
        self.names.theirs.get(&call).map_or(key.as_bytes().len(), CallName::size)
    }

    /// Our caller has given up: an answer no longer belongs to the call (D-3). A CANCEL follows.
    pub(crate) fn abandon(&mut self, call: Number) {
        if let Some(sent) = self.names.ours.get_mut(&(call as u32)).filter(|sent| sent.call == call) {
            sent.abandoned = true;
        }
    }

    /// Bytes encoded since the last [`take`](Self::take).
    pub(crate) fn len(&self) -> usize {
        self.packet.len()
    }

    /// Whether a record of this call can be added now: one of dialect 1 needs a message of its own.
    pub(crate) fn accepts(&self, call: Number) -> bool {
        !self.is_full() && (!is_dialect_1(call) || self.packet.is_empty())
    }

    /// Whether nothing more can be added.
    pub(crate) fn is_full(&self) -> bool {
        self.message.is_some() || self.packet.is_closed()
    }

    /// Takes the encoded message, if there is one.
    pub(crate) fn take(&mut self) -> Option<Multipart> {
        self.message.take().or_else(|| (!self.packet.is_empty()).then(|| self.packet.take()))
    }

    /// Encodes our call, with its body or the beginning of it.
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
            // C-4: from now on. An answer that arrives before its call was sent belongs to none.
            let sent = Sent { call, method: method.clone(), key: key.clone(), abandoned: false };
            self.names.ours.insert(seq, sent);
        } else {
            let piece = self.compress(piece, compress);
            self.packet.open(call, method, key, options, &piece);
        }
    }

    /// Encodes a result, or the beginning of it.
    pub(crate) fn result(&mut self, call: Number, options: &Options, piece: Piece, compress: bool) {
        if is_dialect_1(call) {
            self.answer(call, Payload::Result(piece.bytes), compress);
        } else {
            let piece = self.compress(piece, compress);
            self.packet.result(call, options, &piece);
        }
    }

    /// Encodes the failure of a request of the peer.
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

    /// Encodes more of a stream.
    pub(crate) fn data(&mut self, call: Number, offset: u64, piece: Piece, compress: bool) {
        let piece = self.compress(piece, compress);
        self.packet.data(call, offset, &piece);
    }

    /// Encodes a record without a piece.
    pub(crate) fn control(&mut self, record: &Record) {
        match record {
            Record::Cancel { call } if is_dialect_1(*call) => {
                // D-1: one CANCEL for each call. A second one finds no name.
                let Some(sent) = self.names.ours.remove(&(*call as u32)) else { return };
                let (seq, payload) = (*call as u32, Payload::Cancel);
                let message = self.encoder.encode_parts(seq, &sent.method, &sent.key, &payload, false);
                self.message = Some(message);
            }
            other => self.packet.write(other),
        }
    }

    fn answer(&mut self, call: Number, payload: Payload, compress: bool) {
        // C-3: one answer for each request. A second one finds no name.
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
                // Its capacity is for incompressible data, and no limit would count the rest.
                block.shrink_to_fit();
                Piece { bytes: Bytes::from(block), compressed: true, ..piece }
            }
            _ => piece,
        }
    }

    /// Frees memory that is kept for future messages.
    pub(crate) fn shrink(&mut self) {
        if self.message.is_none() && self.packet.is_empty() {
            (self.encoder, self.packet, self.snappy) = Default::default();
        }
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn has_no_names(&self) -> bool {
        self.names.theirs.is_empty() && self.names.open.is_empty() && self.names.ours.is_empty()
    }

    /// The connection has ended. `requests` is kept, so that numbers are never reused.
    pub(crate) fn clear(&mut self) {
        let requests = self.names.requests;
        *self = Self { names: Names { requests, ..Names::default() }, ..Self::default() };
    }
}

impl Names {
    /// The call that an answer belongs to, if it was sent with this method and key, and not abandoned (C-4).
    fn take_answered(&mut self, name: &CallName) -> Option<Number> {
        let sent = self.ours.get(&name.seq)?;
        // An abandoned call stays in the map until its CANCEL is encoded, which needs the name.
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
