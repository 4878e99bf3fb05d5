//! Results with one key, which are sent one after the other.

use super::*;

#[test]
fn results_of_one_key_leave_one_after_the_other() {
    let keyed = |ordered_replies| {
        let (mut a, mut b) = pair2(two(), ConnectionConfig { ordered_replies, ..two() });
        let k = || OrderingKey::text("k");
        let calls = [k(), k(), OrderingKey::none()]
            .map(|key| a.connection.invoke(a.now, Call { key, ..new_call("m", "") }).unwrap());
        exchange(&mut a, &mut b);
        let requests = [request(&mut b), request(&mut b), request(&mut b)];
        b.connection.reply(requests[0].id, Reply::result(body(3 << 20))).unwrap();
        b.connection.reply(requests[1].id, ok("second")).unwrap();
        b.connection.reply(requests[2].id, ok("no key")).unwrap();
        let events = exchange_collecting(&mut b, &mut a);
        let order: Vec<CallId> = events
            .into_iter()
            .filter_map(|event| if let Event::Ended { call, .. } = event { Some(call) } else { None })
            .collect();
        assert!(b.connection.is_idle(), "{:?}", b.connection);
        (calls, order)
    };
    let ([first, second, none], order) = keyed(true);
    assert_eq!(order, [none, first, second]);
    let ([first, second, none], order) = keyed(false);
    assert_eq!(order, [second, none, first]);
}

#[test]
fn failures_and_urgent_results_wait_for_the_result_before_theirs() {
    let (mut a, mut b) = pair2(two(), two());
    let calls = [(0, 3), (1, 3), (2, 3), (3, 0)].map(|(_, urgency)| {
        let key = OrderingKey::text("k");
        a.connection
            .invoke(a.now, Call { key, urgency: Urgency::new(urgency).unwrap(), ..new_call("m", "") })
            .unwrap()
    });
    exchange(&mut a, &mut b);
    let mut requests = [(); 4].map(|()| request(&mut b)).into_iter();
    let mut reply = |b: &mut Side, reply| b.connection.reply(requests.next().unwrap().id, reply).unwrap();
    reply(&mut b, Reply::result(body(3 << 20)));
    reply(&mut b, Reply::Failure(ErrorInfo::new("E", "e").into()));
    reply(&mut b, ok("third"));
    exchange(&mut b, &mut a);
    // The one before it has been taken out of the queue by now.
    reply(&mut b, ok("fourth"));
    let events = exchange_collecting(&mut b, &mut a);
    let order: Vec<CallId> = events
        .into_iter()
        .filter_map(|event| if let Event::Ended { call, .. } = event { Some(call) } else { None })
        .collect();
    assert_eq!(order, calls);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

#[test]
fn a_result_that_fails_keeps_its_turn() {
    for has_begun in [false, true] {
        let (mut a, mut b) = pair2(two(), two());
        let calls = [3, 0].map(|urgency| {
            let key = OrderingKey::text("k");
            a.connection
                .invoke(a.now, Call { key, urgency: Urgency::new(urgency).unwrap(), ..new_call("m", "") })
                .unwrap()
        });
        exchange(&mut a, &mut b);
        let requests = [request(&mut b), request(&mut b)];
        b.connection.begin_reply(requests[0].id, false, Metadata::new(), None).unwrap();
        if has_begun {
            exchange(&mut a, &mut b);
        }
        b.connection.reply(requests[1].id, ok("second")).unwrap();
        if has_begun {
            exchange(&mut a, &mut b);
        }
        b.connection.reply(requests[0].id, Reply::Failure(ErrorInfo::new("E", "e").into())).unwrap();
        exchange(&mut a, &mut b);
        let order = a.events().into_iter().filter_map(|event| match event {
            Event::Ended { call, .. } => Some(call),
            _ => None,
        });
        assert_eq!(order.collect::<Vec<_>>(), calls);
        assert!(b.connection.is_idle() && b.connection.calls.gate_is_empty());
    }
}

#[test]
fn results_that_waited_leave_when_the_one_before_is_given_up() {
    let (mut a, mut b) = pair2(two(), two());
    let calls = [1, 2].map(|_| {
        let key = OrderingKey::text("k");
        a.connection.invoke(a.now, Call { key, ..new_call("m", "") }).unwrap()
    });
    exchange(&mut a, &mut b);
    let requests = [request(&mut b), request(&mut b)];
    b.connection.reply(requests[0].id, Reply::result(body(3 << 20))).unwrap();
    b.connection.reply(requests[1].id, ok("second")).unwrap();
    exchange(&mut a, &mut b);
    assert!(matches!(a.events()[..], [Event::Response { .. }]));
    a.connection.abandon(calls[0]);
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(calls[1], Outcome::Result("second".into()))]);
}

#[test]
fn the_end_of_a_cancelled_result_leaves_before_the_next_of_its_key() {
    let k = || OrderingKey::text("k");
    for (cancelled_first, writes) in [(false, false), (false, true), (true, false)] {
        let mut side = binder(two());
        let keyed = |call| {
            let (key, options) = (k(), Options::default());
            Record::Open { call, method: "m".into(), key, options, piece: whole("") }
        };
        side.hear_records(&[keyed(0), keyed(2)]);
        let requests = [request(&mut side).id, request(&mut side).id];
        side.sent();
        let cancel = [Record::Cancel { call: 0 }];
        if cancelled_first {
            side.hear_records(&cancel);
        }
        side.connection.begin_reply(requests[0], false, Metadata::new(), None).unwrap();
        if writes {
            side.write(StreamId::Request(requests[0]), "of no use").unwrap();
        }
        if !cancelled_first {
            side.hear_records(&cancel);
        }
        // The next one is sent as soon as the first has ended.
        side.connection.reply(requests[1], ok("second")).unwrap();
        let answers = |side: &mut Side| {
            let mut records = side.sent_records();
            records.retain(|record| matches!(record, Record::Result { .. } | Record::Fail { .. }));
            records
        };
        assert_eq!(answers(&mut side), []);
        side.connection.reply(requests[0], Reply::Cancelled).unwrap();
        let left = answers(&mut side);
        let [Record::Fail { call: 0, failure: Failure::Cancelled, .. }, Record::Result { call: 2, .. }] =
            &left[..]
        else {
            panic!("{left:?}");
        };
        assert!(side.connection.is_idle(), "{:?}", side.connection);
    }
}

#[test]
fn what_is_refused_does_not_wait_for_a_result_of_its_key() {
    let mut side = binder(ConnectionConfig { max_requests: 2, ..two() });
    let keyed = |call| Record::Open {
        call,
        method: "m".into(),
        key: OrderingKey::text("k"),
        options: Options::default(),
        piece: whole(""),
    };
    side.hear_records(&[keyed(0), keyed(2), keyed(4)]);
    side.connection.begin_reply(incoming(0), false, Metadata::new(), None).unwrap();
    side.write(StreamId::Request(incoming(0)), "it goes on").unwrap();
    side.decide(ConnectionEvent::Refuse { request: incoming(2), reason: busy() });
    let refused: Vec<u64> = side
        .sent_records()
        .iter()
        .filter_map(|record| match record {
            Record::Fail { call, failure: Failure::Error(info), .. } if &*info.name == "Busy" => Some(*call),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [4, 2]);
}
