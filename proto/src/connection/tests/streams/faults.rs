//! Faults of the peer in streams.

use super::*;

#[test]
fn what_the_peer_gets_wrong_with_an_argument_costs_only_that_call() {
    let size = |size| Options { size: Some(size), ..Options::default() };
    let sized = |options| Record::Open {
        call: 0,
        method: "m".into(),
        key: OrderingKey::none(),
        options,
        piece: part("ab"),
    };
    let block = |len: usize| snap::raw::Encoder::new().compress_vec(&vec![0; len]).unwrap();
    let giant = Piece { compressed: true, ..part(&b"\xff\xff\xff\xff\x0f"[..]) };
    let oversize = Piece { compressed: true, ..part(block(MAX_CHUNK + 1)) };
    let fin = Piece { fin: true, ..part("c") };
    let cases = [
        (vec![open(0, part("ab")), data(0, 1, part("c"))], StreamFault::Overlap),
        (vec![open(0, part("ab")), data(0, 3, part("c"))], StreamFault::Gap),
        (vec![open(0, part("ab")), data(0, 2, fin.clone()), data(0, 3, part("d"))], StreamFault::PastEnd),
        (vec![open(0, part("ab")), data(0, 2, giant)], StreamFault::Snappy),
        (vec![open(0, part("ab")), data(0, 2, oversize)], StreamFault::Oversize),
        (vec![sized(size(2)), data(0, 2, part("c"))], StreamFault::Size),
        (vec![sized(size(4)), data(0, 2, fin)], StreamFault::Size),
        (vec![sized(size(1))], StreamFault::Size),
    ];
    for (records, fault) in cases {
        let mut side = binder(two());
        side.hear_records(&records);
        side.hear_records(&[open(2, whole("good"))]);
        let events = side.events();
        let asked = |number| {
            let of =
                |event: &Event| matches!(event, Event::Request(request) if request.id == incoming(number));
            events.iter().any(of)
        };
        assert!(asked(0) && asked(2), "{fault:?}: {events:?}");
        assert!(events.contains(&Event::Anomaly(Anomaly::Stream(fault))), "{fault:?}: {events:?}");
        assert_eq!(side.read(StreamId::Request(incoming(0))), Err(ReadError::Fault(fault)));
        side.connection.reply(incoming(0), Reply::Cancelled).unwrap();
        assert_eq!(side.connection.held_bytes(), 0, "{fault:?}");
    }
}

#[test]
fn data_after_a_whole_body_is_reported() {
    let mut side = binder(two());
    side.hear_records(&[open(0, whole("all")), data(0, 3, part("more"))]);
    let events = side.events();
    // The request starts after its arrival was reported to the endpoint.
    assert!(matches!(events[1], Event::Request(_)), "{events:?}");
    assert_eq!(events[..1], [Event::Anomaly(Anomaly::Stream(StreamFault::PastEnd))]);
    assert_eq!(events.len(), 2);
    assert_eq!(side.connection.held_bytes(), 0);
}

#[test]
fn texts_of_an_error_have_a_limit() {
    for (size, fits) in [(MAX_TEXTS - 1, true), (MAX_TEXTS, false)] {
        let mut side = binder(two());
        let StreamId::Call(call) = side.invoke_streamed() else { unreachable!("it is ours") };
        side.sent();
        let info = ErrorInfo::new("E", "x".repeat(size));
        let failure = Failure::Failure(info.clone());
        side.hear_records(&[Record::Fail { call: 1, failure, options: Options::default() }]);
        let too_large =
            DecodeError::TooLarge { what: "the texts of an error", size: size + 1, limit: MAX_TEXTS };
        let outcome = if fits { Outcome::Failure(info.into()) } else { Outcome::Malformed(too_large) };
        assert_eq!(side.events(), [ended(call, outcome)]);
    }
}
