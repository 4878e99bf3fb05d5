//! What is sent first: small calls, then streams by urgency.

use super::*;

#[test]
fn small_calls_overtake_bodies_under_way() {
    let (mut a, _) = pair2(two(), two());
    a.connection.invoke(a.now, new_call("large", body(5 << 20))).unwrap();
    let first = a.connection.poll_message(a.now).unwrap();
    assert!(first.size() > MAX_FIRST);
    let second = a.connection.poll_message(a.now).unwrap();
    // With the head of its frame, it fits into one loopback segment.
    assert!((60_000..=65_483 - 9).contains(&second.size()), "{}", second.size());
    a.invoke("small");
    let records = a.sent_records();
    assert!(matches!(&records[0], Record::Open { method, .. } if &**method == "small"));
    assert!(matches!(records[1], Record::Data { .. }), "and share the packet with them");
}

/// The calls of the first DATA records, for bodies of these urgencies with unlimited credit.
fn first_turns(urgencies: &[u8], records: usize) -> Vec<usize> {
    let (mut a, _) = pair2(two(), two());
    for urgency in urgencies {
        a.connection
            .invoke(a.now, Call { urgency: Urgency::new(*urgency).unwrap(), ..new_call("m", body(4 << 20)) })
            .unwrap();
    }
    a.connection.calls.flow().peer_limit = 1 << 30;
    let mut turns = vec![0; urgencies.len()];
    while let Some(packet) = a.connection.poll_message(a.now) {
        let packet = packet.into_one().unwrap();
        for record in crate::wire::dialect2::records(&packet).unwrap() {
            match record.unwrap() {
                Record::Open { call, .. } => {
                    let id = StreamId::Call(a.connection.calls.numbers().call(call).unwrap().unwrap());
                    a.connection.calls.set_stream_limit(id, 1 << 30);
                }
                Record::Data { call, .. } => turns[call as usize / 2] += 1,
                other => panic!("{other:?}"),
            }
        }
        if turns.iter().sum::<usize>() >= records {
            break;
        }
    }
    turns
}

#[test]
fn bodies_of_the_same_urgency_take_turns_and_less_urgent_ones_do_not_starve() {
    let turns = first_turns(&[3, 3, 7], 73);
    // A quantum has 16 records.
    assert!(turns[0].abs_diff(turns[1]) <= 16 && turns[2] == 9, "{turns:?}");
    let turns = first_turns(&[0, 3, 5, 7], 48);
    assert!(turns[1..].iter().all(|turns| *turns == 2), "{turns:?}");
}

#[test]
fn small_calls_overtake_a_body_but_for_its_share() {
    for len in [64, 5_000] {
        let (mut a, _) = pair2(two(), two());
        a.connection.invoke(a.now, new_call("m", body(200 << 10))).unwrap();
        assert!(a.sent_records().len() > 1, "it has begun, and used up its credit");
        let StreamId::Call(call) = a.invoke_streamed() else { unreachable!("it is ours") };
        a.write(StreamId::Call(call), body(200 << 10)).unwrap();
        for _ in 0..(400 << 10) / len {
            a.connection.invoke(a.now, new_call("m", body(len))).unwrap();
        }
        // Bytes of small calls before each DATA.
        let (mut since, mut before) = (0, Vec::new());
        while let Some(packet) = a.connection.poll_message(a.now) {
            let packet = packet.into_one().unwrap();
            for record in crate::wire::dialect2::records(&packet).unwrap() {
                match record.unwrap() {
                    Record::Data { .. } => before.push(std::mem::take(&mut since)),
                    _ => since += len,
                }
            }
        }
        let shares = before.iter().filter(|bytes| (32 << 10..96 << 10).contains(*bytes)).count();
        assert!(shares >= 3 && before.iter().all(|bytes| *bytes < 96 << 10), "{before:?}");
    }
}

/// Each call fills a packet, and there is never more than one: the stream gets its share nevertheless.
#[test]
fn calls_that_come_one_by_one_do_not_starve_a_body() {
    let (mut a, _) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.sent();
    a.write(up, body(200 << 10)).unwrap();
    let (mut sent, mut calls) = (0, 0);
    while sent < 128 << 10 {
        a.connection.invoke(a.now, new_call("m", body(6_000))).unwrap();
        calls += 1;
        let packet = a.connection.poll_message(a.now).unwrap().into_one().unwrap();
        for record in crate::wire::dialect2::records(&packet).unwrap() {
            if let Record::Data { piece, .. } = record.unwrap() {
                sent += piece.bytes.len();
            }
        }
        assert!(calls * 6_000 < 256 << 10, "{sent} bytes of data");
    }
}
