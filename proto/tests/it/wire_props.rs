//! The codec of dialect 1 against arbitrary messages and arbitrary bytes.

use bytes::Bytes;
use callosum_proto::internals::wire::{CallName, Message, Payload};
use callosum_proto::internals::wire::{
    Credit, DecodeError, Encoder, Hello, UPPER, decode_body, decode_header,
};
use callosum_proto::{ErrorInfo, OrderingKey, Text};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    let lengths = prop_oneof![8 => 0..40_usize, 1 => 250..260_usize, 1 => 4_090..4_100_usize, 1 => 65_530..65_540_usize];
    (lengths, any::<u64>()).prop_map(|(len, seed)| {
        // Neither constant, so that a wrong offset shows, nor random, so that it can be compressed.
        (0..len).map(|at| (seed >> (at % 57)) as u8).collect::<Vec<_>>().into()
    })
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![".{0,40}", "a{200,300}", Just(String::new())].prop_map(Text::from)
}

fn key() -> impl Strategy<Value = OrderingKey> {
    prop_oneof![
        Just(OrderingKey::none()),
        ".{0,40}".prop_map(OrderingKey::text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(OrderingKey::binary),
    ]
}

fn payload() -> impl Strategy<Value = Payload> {
    let info =
        || (text(), text(), text()).prop_map(|(name, repr, traceback)| ErrorInfo { name, repr, traceback });
    prop_oneof![
        bytes().prop_map(Payload::Function),
        bytes().prop_map(Payload::Result),
        info().prop_map(Payload::Failure),
        info().prop_map(Payload::Error),
        Just(Payload::Cancel),
        Just(Payload::Cancelled),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u32>(), text(), key(), payload(), any::<bool>()).prop_map(
        |(seq, method, key, payload, compressed)| Message {
            id: CallName { seq, method, key },
            payload,
            compressed,
        },
    )
}

fn encode(message: &Message) -> [Bytes; 3] {
    Encoder::default().encode(message).into_three().expect("three frames")
}

fn decode(header: &Bytes, body: Bytes, limit: usize) -> Result<Message, DecodeError> {
    let header = decode_header(header)?;
    let payload = decode_body(&header, body, limit)?;
    Ok(Message { id: header.id, payload, compressed: header.compressed })
}

/// A frame with some of its bytes changed, taken out, or doubled.
fn mutate(frame: &Bytes, changes: &[(prop::sample::Index, u8, u8)]) -> Bytes {
    let mut frame = frame.to_vec();
    for (at, change, byte) in changes {
        if frame.is_empty() {
            break;
        }
        let at = at.index(frame.len());
        match change % 4 {
            0 => frame[at] = *byte,
            1 => drop(frame.remove(at)),
            2 => frame.insert(at, *byte),
            _ => frame.truncate(at),
        }
    }
    frame.into()
}

/// The fields of a map of short texts, as slices of their bytes.
fn fields(header: &Bytes) -> Vec<Bytes> {
    let names: [&[u8]; 5] = [b"\xa4type", b"\xa4meth", b"\xa4okey", b"\xa3seq", b"\xa3zip"];
    let mut from = 1;
    let starts = names.map(|name| {
        let at = from + header[from..].windows(name.len()).position(|part| part == name).expect("a field");
        from = at + name.len();
        at
    });
    let ends = [starts[1], starts[2], starts[3], starts[4], header.len()];
    starts.into_iter().zip(ends).map(|(start, end)| header.slice(start..end)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_message_reads_as_it_was_written(message in message()) {
        let [marker, header, body] = encode(&message);
        prop_assert_eq!(marker, UPPER);
        let size = message.payload.size();
        prop_assert_eq!(decode(&header, body.clone(), size), Ok(message));
        if size > 0 {
            let error = decode(&header, body, size - 1);
            prop_assert!(matches!(error, Err(DecodeError::TooLarge { .. })), "{:?}", error);
        }
    }

    #[test]
    fn one_encoder_writes_each_message_as_a_new_one_would(messages in prop::collection::vec(message(), 1..20)) {
        let mut encoder = Encoder::default();
        for message in &messages {
            let frames = encoder.encode(message).into_three().expect("three frames");
            prop_assert_eq!(frames, encode(message));
        }
    }

    #[test]
    fn a_part_of_a_frame_is_not_a_frame(message in message(), at in any::<prop::sample::Index>()) {
        let [_, header, body] = encode(&message);
        prop_assert_eq!(
            decode_header(&header.slice(..at.index(header.len()))),
            Err(DecodeError::Truncated)
        );
        let part = body.slice(..at.index(body.len()));
        let read = decode_body(&decode_header(&header).expect("whole"), part, usize::MAX);
        let expected = if message.compressed {
            matches!(read, Err(DecodeError::Snappy | DecodeError::Truncated))
        } else {
            read == Err(DecodeError::Truncated)
        };
        prop_assert!(expected, "{:?}", read);
    }

    #[test]
    fn the_order_of_the_fields_and_unknown_ones_do_not_matter(
        message in message(),
        order in Just((0..7_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let [_, header, _] = encode(&message);
        let mut parts = fields(&header);
        parts.push(Bytes::from_static(b"\xa5extra\x82\x01\x93\xa4type\xc0\x01\xc4\x01\xff\xc7\x01\x05\x00"));
        parts.push(Bytes::from_static(b"\x05\xa4meth"));
        let mut frame = vec![0x87];
        order.into_iter().for_each(|at| frame.extend_from_slice(&parts[at]));
        prop_assert_eq!(decode_header(&frame.into()), decode_header(&header));
    }

    #[test]
    fn mutated_frames_do_no_harm(
        message in message(),
        in_header in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..4),
        in_body in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..4),
    ) {
        let [_, header, body] = encode(&message);
        let limit = 1_000;
        if let Ok(read) = decode(&mutate(&header, &in_header), mutate(&body, &in_body), limit) {
            prop_assert!(read.payload.size() <= limit);
            let [_, header, body] = encode(&read);
            prop_assert_eq!(decode(&header, body, limit), Ok(read));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        header in prop::collection::vec(any::<u8>(), 0..100),
        body in prop::collection::vec(any::<u8>(), 0..100),
        kind in message(),
    ) {
        drop(decode_header(&header.clone().into()));
        drop(Hello::decode(&header.into()));
        let [_, valid, _] = encode(&kind);
        drop(decode(&valid, body.into(), 1_000));
    }

    #[test]
    fn a_hello_reads_as_it_was_written(dialects: u32, nonce: [u8; 16], max_body: u64, credit: Option<(u64, u64)>) {
        let hello = Hello { dialects, nonce, max_body, credit: credit.map(|(stream, link)| Credit { stream, link }) };
        let wire = hello.encode();
        prop_assert_eq!(Hello::decode(&wire), Ok(hello));
        for end in 0..wire.len() {
            prop_assert_eq!(Hello::decode(&wire.slice(..end)), Err(DecodeError::Truncated));
        }
    }
}
