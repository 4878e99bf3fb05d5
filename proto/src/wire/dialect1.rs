//! Dialect 1: encodes and decodes UPPER messages, as Python Callosum 1.0.3 speaks them (PROTOCOL.md, "Dialect
//! 1: the header" and "Dialect 1: the body").
//!
//! Stateless, except for a buffer of the encoder: `codec.rs` knows which calls there are.

use bytes::{BufMut, Bytes, BytesMut};

use super::head::{self, Head};
use super::msgpack::Reader;
use super::{DecodeError, UPPER};
use crate::{ErrorInfo, Multipart, OrderingKey, Text};

/// Largest header frame that is read, in bytes.
pub const MAX_HEADER: usize = 64 * 1024;

/// Allowance in a body frame for everything but the application's bytes: keys of the map, lengths, unknown
/// entries (W-21).
const ENVELOPE: usize = 64 * 1024;

/// Bodies of at least this many bytes are not copied, but sent as the [`tail`](Multipart::tail) of the
/// message.
const TAIL_FROM: usize = 4 * 1024;

/// A decoded body shares the frame if it has at most this many other bytes. Otherwise the body is copied, so
/// that unknown entries don't take up uncounted memory while a call waits.
const MAX_SLACK: usize = 256;

/// Size of the encoder's buffer.
const SCRATCH: usize = 16 * 1024;

/// The name of a call on the wire of dialect 1. A reply must echo it, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallName {
    /// The requester's counter, which wraps at 2^32.
    pub seq: u32,
    /// The method's name.
    pub method: Text,
    /// The ordering key, or "no key".
    pub key: OrderingKey,
}

impl CallName {
    /// Bytes of the method's name and the key.
    pub fn size(&self) -> usize {
        self.method.as_bytes().len() + self.key.as_bytes().len()
    }
}

/// What a message says, by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Run this method with this argument.
    Function(Bytes),
    /// The method ran and returned this.
    Result(Bytes),
    /// The application's handler failed.
    Failure(ErrorInfo),
    /// Callosum itself, or a library under it, failed.
    Error(ErrorInfo),
    /// The requester cancels the call.
    Cancel,
    /// The handler was stopped, or never started, because of a cancellation or a timeout.
    Cancelled,
}

impl Payload {
    /// Bytes of the body, or of the texts of an error.
    pub fn size(&self) -> usize {
        match self {
            Self::Function(body) | Self::Result(body) => body.len(),
            Self::Failure(info) | Self::Error(info) => info.size(),
            Self::Cancel | Self::Cancelled => 0,
        }
    }

    /// The body of a call or a result; empty for other messages.
    pub(crate) fn into_body(self) -> Bytes {
        match self {
            Self::Function(body) | Self::Result(body) => body,
            Self::Failure(_) | Self::Error(_) | Self::Cancel | Self::Cancelled => Bytes::new(),
        }
    }

    /// The same message, whose body has its own buffer.
    fn detached(self) -> Self {
        match self {
            Self::Function(body) => Self::Function(Bytes::copy_from_slice(&body)),
            Self::Result(body) => Self::Result(Bytes::copy_from_slice(&body)),
            other => other,
        }
    }
}

/// A message of dialect 1.
#[cfg(any(test, feature = "internals"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The call that it belongs to.
    pub id: CallName,
    /// What it says.
    pub payload: Payload,
    /// Whether the body frame is compressed with Snappy.
    pub compressed: bool,
}

/// The `type` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// A request.
    Function = 1,
    /// A handler's result.
    Result = 2,
    /// A handler's error.
    Failure = 3,
    /// Callosum's own error.
    Error = 4,
    /// The requester cancels.
    Cancel = 5,
    /// The answer to a cancellation.
    Cancelled = 6,
}

impl MessageType {
    fn from_wire(value: i64) -> Result<Self, DecodeError> {
        Ok(match value {
            1 => Self::Function,
            2 => Self::Result,
            3 => Self::Failure,
            4 => Self::Error,
            5 => Self::Cancel,
            6 => Self::Cancelled,
            other => return Err(DecodeError::UnknownType(other)),
        })
    }

    fn of(payload: &Payload) -> Self {
        match payload {
            Payload::Function(_) => Self::Function,
            Payload::Result(_) => Self::Result,
            Payload::Failure(_) => Self::Failure,
            Payload::Error(_) => Self::Error,
            Payload::Cancel => Self::Cancel,
            Payload::Cancelled => Self::Cancelled,
        }
    }
}

/// A decoded header frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type of the message.
    pub kind: MessageType,
    /// The call that it belongs to.
    pub id: CallName,
    /// Whether the body frame is a Snappy block.
    pub compressed: bool,
}

/// Decodes a header frame: fields in any order, unknown ones ignored.
///
/// # Errors
/// Any [`DecodeError`]; nothing is allocated for a frame over [`MAX_HEADER`].
pub fn decode_header(frame: &Bytes) -> Result<Header, DecodeError> {
    if frame.len() > MAX_HEADER {
        return Err(DecodeError::TooLarge { what: "a header", size: frame.len(), limit: MAX_HEADER });
    }
    let (mut kind, mut method, mut key, mut seq, mut compressed) = (None, None, None, None, None);
    let mut reader = Reader::new(frame);
    for _ in 0..reader.map("header")? {
        match reader.map_key()? {
            Some(b"type") => set(&mut kind, "type", MessageType::from_wire(reader.int("type")?)?)?,
            Some(b"meth") => set(&mut method, "meth", reader.text("meth")?)?,
            Some(b"okey") => set(&mut key, "okey", reader.key("okey")?)?,
            Some(b"seq") => {
                // W-4: in any width, also signed. Only the value must be in range.
                let value = u32::try_from(reader.int("seq")?).map_err(|_| DecodeError::OutOfRange("seq"))?;
                set(&mut seq, "seq", value)?;
            }
            Some(b"zip") => set(&mut compressed, "zip", reader.bool("zip")?)?,
            _ => reader.skip()?,
        }
    }
    reader.end()?;
    let id = CallName {
        seq: seq.ok_or(DecodeError::MissingField("seq"))?,
        method: method.ok_or(DecodeError::MissingField("meth"))?,
        key: key.ok_or(DecodeError::MissingField("okey"))?,
    };
    Ok(Header {
        kind: kind.ok_or(DecodeError::MissingField("type"))?,
        id,
        compressed: compressed.ok_or(DecodeError::MissingField("zip"))?,
    })
}

pub(super) fn set<T>(field: &mut Option<T>, name: &'static str, value: T) -> Result<(), DecodeError> {
    // W-3, H-3: two readers could take different values.
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::DuplicateField(name)),
    }
}

/// Decodes the body frame that belongs to `header`.
///
/// The application's bytes are a slice of the frame (or of the decompressed block), unless that has many
/// other bytes. `limit` is the largest [`Payload::size`], in bytes.
///
/// # Errors
/// Any [`DecodeError`]. A Snappy block's declared size is checked before it is decompressed.
pub fn decode_body(header: &Header, frame: Bytes, limit: usize) -> Result<Payload, DecodeError> {
    let frame = if header.compressed { decompress(&frame, limit)? } else { frame };
    let (mut meta, mut body) = (None, None);
    let mut reader = Reader::new(&frame);
    for _ in 0..reader.map("body")? {
        match reader.map_key()? {
            Some(b"meta") => set(&mut meta, "meta", reader.bytes_or_nil("meta")?)?,
            Some(b"body") => set(&mut body, "body", reader.bytes_or_nil("body")?)?,
            _ => reader.skip()?,
        }
    }
    reader.end()?;
    let meta = meta.ok_or(DecodeError::MissingField("meta"))?;
    let body = body.ok_or(DecodeError::MissingField("body"))?;
    let payload = match header.kind {
        MessageType::Function => Payload::Function(body),
        MessageType::Result => Payload::Result(body),
        MessageType::Failure => Payload::Failure(decode_error_info(&meta)?),
        MessageType::Error => Payload::Error(decode_error_info(&meta)?),
        // W-17: neither has a use for `meta` and `body`.
        MessageType::Cancel => Payload::Cancel,
        MessageType::Cancelled => Payload::Cancelled,
    };
    // W-19: only the application's bytes count. The size of the frame is limited below, as in Z-17.
    let size = payload.size();
    if size > limit {
        return Err(DecodeError::TooLarge { what: "a body", size, limit });
    }
    Ok(if frame.len() > size + MAX_SLACK { payload.detached() } else { payload })
}

fn decompress(block: &[u8], limit: usize) -> Result<Bytes, DecodeError> {
    let size = snap::raw::decompress_len(block).map_err(|_| DecodeError::Snappy)?;
    // Before the check of the ratio, so that the caller learns `BodyTooLarge` and not `MalformedBody`.
    if size > limit.saturating_add(ENVELOPE) {
        return Err(DecodeError::TooLarge { what: "a compressed body", size, limit });
    }
    super::declared_size(block)?;
    snap::raw::Decoder::new().decompress_vec(block).map(Bytes::from).map_err(|_| DecodeError::Snappy)
}

fn decode_error_info(meta: &Bytes) -> Result<ErrorInfo, DecodeError> {
    let mut reader = Reader::new(meta);
    // W-18: what follows the three texts is ignored, also after the array.
    if reader.array("meta")? < 3 {
        return Err(DecodeError::MissingField("meta"));
    }
    Ok(ErrorInfo {
        name: reader.text("name")?,
        repr: reader.text("repr")?,
        traceback: reader.text("traceback")?,
    })
}

/// Encodes messages of dialect 1. Small ones share a buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    scratch: BytesMut,
    /// Created when first needed, and reused because of its tables.
    snappy: Option<Box<snap::raw::Encoder>>,
}

impl Encoder {
    /// Encodes `message` to three frames.
    #[cfg(any(test, feature = "internals"))]
    pub fn encode(&mut self, message: &Message) -> Multipart {
        let CallName { seq, method, key } = &message.id;
        self.encode_parts(*seq, method, key, &message.payload, message.compressed)
    }

    /// Encodes a message to three frames, byte for byte as Python does.
    ///
    /// # Panics
    /// If the message has 4 GiB or more. Connections send no body of more than 1 GiB.
    pub(crate) fn encode_parts(
        &mut self,
        seq: u32,
        method: &Text,
        key: &OrderingKey,
        payload: &Payload,
        compressed: bool,
    ) -> Multipart {
        // All but method and key takes 41 bytes at most.
        self.reserve(64 + method.as_bytes().len() + key.as_bytes().len());
        self.header(MessageType::of(payload), seq, method, key, compressed);
        let header = self.scratch.split().freeze();
        let (prefix, tail) = self.body(payload);
        if !compressed {
            return Multipart::with_tail(UPPER, header, prefix, tail);
        }
        // Snappy compresses the whole map (W-20), so it must be in one piece.
        let mut plain = BytesMut::with_capacity(prefix.len() + tail.len());
        plain.put_slice(&prefix);
        plain.put_slice(&tail);
        let snappy = self.snappy.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        let mut block = snappy
            .compress_vec(&plain)
            .expect("Snappy refuses only inputs over 4 GiB, and bodies are limited to less");
        // Its capacity is for incompressible data, and no limit would count the rest.
        block.shrink_to_fit();
        Multipart::new(UPPER, header, Bytes::from(block))
    }

    fn header(&mut self, kind: MessageType, seq: u32, method: &Text, key: &OrderingKey, compressed: bool) {
        let out = &mut self.scratch;
        let (method, len) = (method.as_bytes(), key.as_bytes().len());
        let mut head = Head::new();
        head.map(5).text(b"type").uint(kind as u64).text(b"meth").str(method.len()).append_to(out);
        out.extend_from_slice(method);
        head.text(b"okey").key(key.kind(), len).append_to(out);
        out.extend_from_slice(key.as_bytes());
        head.text(b"seq").uint(seq.into()).text(b"zip").bool(compressed).append_to(out);
    }

    /// The body frame in two pieces. The second is a large body that is not copied, or empty.
    fn body(&mut self, payload: &Payload) -> (Bytes, Bytes) {
        self.reserve(64 + if payload.size() < TAIL_FROM { payload.size() } else { 0 });
        let out = &mut self.scratch;
        let mut head = Head::new();
        head.map(2).text(b"meta");
        let mut tail = Bytes::new();
        match payload {
            Payload::Function(body) => tail = write_body(out, head.bin(0), body),
            Payload::Result(body) => tail = write_body(out, head.bin(1).array(0), body),
            Payload::Failure(info) | Payload::Error(info) => {
                // Apart, because its length precedes it.
                let meta = encode_error_info(info);
                head.bin(meta.len()).append_to(out);
                out.extend_from_slice(&meta);
                head.text(b"body").nil().append_to(out);
            }
            Payload::Cancel | Payload::Cancelled => {
                head.bin(1).array(0).text(b"body").nil().append_to(out);
            }
        }
        (self.scratch.split().freeze(), tail)
    }

    fn reserve(&mut self, needed: usize) {
        if self.scratch.capacity() < needed {
            // Each message splits its part off, so many small ones share an allocation.
            self.scratch.reserve(needed.max(SCRATCH));
        }
    }
}

fn write_body(out: &mut BytesMut, head: &mut Head, body: &Bytes) -> Bytes {
    head.text(b"body").bin(body.len()).append_to(out);
    if body.len() >= TAIL_FROM {
        // A second reference: the transport writes it after the rest of the frame.
        return body.clone();
    }
    out.extend_from_slice(body);
    Bytes::new()
}

fn encode_error_info(info: &ErrorInfo) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(16 + info.size());
    Head::new().array(3).append_to(&mut bytes);
    for text in [&info.name, &info.repr, &info.traceback] {
        head::string(&mut bytes, text.as_bytes());
    }
    bytes
}
