//! Peers that use dialect 2 against this side: what they can make it hold.

use super::dialect2::{open, request, two, whole};
use super::*;
use crate::wire::Credit;
use crate::wire::dialect2::{MAX_FIRST, Record};

/// A binder whose peer gives this much credit.
fn facing(config: SessionConfig, stream: u64, link: u64) -> Side {
    let mut side = Side::connected(Role::Binder, config);
    let credit = Some(Credit { stream, link });
    let hello = Hello { dialects: 0b11, nonce: [9; NONCE_LEN], max_body: 10 << 20, credit };
    side.hear(Multipart::new(PING, hello.encode(), Bytes::new()));
    assert!(matches!(side.events()[..], [Event::Established { dialect: Dialect::Two, .. }]));
    assert_eq!(side.sent().len(), 2, "its hello, and a probe");
    side
}

fn large() -> Reply {
    Reply::result(vec![7; 10 * MAX_FIRST])
}

#[test]
fn results_given_up_for_want_of_credit_leave_no_trace() {
    let mut side = facing(two(), 1 << 20, 0);
    for n in 0..2_000 {
        side.hear_records(&[open(2 * n, whole(""))]);
        let request = request(&mut side);
        side.session.reply(request.id, large()).unwrap();
        assert_eq!(side.sent().len(), 1, "its beginning needs no credit");
        side.hear_records(&[Record::Cancel { call: 2 * n }]);
    }
    assert!(side.session.is_idle());
    assert_eq!(side.session.exchanges.next_turn(), None, "nobody stands in line");
}

#[test]
fn what_a_stream_has_left_counts_once_its_handler_has_ended() {
    let mut side = facing(two(), 1 << 20, 0);
    side.hear_records(&[open(0, whole(""))]);
    let request = request(&mut side);
    side.session.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    let stream = ExchangeId::Theirs(request.id);
    side.session.contents().write(stream, vec![0; 5_000].into(), true).unwrap();
    side.sent();
    assert_eq!(side.session.queued_bytes(), 0, "it has a limit of its own");
    side.session.reply(request.id, Reply::End).unwrap();
    assert_eq!(side.session.queued_bytes(), 5_000);
    side.hear_records(&[Record::LinkCredit { limit: 2_000 }]);
    assert_eq!(side.sent().len(), 1);
    assert!(side.session.queued_bytes() < 4_000);
    side.hear_records(&[Record::LinkCredit { limit: u64::MAX }]);
    side.sent();
    assert!(side.session.is_idle() && side.session.queued_bytes() == 0);
}

#[test]
fn goodbyes_are_one_event() {
    let mut side = facing(two(), 1 << 20, 1 << 20);
    side.hear_records(&vec![Record::Goodbye { next: 1 }; 30_000]);
    assert_eq!(side.events(), [Event::Goodbye]);
}
