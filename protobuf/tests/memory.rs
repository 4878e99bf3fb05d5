//! What a message takes at most, for each byte of a body: the figure of the docs of `Prost`, by a counting allocator.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use bytes::Bytes;
use callosum_protobuf::{Codec, Prost};
use peak_alloc::PeakAlloc;
use prost::Message;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// 192 bytes, of which none has to be on the wire.
#[derive(Clone, PartialEq, Message)]
struct Wide {
    #[prost(string, tag = "1")]
    a: String,
    #[prost(string, tag = "2")]
    b: String,
    #[prost(string, tag = "3")]
    c: String,
    #[prost(string, tag = "4")]
    d: String,
    #[prost(message, repeated, tag = "5")]
    e: Vec<Wide>,
    #[prost(message, repeated, tag = "6")]
    f: Vec<Wide>,
    #[prost(bytes = "vec", tag = "7")]
    g: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    h: Vec<u8>,
}

/// A field that is an element of the list `e`.
fn element(of: &[u8]) -> Vec<u8> {
    let mut field = vec![0x2a, u8::try_from(of.len()).unwrap()];
    field.extend(of);
    field
}

/// Bytes that are allocated at the most, at a time, for each byte of a body that is read; in percent of the bytes of an element.
fn peak(body: Vec<u8>) -> usize {
    let (bytes, body) = (body.len(), Bytes::from(body));
    // It is shared from now on, which takes an allocation.
    let _held = body.clone();
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let message: Wide = Prost::decode(body).unwrap();
    drop(message);
    (HEAP.peak_usage() - before) * 100 / (bytes * size_of::<Wide>())
}

/// The only test of this file: another one would allocate at the same time.
#[test]
fn a_byte_of_a_body_takes_twice_the_size_of_an_element_at_most() {
    assert_eq!(size_of::<Wide>(), 192);
    // A list that is full doubles, and has both then.
    for (elements, percent) in [(1, 200), (5, 120), (1 << 16, 75), ((1 << 16) + 1, 149)] {
        assert_eq!(peak(element(&[]).repeat(elements)), percent, "{elements} elements");
    }
    // Elements in each other have the most: a list of one has room for four.
    let chain = (0..60).fold(Vec::new(), |inner, _| element(&inner));
    for (chains, percent) in [(1, 200), (1000, 197)] {
        assert_eq!(peak(chain.repeat(chains)), percent, "{chains} chains");
    }
}
