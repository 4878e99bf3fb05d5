//! Bodies of the fuzz targets (`fuzz/`). No part of the public API.

mod curve;
mod curve_side;
mod hostile;
pub mod pair;
pub mod sim;
mod zmtp;

pub use curve::{curve_client, curve_server};
pub use zmtp::zmtp;

use std::time::Instant;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;

use crate::wire::{self, Encoder, Header, Hello, MessageType};
use crate::{Message, OrderingKey, RequestId};

/// What can be read can be written, and then reads the same.
///
/// # Panics
/// If that is not so.
pub fn header(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    if let Ok(header) = wire::decode_header(&frame) {
        let payload = match header.kind {
            MessageType::Cancelled => crate::Payload::Cancelled,
            _ => crate::Payload::Cancel,
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

/// Largest body that the target takes, so that there is something over it.
const MAX_BODY: usize = 1024;

/// The first byte says the type and whether the rest is compressed.
///
/// # Panics
/// If a body over the limit is read, or reads otherwise once it is written again.
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
    let id = RequestId { seq: 0, method: "m".into(), key: OrderingKey::none() };
    let header = Header { kind, id: id.clone(), compressed: choice & 0x80 != 0 };
    let Ok(payload) = wire::decode_body(&header, Bytes::copy_from_slice(frame), MAX_BODY) else { return };
    assert!(payload.size() <= MAX_BODY);
    let message = Message { id, payload: payload.clone(), compressed: header.compressed };
    let [_, _, written] = Encoder::default().encode(&message).into_three().expect("three frames");
    assert_eq!(wire::decode_body(&header, written, MAX_BODY), Ok(payload));
}

/// Two sessions that keep the rules, or one and a peer that keeps none. `start` is the start of virtual time.
///
/// # Panics
/// If a promise of the session is broken.
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
