//! What a peer has to acknowledge before its connection may be closed, and which PONGs do.

use super::dialect2::{pair2, request, two};
use super::*;
use crate::wire::MAX_FIRST;

/// The peer's answer to the probe that is sent now, alone or behind other messages.
fn next_pong(side: &mut Side) -> Multipart {
    let probe = side.sent().pop().expect("a probe");
    let [marker, header, body] = probe.into_three().unwrap();
    assert_eq!(marker, PING);
    Multipart::new(PONG, header, body)
}

fn is_acknowledged(side: &Side) -> bool {
    side.connection.is_acknowledged()
}

#[test]
fn a_reply_is_acknowledged_by_the_answer_to_a_later_probe() {
    let mut side = Side::established(config());
    let request = side.asked(1);
    side.connection.ping().unwrap();
    let stale = next_pong(&mut side);
    side.connection.reply(request, ok("1")).unwrap();
    assert!(is_acknowledged(&side), "nothing has left");
    assert_eq!(side.said(), [(1, result("1"))]);
    assert!(!is_acknowledged(&side));
    side.hear(stale);
    assert!(!is_acknowledged(&side), "it was asked for before the reply");
    side.events();
    side.connection.ping().unwrap();
    let pong = next_pong(&mut side);
    let second = side.asked(2);
    side.connection.reply(second, ok("2")).unwrap();
    assert_eq!(side.said(), [(2, result("2"))]);
    side.hear(pong);
    assert!(!is_acknowledged(&side), "the first reply is, and not the second");
    side.connection.ping().unwrap();
    let pong = next_pong(&mut side);
    side.hear(pong.clone());
    assert!(is_acknowledged(&side));
    side.hear(pong);
    assert!(is_acknowledged(&side), "a PONG that comes twice takes nothing back");
}

#[test]
fn an_answer_to_a_forgotten_probe_acknowledges_nothing() {
    let mut side = Side::established(config());
    let request = side.asked(1);
    side.connection.reply(request, ok("1")).unwrap();
    side.sent();
    let ping = side.connection.ping().unwrap();
    let pong = next_pong(&mut side);
    side.connection.forget_ping(ping);
    side.hear(pong);
    assert!(!is_acknowledged(&side));
}

#[test]
fn probes_of_an_idle_connection_acknowledge_its_replies() {
    let keepalive = Some(Keepalive { idle: SECOND, misses: 2 });
    let mut side = Side::established(ConnectionConfig { keepalive, ..config() });
    let request = side.asked(1);
    side.connection.reply(request, ok("1")).unwrap();
    side.sent();
    side.pass(SECOND);
    let pong = next_pong(&mut side);
    side.hear(pong);
    assert!(is_acknowledged(&side));
}

#[test]
fn a_refusal_has_to_be_acknowledged_and_calls_and_control_have_not() {
    for (connector, binder) in [(config(), config()), (two(), two())] {
        let dialect = connector.dialect;
        let (mut a, mut b) =
            if dialect == Dialect::One { pair(connector, binder) } else { pair2(connector, binder) };
        let call = a.invoke("m");
        assert!(a.connection.abandon(call) && a.sent().is_empty());
        let call = a.invoke("m");
        let sent = a.sent();
        assert_eq!(sent.len(), 1);
        sent.into_iter().for_each(|message| b.hear(message));
        assert!(a.connection.abandon(call));
        a.connection.ping().unwrap();
        a.connection.drain();
        assert!(!a.sent().is_empty(), "a CANCEL, a PING, and a GOODBYE in dialect 2");
        assert!(is_acknowledged(&a), "{dialect:?}");

        let request = request(&mut b);
        b.connection.drain();
        b.sent();
        assert!(is_acknowledged(&b), "{dialect:?}: a GOODBYE is no reply");
        b.connection.reply(request.id, Reply::Cancelled).unwrap();
        b.sent();
        assert!(!is_acknowledged(&b), "{dialect:?}");
    }
    let mut side = Side::established(config());
    side.connection.drain();
    side.hear_message(1, "m", Payload::Function(Bytes::new()));
    assert_eq!(side.said().len(), 1);
    assert!(!is_acknowledged(&side), "whom this side refuses has to learn it");
}

#[test]
fn the_ends_of_streams_have_to_be_acknowledged_and_arguments_that_are_bodies_have_not() {
    let (mut a, mut b) = pair2(two(), two());
    let large = || Bytes::from(vec![0; 4 * MAX_FIRST]);
    // The argument is a body.
    a.connection.invoke(a.now, new_call("m", large())).unwrap();
    exchange(&mut a, &mut b);
    assert!(is_acknowledged(&a), "its result will show that it has arrived");
    let asked = request(&mut b);
    // The result is a body of several records.
    b.connection.reply(asked.id, Reply::result(large())).unwrap();
    let mut sent = b.sent();
    b.connection.ping().unwrap();
    sent.extend(b.sent());
    assert!(sent.len() > 2);
    let last = sent.pop().unwrap();
    sent.into_iter().for_each(|message| a.hear(message));
    a.sent();
    assert!(!is_acknowledged(&b));
    a.hear(last);
    exchange(&mut a, &mut b);
    assert!(is_acknowledged(&b));
    // The argument is a stream, whose call may end before the responder has read all of it.
    let call = Call { argument: Delivery::Stream, ..new_call("m", "1") };
    let call = a.connection.invoke(a.now, call).unwrap();
    exchange(&mut a, &mut b);
    assert!(is_acknowledged(&a), "it has not ended");
    a.connection.send_stream(call).finish().unwrap();
    let end = a.sent();
    assert!(!end.is_empty() && !is_acknowledged(&a));
    end.into_iter().for_each(|message| b.hear(message));
    a.connection.ping().unwrap();
    exchange(&mut a, &mut b);
    assert!(is_acknowledged(&a));
}

#[test]
fn acknowledgements_of_zmtp_count_the_messages_of_the_present_transport() {
    // The first message is that of the handshake.
    let replies_in_the_second_message = |side: &mut Side| {
        let request = side.asked(1);
        side.connection.reply(request, ok("1")).unwrap();
        assert_eq!(side.sent().len(), 1);
        side.connection.handle_acknowledged(1);
        assert!(!is_acknowledged(side));
        side.connection.handle_acknowledged(2);
        assert!(is_acknowledged(side));
    };
    let mut side = Side::established(config());
    replies_in_the_second_message(&mut side);
    side.connection.handle_acknowledged(1);
    assert!(is_acknowledged(&side), "less than before says nothing");
    side.connection.handle_acknowledged(u64::MAX);
    let request = side.asked(2);
    side.connection.reply(request, ok("2")).unwrap();
    side.sent();
    assert!(!is_acknowledged(&side), "nobody acknowledges what has not left");

    let mut side = Side::connected(Role::Connector, config());
    assert_eq!(side.sent().len(), 1, "its hello");
    assert!(side.connection.handle_disconnected([3; NONCE_LEN]));
    side.connection.handle_connected(side.now);
    let [_, hello, nonce] = side.sent().remove(0).into_three().unwrap();
    side.hear(Multipart::new(PONG, hello, nonce));
    side.events();
    replies_in_the_second_message(&mut side);
}

#[test]
fn a_reply_that_was_cancelled_before_it_was_sent_needs_no_acknowledgement() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.connection.begin_reply(asked.id, false, Metadata::new(), None).unwrap();
    assert!(a.connection.abandon(call));
    a.sent().into_iter().for_each(|message| b.hear(message));
    assert_eq!(b.sent(), [], "the beginning of the reply is dropped");
    b.connection.ping().unwrap();
    let [probe] = &b.sent()[..] else { panic!("a probe") };
    assert!(is_acknowledged(&b), "{probe:?} is no reply");
    b.connection.reply(asked.id, Reply::End).unwrap();
    assert_eq!(b.sent().len(), 1);
    assert!(!is_acknowledged(&b), "it is answered with CANCELLED");
}
