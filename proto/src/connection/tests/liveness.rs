use super::*;

fn alive(idle: Duration, misses: u32) -> ConnectionConfig {
    ConnectionConfig { keepalive: Some(Keepalive { idle, misses }), ..config() }
}

fn answer(side: &mut Side) {
    for probe in side.sent() {
        let [marker, header, body] = probe.into_three().unwrap();
        assert_eq!(marker, PING);
        side.hear(Multipart::new(PONG, header, body));
    }
}

#[test]
fn a_silent_peer_is_probed_and_then_given_up() {
    let mut side = Side::established(alive(SECOND, 2));
    assert_eq!(side.connection.next_deadline(), Some(side.now + SECOND));
    for _ in 0..2 {
        side.pass(SECOND);
        assert_eq!(side.sent().len(), 1);
        assert_eq!(side.events(), []);
    }
    let call = side.invoke("m");
    side.pass(SECOND);
    let cause = CloseCause::KeepaliveTimedOut;
    let outcome = Outcome::Disconnected { cause, sent: false };
    assert_eq!(side.events(), [ended(call, outcome), Event::Closed(cause)]);
    assert_eq!(side.connection.next_deadline(), None);
}

#[test]
fn a_peer_that_answers_lives_also_on_a_clock_that_stands_still_meanwhile() {
    let mut side = Side::established(alive(SECOND, 1));
    for _ in 0..10 {
        side.pass(SECOND);
        answer(&mut side);
        assert!(matches!(side.events()[..], [Event::Pong { round_trip: Duration::ZERO, .. }]));
    }
}

#[test]
fn whatever_the_peer_says_shows_that_it_lives() {
    let mut side = Side::established(alive(SECOND, 1));
    side.pass(SECOND);
    assert_eq!(side.sent().len(), 1);
    side.now += SECOND / 2;
    side.hear(Multipart::from_frames([Bytes::from_static(b"noise")]).unwrap());
    side.events();
    side.pass(SECOND / 2);
    assert!(side.sent().is_empty(), "not silent for long enough");
    assert_eq!(side.connection.next_deadline(), Some(side.now + SECOND / 2));
    side.pass(SECOND / 2);
    assert_eq!(side.sent().len(), 1);
    assert_eq!(side.events(), []);
}

#[test]
fn a_long_sleep_of_ours_is_not_a_silence_of_the_peer() {
    let mut side = Side::established(alive(SECOND, 2));
    side.pass(SECOND * 3_600);
    assert_eq!((side.sent().len(), side.events()), (1, vec![]));
}

#[test]
fn no_configuration_makes_the_timer_spin() {
    for misses in [0, 1, u32::MAX] {
        let mut side = Side::established(alive(Duration::ZERO, misses));
        for _ in 0..100 {
            side.pass(Duration::from_micros(100));
        }
        assert!(side.sent().len() <= 10);
        assert_eq!(side.connection.is_closed(), misses < 2);
    }
}

#[test]
fn a_clock_that_goes_back_only_delays() {
    let mut side = Side::established(alive(SECOND, 2));
    side.pass(SECOND * 10);
    answer(&mut side);
    side.now -= SECOND * 5;
    side.connection.ping().unwrap();
    side.connection.handle_timeout(side.now).unwrap();
    answer(&mut side);
    assert_eq!(side.events().len(), 2);
    side.pass(SECOND * 10);
    assert!(!side.connection.is_closed());
}

#[test]
fn a_pong_brings_the_time_of_the_round_trip() {
    let mut side = Side::established(config());
    let (first, second) = (side.connection.ping().unwrap(), side.connection.ping().unwrap());
    side.now += SECOND;
    let probes = side.sent();
    side.now += SECOND * 2;
    let pong = |probe: &Multipart| {
        let [_, header, body] = probe.clone().into_three().unwrap();
        Multipart::new(PONG, header, body)
    };
    side.hear(pong(&probes[1]));
    side.hear(pong(&probes[0]));
    side.hear(pong(&probes[0]));
    let round_trip = SECOND * 2;
    assert_eq!(
        side.events(),
        [Event::Pong { ping: second, round_trip }, Event::Pong { ping: first, round_trip }]
    );
    for body in [&b"x"[..], &[0xff; 8]] {
        side.hear(Multipart::new(PONG, Bytes::new(), Bytes::copy_from_slice(body)));
    }
    let ping = side.connection.ping().unwrap();
    side.hear(Multipart::new(PONG, Bytes::new(), Bytes::copy_from_slice(&ping.to_be_bytes())));
    assert_eq!(side.events(), [], "answers to what was not asked, or not yet");
}

#[test]
fn a_peer_that_takes_nothing_is_cut_off() {
    let mut side = Side::established(config());
    let call = side.invoke("m");
    side.sent();
    side.connection.handle_write_blocked(side.now);
    side.pass(SECOND * 5);
    side.connection.handle_write_blocked(side.now);
    assert_eq!(side.connection.next_deadline(), Some(side.now + SECOND * 5), "not put off");
    side.connection.handle_write_progress();
    assert_eq!(side.connection.next_deadline(), None);
    side.connection.handle_write_blocked(side.now);
    side.pass(SECOND * 10 - Duration::from_nanos(1));
    assert!(!side.connection.is_closed());
    side.pass(Duration::from_nanos(1));
    let cause = CloseCause::PeerNotReading;
    let outcome = Outcome::Disconnected { cause, sent: true };
    assert_eq!(side.events(), [ended(call, outcome), Event::Closed(cause)]);
}

#[test]
fn timers_go_off_in_their_order() {
    let execution_timeout = Some(SECOND);
    let mut side = Side::established(ConnectionConfig { execution_timeout, ..alive(SECOND, 1) });
    let call = side.invoke_for("m", 2);
    let asked = side.asked(1);
    side.pass(SECOND * 3);
    assert_eq!(
        side.events(),
        [
            Event::Stop { request: asked, reason: StopReason::ExecutionTimedOut },
            ended(call, Outcome::TimedOut { sent: false })
        ]
    );
}

#[test]
fn pongs_overtake_what_waits_and_keep_their_order() {
    let mut side = Side::established(config());
    side.invoke("m");
    let numbered = |marker, number: u8| Multipart::new(marker, Bytes::new(), Bytes::from(vec![number]));
    for number in 0..3 {
        side.hear(numbered(PING, number));
    }
    let sent = side.sent();
    assert_eq!(sent[..3], [numbered(PONG, 0), numbered(PONG, 1), numbered(PONG, 2)]);
    assert_eq!(sent.len(), 4);
}

#[test]
fn a_pong_behind_a_record_overtakes_calls_and_data() {
    let (mut a, _) = super::dialect2::pair2(super::dialect2::two(), super::dialect2::two());
    let call = a.invoke("m");
    a.connection.invoke(a.now, new_call("large", vec![0; 100_000])).unwrap();
    a.sent();
    // A CANCEL, two PONGs, a call, and the rest of the body wait.
    assert!(a.connection.abandon(call));
    let numbered = |marker, number: u8| Multipart::new(marker, Bytes::new(), Bytes::from(vec![number]));
    (0..2).for_each(|number| a.hear(numbered(PING, number)));
    a.invoke("n");
    a.hear_records(&[wire::Record::Credit { call: 2, consumed: 0, limit: u64::MAX }]);
    let sent = a.sent();
    let first = sent[0].clone().into_one().unwrap();
    let first: Vec<_> = wire::records(&first).unwrap().map(Result::unwrap).collect();
    assert_eq!(first, [wire::Record::Cancel { call: 0 }]);
    assert_eq!(sent[1..3], [numbered(PONG, 0), numbered(PONG, 1)]);
    assert!(sent.len() > 3 && a.connection.queued_bytes() == 0, "the call and the body follow");
}

#[test]
fn a_probe_has_no_header_and_the_number_of_the_probe_as_its_body() {
    let mut side = Side::established(alive(SECOND, 2));
    let ping = side.connection.ping().unwrap();
    side.pass(SECOND);
    let number = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    let probe = |at| Multipart::new(PING, Bytes::new(), number(at));
    assert_eq!(side.sent(), [probe(ping), probe(ping + 1)]);
}

#[test]
fn an_answer_to_a_probe_that_has_not_left_is_none() {
    let mut side = Side::established(config());
    let ping = side.connection.ping().unwrap();
    let pong = Multipart::new(PONG, Bytes::new(), Bytes::copy_from_slice(&ping.to_be_bytes()));
    side.hear(pong.clone());
    assert_eq!((side.events(), side.sent().len()), (vec![], 1));
    side.hear(pong);
    assert!(matches!(side.events()[..], [Event::Pong { .. }]));
}

#[test]
fn probes_that_were_given_up_do_not_displace_the_others() {
    let mut side = Side::established(config());
    let awaited = side.connection.ping().unwrap();
    let probes = side.sent();
    for _ in 0..2 * crate::connection::probes::MAX_PROBES {
        let given_up = side.connection.ping().unwrap();
        side.connection.forget_ping(given_up);
    }
    assert!(side.sent().is_empty(), "none of them had left");
    for probe in probes {
        let [_, header, body] = probe.into_three().unwrap();
        side.hear(Multipart::new(PONG, header, body));
    }
    assert_eq!(side.events(), [Event::Pong { ping: awaited, round_trip: Duration::ZERO }]);
}

#[test]
fn a_quiet_second_ends_with_one_look_at_what_is_kept() {
    let mut side = Side::established(config());
    assert_eq!(side.connection.poll_timeout(), Some(side.now + QUIET));
    side.now += QUIET / 2;
    side.hear(Multipart::from_frames([Bytes::from_static(b"noise")]).unwrap());
    side.events();
    side.pass(QUIET / 2);
    assert_eq!(side.connection.poll_timeout(), Some(side.now + QUIET / 2), "it was not quiet");
    side.pass(QUIET / 2);
    assert_eq!(side.connection.poll_timeout(), None);
}
