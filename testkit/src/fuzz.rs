//! The bodies of the fuzz targets in `fuzz/`. Each takes the fuzzer's input and panics if a guarantee is broken.

pub use crate::admitted::{admitted_client, admitted_server};
pub use crate::curve::{curve_client, curve_server};
pub use crate::zmtp::zmtp;

use std::time::Instant;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use callosum_proto::OrderingKey;
use callosum_proto::internals::wire::dialect2::{self, Failure, PacketWriter, Record};
use callosum_proto::internals::wire::{
    self, CallName, Encoder, Header, Hello, Message, MessageType, Payload,
};

use crate::{hostile, hostile2, pair, sim};

/// A header or hello that decodes must encode, and then decode to the same value.
///
/// # Panics
/// If that is not so.
pub fn header(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    if let Ok(header) = wire::decode_header(&frame) {
        let payload = match header.kind {
            MessageType::Cancelled => Payload::Cancelled,
            _ => Payload::Cancel,
        };
        let message = Message { id: header.id.clone(), payload, compressed: false };
        let [_, written, _] = Encoder::default().encode(&message).into_three().expect("three frames");
        if written.len() <= wire::MAX_HEADER {
            assert_eq!(wire::decode_header(&written).map(|header| header.id), Ok(header.id));
        }
    }
    if let Ok(hello) = Hello::decode(&frame) {
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }
}

/// Largest body that the target decodes; inputs may exceed it.
const MAX_BODY: usize = 1024;

/// A body of dialect 1. The first byte chooses the type, and whether the rest is compressed.
///
/// # Panics
/// If a body over the limit decodes, or decodes to something else after it was encoded again.
pub fn body(data: &[u8]) {
    let Some((choice, frame)) = data.split_first() else { return };
    let kinds = [
        MessageType::Function,
        MessageType::Result,
        MessageType::Failure,
        MessageType::Error,
        MessageType::Cancel,
        MessageType::Cancelled,
    ];
    let kind = kinds[usize::from(choice & 0x7f) % kinds.len()];
    let id = CallName { seq: 0, method: "m".into(), key: OrderingKey::none() };
    let header = Header { kind, id: id.clone(), compressed: choice & 0x80 != 0 };
    let Ok(payload) = wire::decode_body(&header, Bytes::copy_from_slice(frame), MAX_BODY) else { return };
    assert!(payload.size() <= MAX_BODY);
    let message = Message { id, payload: payload.clone(), compressed: header.compressed };
    let [_, _, written] = Encoder::default().encode(&message).into_three().expect("three frames");
    assert_eq!(wire::decode_body(&header, written, MAX_BODY), Ok(payload));
}

/// A packet of dialect 2. Records that decode must encode, and then decode to the same value; no chunk exceeds its limit.
///
/// # Panics
/// If that is not so.
pub fn packet(data: &[u8]) {
    let packet = Bytes::copy_from_slice(data);
    let Ok(records) = dialect2::records(&packet) else { return };
    let mut failed = false;
    for record in records {
        assert!(!failed, "records after one that can't be read");
        let Ok(record) = record else {
            failed = true;
            continue;
        };
        if let Record::Open { piece, .. } | Record::Result { piece, .. } | Record::Data { piece, .. } =
            &record
            && let Ok(bytes) = piece.clone().plain(dialect2::MAX_CHUNK)
        {
            assert!(bytes.len() <= dialect2::MAX_CHUNK);
        }
        let mut writer = PacketWriter::default();
        writer.write(&record);
        let again = writer.take().into_one().expect("a packet is one frame");
        assert!(again.len() <= packet.len(), "there is no shorter way to write it");
        let mut expected = record;
        // Unknown options are not written.
        if let Record::Open { options, .. } | Record::Result { options, .. } | Record::Fail { options, .. } =
            &mut expected
        {
            options.unsupported = false;
        }
        let mut read = dialect2::records(&again).expect("it is shorter");
        match (expected, read.next()) {
            (
                Record::Fail { call, failure: Failure::Cancelled, .. },
                Some(Ok(Record::Fail { call: read, failure: Failure::Cancelled, .. })),
            ) => assert_eq!(call, read),
            (expected, read) => assert_eq!(read, Some(Ok(expected))),
        }
        assert!(read.next().is_none());
    }
}

/// Honest hosts in a simulation, or one connection of dialect 2 and a peer that sends anything. `start` is the start of
/// virtual time.
///
/// # Panics
/// If a guarantee is broken.
pub fn session2(data: &[u8], start: Instant) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 2 {
        0 => sim::run_bytes(rest, start),
        _ => hostile2::run(&mut Unstructured::new(rest), start),
    }
}

/// Two honest connections of dialect 1, or one connection and a peer that sends anything. `start` is the start of virtual time.
///
/// # Panics
/// If a guarantee is broken.
pub fn session(data: &[u8], start: Instant) {
    let mut input = Unstructured::new(data);
    if input.arbitrary().unwrap_or(false) {
        let mut pair = pair::Pair::new(start);
        while !input.is_empty() {
            let Ok(op) = pair::Op::arbitrary(&mut input) else { break };
            pair.apply(op);
        }
        pair.finish();
    } else {
        hostile::run(&mut input, start);
    }
}

/// The next byte of an input.
pub(crate) fn byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

/// As many bytes as the next byte says, or all that are left.
pub(crate) fn bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = byte(input)?;
    let (bytes, rest) = input.split_at(input.len().min(len.into()));
    *input = rest;
    Some(bytes)
}
