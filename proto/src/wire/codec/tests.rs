//! Both dialects through one codec: names, numbers, and compression.

use super::*;
use crate::ErrorInfo;
use crate::wire::dialect1::{decode_body, decode_header};
use crate::wire::{MAX_CHUNK, RECORD_COST, records};

const LIMIT: usize = 1 << 20;

/// Decodes a message of dialect 1 from the peer.
fn heard(codec: &mut Codec, seq: u32, payload: Payload) -> Result<Inbound, Dropped> {
    let message = Encoder::default().encode_parts(seq, &"m".into(), &OrderingKey::text("k"), &payload, false);
    let [_, header, body] = message.into_three().unwrap();
    codec.read_upper(&header, body, LIMIT, true)
}

fn opened(codec: &mut Codec, seq: u32) -> Number {
    match heard(codec, seq, Payload::Function("1".into())) {
        Ok(Inbound::Record(Record::Open { call, .. })) => call,
        other => panic!("{other:?}"),
    }
}

/// Takes the encoded message of dialect 1.
fn said(codec: &mut Codec) -> (u32, Payload) {
    let [_, header, body] = codec.take().unwrap().into_three().unwrap();
    let header = decode_header(&header).unwrap();
    (header.id.seq, decode_body(&header, body, LIMIT).unwrap())
}

fn open(codec: &mut Codec, call: Number) {
    let (method, key) = ("m".into(), OrderingKey::text("k"));
    codec.open(call, (&method, &key), &Options::default(), (Piece::whole("1".into()), false));
}

#[test]
fn requests_of_dialect_1_are_numbered_and_answered_with_their_names() {
    let mut codec = Codec::default();
    let [first, second] = [opened(&mut codec, 7), opened(&mut codec, 8)];
    assert_eq!([first, second], [1 << 62, (1 << 62) + 2]);
    assert!(is_dialect_1(first) && !is_dialect_1(crate::wire::MAX_CALL));
    codec.accept(first);
    codec.accept(second);
    assert!(matches!(heard(&mut codec, 7, Payload::Function("1".into())), Err(Dropped::DuplicateRequest)));
    assert!(
        matches!(heard(&mut codec, 8, Payload::Cancel), Ok(Inbound::Record(Record::Cancel { call })) if call == second)
    );
    assert!(matches!(heard(&mut codec, 9, Payload::Cancel), Err(Dropped::UnknownCancel)));
    codec.result(second, &Options::default(), Piece::whole("2".into()), false);
    assert!(codec.is_full() && !codec.accepts(first), "each is a message of its own");
    assert_eq!(said(&mut codec), (8, Payload::Result("2".into())));
    codec.fail(first, Failure::Cancelled, &Options::default());
    assert_eq!(said(&mut codec), (7, Payload::Cancelled));
    codec.fail(first, Failure::Cancelled, &Options::default());
    assert_eq!(codec.take(), None, "it was answered");
}

#[test]
fn a_name_is_free_once_its_request_is_answered_though_the_answer_waits() {
    let mut codec = Codec::default();
    let first = opened(&mut codec, 7);
    codec.accept(first);
    codec.release_name(first);
    assert!(matches!(heard(&mut codec, 7, Payload::Cancel), Err(Dropped::UnknownCancel)));
    let second = opened(&mut codec, 7);
    codec.accept(second);
    assert_ne!(first, second);
    for (call, text) in [(first, "1"), (second, "2")] {
        codec.result(call, &Options::default(), Piece::whole(text.into()), false);
        assert_eq!(said(&mut codec), (7, Payload::Result(text.into())));
    }
}

#[test]
fn an_answer_belongs_to_the_call_that_has_left_with_its_name() {
    let mut codec = Codec::default();
    assert!(matches!(heard(&mut codec, 5, Payload::Cancelled), Err(Dropped::UnknownReply)));
    let call = number_in_dialect_1(CallId((3 << 32) + 5));
    open(&mut codec, call);
    assert_eq!(said(&mut codec), (5, Payload::Function("1".into())));
    assert!(matches!(heard(&mut codec, 5, Payload::Result("2".into())),
        Ok(Inbound::Record(Record::Result { call: answered, .. })) if answered == call));
    assert!(matches!(heard(&mut codec, 5, Payload::Result("2".into())), Err(Dropped::UnknownReply)));
    // An answer to an abandoned call is unknown, even if the CANCEL has not been sent.
    open(&mut codec, call);
    said(&mut codec);
    codec.abandon(call);
    assert!(matches!(heard(&mut codec, 5, Payload::Cancelled), Err(Dropped::UnknownReply)));
    codec.control(&Record::Cancel { call });
    assert_eq!(said(&mut codec), (5, Payload::Cancel));
    codec.control(&Record::Cancel { call });
    assert_eq!(codec.take(), None);
}

#[test]
fn a_body_that_can_not_be_read_costs_one_call() {
    let mut codec = Codec::default();
    let broken = |codec: &mut Codec, payload| {
        let message =
            Encoder::default().encode_parts(5, &"m".into(), &OrderingKey::text("k"), &payload, false);
        let [_, header, _] = message.into_three().unwrap();
        codec.read_upper(&header, Bytes::from_static(b"\xc1"), LIMIT, true)
    };
    let Ok(Inbound::BadRequest { call, .. }) = broken(&mut codec, Payload::Function("1".into())) else {
        panic!()
    };
    codec.fail(call, Failure::Error(ErrorInfo::new("E", "e")), &Options::default());
    assert_eq!(said(&mut codec), (5, Payload::Error(ErrorInfo::new("E", "e"))));
    let call = number_in_dialect_1(CallId(5));
    open(&mut codec, call);
    said(&mut codec);
    let answer = broken(&mut codec, Payload::Result("1".into()));
    assert!(matches!(answer, Ok(Inbound::BadAnswer { call: answered, .. }) if answered == call));
    let again = broken(&mut codec, Payload::Result("1".into()));
    assert!(matches!(again, Err(Dropped::UnknownReply)));
}

#[test]
fn the_body_of_a_request_is_not_read_unless_requests_are_accepted() {
    let mut codec = Codec::default();
    for payload in [Payload::Function("1".into()), Payload::Cancel] {
        let (method, key) = ("m".into(), OrderingKey::text("k"));
        let message = Encoder::default().encode_parts(5, &method, &key, &payload, false);
        let [_, header, _] = message.into_three().unwrap();
        match (codec.read_upper(&header, Bytes::from_static(b"\xc1"), LIMIT, false), payload) {
            (Ok(Inbound::Refused { call, .. }), Payload::Function(_)) => {
                codec.fail(call, Failure::Cancelled, &Options::default());
                assert_eq!(said(&mut codec), (5, Payload::Cancelled), "the answer has its name");
            }
            (Err(Dropped::UnknownCancel), Payload::Cancel) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn records_share_a_packet_and_messages_of_dialect_1_do_not() {
    let mut codec = Codec::default();
    let one = opened(&mut codec, 1);
    codec.control(&Record::Cancel { call: 2 });
    assert!(codec.accepts(4) && !codec.accepts(one), "a packet is being filled");
    codec.control(&Record::Cancel { call: 4 });
    let packet = codec.take().unwrap().into_one().unwrap();
    let sent: Vec<Record> = records(&packet).unwrap().map(Result::unwrap).collect();
    assert_eq!(sent, [Record::Cancel { call: 2 }, Record::Cancel { call: 4 }]);
    assert!(codec.accepts(one));
}

#[test]
fn compression_is_skipped_where_it_does_not_help() {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..1_000).map(|_| noise()).collect();
    let mut codec = Codec::default();
    let mut sent = |bytes: Vec<u8>| {
        let piece = Piece { bytes: bytes.into(), ..Piece::default() };
        codec.data(0, 0, piece, true);
        let packet = codec.take().unwrap().into_one().unwrap();
        match records(&packet).unwrap().next() {
            Some(Ok(Record::Data { piece, .. })) => piece,
            other => panic!("{other:?}"),
        }
    };
    let piece = sent(vec![0; 1_000]);
    assert!(piece.compressed && piece.bytes.len() < 100);
    assert_eq!(piece.declared(MAX_CHUNK), Ok(1_000), "credit is for what it holds");
    let piece = sent(noise.clone());
    assert_eq!((piece.compressed, &piece.bytes[..]), (false, &noise[..]));

    let mut half = crate::stream::SendHalf::new(u64::MAX, true);
    half.start(0, Bytes::new(), false);
    half.push(vec![0; 1_000].into(), false);
    assert_eq!(half.next(MAX_CHUNK, u64::MAX).unwrap().cost, RECORD_COST + 1_000);
}
