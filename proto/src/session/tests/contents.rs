//! Bodies in chunks, streams, credit.

use super::dialect2::{binder, open, pair2, part, request, two, whole};
use super::*;
use crate::wire::dialect2::{Failure, MAX_CHUNK, MAX_FIRST, MAX_TEXTS, Options, Piece, RECORD_COST, Record};

fn body(len: usize) -> Bytes {
    (0..len).map(|n| (n / 7) as u8).collect::<Vec<_>>().into()
}

pub(super) fn data(call: u64, offset: u64, content: Piece) -> Record {
    Record::Data { call, offset, content }
}

impl Side {
    fn read(&mut self, id: ExchangeId) -> Result<Read, ContentError> {
        self.session.contents().read(self.now, id)
    }

    /// All that can be read now, and whether that was the end.
    fn read_all(&mut self, id: ExchangeId) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        loop {
            match self.read(id).unwrap() {
                Read::Chunk(chunk) => all.extend_from_slice(&chunk.bytes),
                Read::End => return (all, true),
                Read::Pending => return (all, false),
            }
        }
    }

    fn write(&mut self, id: ExchangeId, bytes: impl Into<Bytes>) -> Result<(), WriteError> {
        self.session.contents().write(id, bytes.into(), true)
    }

    fn collect(&mut self, id: ExchangeId) {
        self.session.contents().collect(self.now, id).unwrap();
    }

    fn collected(&mut self) -> Result<Bytes, ContentError> {
        let events = self.events();
        let found = events.into_iter().find_map(|event| match event {
            Event::Collected { body, .. } => Some(body),
            _ => None,
        });
        found.expect("a body is complete")
    }

    fn invoke_streamed(&mut self) -> ExchangeId {
        let call = Call { streamed: true, ..Call::new("m", "") };
        ExchangeId::Ours(self.session.invoke(self.now, call).unwrap())
    }
}

fn theirs(request: &Request) -> ExchangeId {
    ExchangeId::Theirs(request.id)
}

/// Moves everything, and has `b` put together whatever comes.
fn exchange_collecting(a: &mut Side, b: &mut Side) -> Vec<Event> {
    exchange(a, b);
    let mut all = Vec::new();
    loop {
        let events = b.events();
        if events.is_empty() {
            return all;
        }
        for event in &events {
            match event {
                Event::Request(request) if matches!(request.body, Body::Streamed { .. }) => {
                    b.collect(theirs(request));
                }
                Event::Response { call, .. } => b.collect(ExchangeId::Ours(*call)),
                _ => {}
            }
        }
        all.extend(events);
        exchange(a, b);
    }
}

#[test]
fn a_body_is_one_record_up_to_a_size_and_chunks_past_it() {
    for (len, chunked) in [(MAX_FIRST, false), (MAX_FIRST + 1, true), (3 << 20, true)] {
        let (mut a, mut b) = pair2(two(), two());
        let id = a.session.invoke(a.now, Call::new("m", body(len))).unwrap();
        let events = exchange_collecting(&mut a, &mut b);
        let Event::Request(request) = &events[0] else { panic!("{events:?}") };
        if chunked {
            assert!(matches!(request.body, Body::Streamed { size: Some(size), .. } if size == len as u64));
            let collected = Event::Collected { exchange: theirs(request), body: Ok(body(len)) };
            assert_eq!(events[1..], [collected]);
        } else {
            assert_eq!(request.body, Body::Whole(body(len)));
        }
        b.session.reply(request.id, Reply::result(body(len))).unwrap();
        let events = exchange_collecting(&mut b, &mut a);
        let last = events.last().unwrap();
        if chunked {
            let size = Some(len as u64);
            assert_eq!(events[0], Event::Response { call: id, metadata: Metadata::new(), size });
            let collected = Event::Collected { exchange: ExchangeId::Ours(id), body: Ok(body(len)) };
            // It may have come as a whole before anybody asked.
            assert!(events.len() == 3 && events.contains(&collected));
            assert!(events.contains(&ended(id, Outcome::Complete)));
        } else {
            assert_eq!(last, &ended(id, Outcome::Result(body(len))));
        }
        for side in [&a, &b] {
            assert!(side.session.is_idle(), "{:?}", side.session);
            assert_eq!((side.session.queued_bytes(), side.session.held_bytes()), (0, 0));
        }
    }
}

#[test]
fn small_calls_overtake_bodies_under_way() {
    let (mut a, _) = pair2(two(), two());
    a.session.invoke(a.now, Call::new("large", body(5 << 20))).unwrap();
    let first = a.session.poll_transmit(a.now).unwrap();
    assert!(first.size() > MAX_FIRST);
    let second = a.session.poll_transmit(a.now).unwrap();
    assert!(second.size() > MAX_CHUNK);
    a.invoke("small");
    let records = a.sent_records();
    assert!(matches!(&records[0], Record::Open { method, .. } if &**method == "small"));
    assert!(matches!(records[1], Record::Data { .. }), "and share the packet with them");
}

/// Of which calls the first records of content are, of bodies of these urgencies that have all the credit that they want.
fn first_turns(urgencies: &[u8], records: usize) -> Vec<usize> {
    let (mut a, _) = pair2(two(), two());
    for urgency in urgencies {
        a.session.invoke(a.now, Call { urgency: *urgency, ..Call::new("m", body(4 << 20)) }).unwrap();
    }
    a.session.exchanges.link_limit = 1 << 30;
    let mut turns = vec![0; urgencies.len()];
    while let Some(packet) = a.session.poll_transmit(a.now) {
        let packet = packet.into_one().unwrap();
        for record in crate::wire::dialect2::records(&packet).unwrap() {
            match record.unwrap() {
                Record::Open { call, .. } => {
                    let id = a.session.exchanges.find(call).unwrap();
                    let send = a.session.exchanges.get_mut(id).unwrap().send.as_mut().unwrap();
                    send.set_limit(1 << 30);
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
    assert_eq!(first_turns(&[3, 3, 7], 73), [32, 32, 9]);
    let turns = first_turns(&[0, 3, 5, 7], 48);
    assert!(turns[1..].iter().all(|turns| *turns == 2), "{turns:?}");
}

#[test]
fn small_calls_overtake_a_body_but_for_its_share() {
    for len in [64, 5_000] {
        let (mut a, _) = pair2(two(), two());
        a.session.invoke(a.now, Call::new("m", body(200 << 10))).unwrap();
        assert!(a.sent_records().len() > 1, "it has begun, and used up its credit");
        let ExchangeId::Ours(call) = a.invoke_streamed() else { unreachable!("it is ours") };
        a.write(ExchangeId::Ours(call), body(200 << 10)).unwrap();
        for _ in 0..(400 << 10) / len {
            a.session.invoke(a.now, Call::new("m", body(len))).unwrap();
        }
        // Bytes of small calls before each chunk.
        let (mut since, mut before) = (0, Vec::new());
        while let Some(packet) = a.session.poll_transmit(a.now) {
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

/// Each call closes its packet, and there is never more than one: the content has its turn all the same.
#[test]
fn calls_that_come_one_by_one_do_not_starve_a_body() {
    let (mut a, _) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.sent();
    a.write(up, body(200 << 10)).unwrap();
    let (mut content, mut calls) = (0, 0);
    while content < 128 << 10 {
        a.session.invoke(a.now, Call::new("m", body(6_000))).unwrap();
        calls += 1;
        let packet = a.session.poll_transmit(a.now).unwrap().into_one().unwrap();
        for record in crate::wire::dialect2::records(&packet).unwrap() {
            if let Record::Data { content: piece, .. } = record.unwrap() {
                content += piece.bytes.len();
            }
        }
        assert!(calls * 6_000 < 256 << 10, "{content} bytes of content");
    }
}

#[test]
fn no_more_leaves_than_the_peer_gives_credit_for() {
    let config = SessionConfig { stream_window: 100_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    a.session.invoke(a.now, Call::new("m", body(1 << 20))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    assert!(matches!(request.body, Body::Streamed { held, .. } if held == 100_000 + MAX_FIRST));
    let held = b.session.held_bytes();
    assert!(held <= 100_000 && held > 100_000 - RECORD_COST, "{held}");
    exchange(&mut a, &mut b);
    assert_eq!(b.session.held_bytes(), held, "nothing was read");
    let (read, end) = b.read_all(theirs(&request));
    assert_eq!((read.len(), end), (MAX_FIRST + held as usize - 2 * RECORD_COST as usize, false));
    exchange(&mut a, &mut b);
    assert!(b.session.held_bytes() > 60_000, "then more comes");
}

#[test]
fn the_link_as_a_whole_has_credit_too() {
    let config = SessionConfig { link_window: 300_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    for _ in 0..4 {
        a.session.invoke(a.now, Call::new("m", body(1 << 20))).unwrap();
    }
    exchange(&mut a, &mut b);
    let requests = [request(&mut b), request(&mut b), request(&mut b), request(&mut b)];
    let held = b.session.held_bytes();
    assert!((300_000 - RECORD_COST..=300_000).contains(&held), "{held}");
    // A small call needs no credit.
    a.invoke("small");
    exchange(&mut a, &mut b);
    assert!(
        b.events()
            .iter()
            .any(|event| matches!(event, Event::Request(request) if &*request.method == "small"))
    );
    for request in &requests {
        b.collect(theirs(request));
    }
    exchange(&mut a, &mut b);
    for _ in requests {
        assert_eq!(b.session.held_bytes(), 0);
    }
    let done =
        b.events().into_iter().filter(|event| matches!(event, Event::Collected { body: Ok(_), .. })).count();
    assert_eq!(done, 4);
}

#[test]
fn contents_that_nobody_reads_hold_up_no_other_while_there_is_room() {
    let config = SessionConfig { stream_window: 80_000, link_window: 100_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    let unread = a.session.invoke(a.now, Call::new("unread", body(1 << 20))).unwrap();
    exchange(&mut a, &mut b);
    let _ = request(&mut b);
    assert!(b.session.held_bytes() > 79_000);
    for _ in 0..3 {
        a.session.invoke(a.now, Call::new("read", body(200_000))).unwrap();
        exchange(&mut a, &mut b);
        let read = request(&mut b);
        b.collect(theirs(&read));
        exchange(&mut a, &mut b);
        assert_eq!(b.collected(), Ok(body(200_000)));
        b.session.reply(read.id, ok("1")).unwrap();
        exchange(&mut a, &mut b);
    }
    a.session.abandon(unread);
}

#[test]
fn streams_go_both_ways_at_once_and_end_one_by_one() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.write(up, "one").unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    assert_eq!(request.body, Body::Streamed { size: None, held: (256 << 10) + MAX_FIRST });
    let id = theirs(&request);
    let chunk = |text: &'static str| Read::Chunk(Chunk { bytes: text.into(), end_of_item: true });
    assert_eq!(b.read(id), Ok(chunk("one")));
    assert_eq!(b.read(id), Ok(Read::Pending));
    b.session.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.write(id, "eins").unwrap();
    a.write(up, "two").unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(b.events(), [Event::Readable(id)]);
    assert_eq!((b.read(id), b.read(id)), (Ok(chunk("two")), Ok(Read::Pending)));
    let ExchangeId::Ours(call) = up else { unreachable!() };
    assert_eq!(a.events(), [Event::Response { call, metadata: Metadata::new(), size: None }]);
    assert_eq!((a.read(up), a.read(up)), (Ok(chunk("eins")), Ok(Read::Pending)));
    a.session.contents().finish(up).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!((b.events(), b.read(id)), (vec![Event::Readable(id)], Ok(Read::End)));
    b.write(id, "zwei").unwrap();
    b.session.reply(request.id, Reply::End).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Readable(up), ended(call, Outcome::Complete)]);
    assert_eq!((a.read(up), a.read(up)), (Ok(chunk("zwei")), Ok(Read::End)));
    assert_eq!(a.read(up), Err(ContentError::NotOpen));
    exchange(&mut a, &mut b);
    assert!(a.session.is_idle() && b.session.is_idle());
}

#[test]
fn a_writer_learns_what_its_reader_has_taken() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.write(up, body(200_000)).unwrap();
    a.session.contents().finish(up).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    let acknowledged = |a: &mut Side| a.session.contents().acknowledged(up).unwrap();
    assert_eq!(acknowledged(&mut a), Acknowledged { written: 200_000, consumed: 0 });
    a.events();
    let Ok(Read::Chunk(_)) = b.read(theirs(&request)) else { panic!("a chunk") };
    let Ok(Read::Chunk(_)) = b.read(theirs(&request)) else { panic!("a chunk") };
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up)]);
    let some = acknowledged(&mut a).consumed;
    assert!(some > 60_000 && some < 200_000, "{some}");
    assert!(b.read_all(theirs(&request)).1);
    exchange(&mut a, &mut b);
    assert_eq!(acknowledged(&mut a), Acknowledged { written: 200_000, consumed: 200_000 });
}

#[test]
fn a_writer_learns_once_that_all_was_taken() {
    for collect in [false, true] {
        let (mut a, mut b) = pair2(two(), two());
        let up = a.invoke_streamed();
        a.write(up, body(20_000)).unwrap();
        a.session.contents().finish(up).unwrap();
        exchange(&mut a, &mut b);
        let request = request(&mut b);
        if collect {
            b.collect(theirs(&request));
        } else {
            assert!(b.read_all(theirs(&request)).1 && b.read_all(theirs(&request)).1);
        }
        let said = b.sent();
        assert_eq!(said.len(), 1);
        said.into_iter().for_each(|packet| a.hear(packet));
        let acknowledged = Acknowledged { written: 20_000, consumed: 20_000 };
        assert_eq!(a.session.contents().acknowledged(up), Ok(acknowledged));
        if !collect {
            assert_eq!(b.read(theirs(&request)), Ok(Read::End));
            assert_eq!(b.sent_records(), []);
        }
    }
}

#[test]
fn what_a_call_begins_with_counts_as_written_before_it_leaves() {
    let (mut a, mut b) = pair2(two(), two());
    let call = Call { streamed: true, ..Call::new("m", body(20_000)) };
    let up = ExchangeId::Ours(a.session.invoke(a.now, call).unwrap());
    let written = |a: &mut Side| a.session.contents().acknowledged(up).unwrap().written;
    assert_eq!(written(&mut a), 20_000);
    a.write(up, "more").unwrap();
    assert_eq!(written(&mut a), 20_004);
    exchange(&mut a, &mut b);
    assert_eq!(written(&mut a), 20_004);
}

#[test]
fn a_writer_is_held_up_at_its_buffer_and_told_when_there_is_room() {
    let config = SessionConfig { stream_buffer: 1_000, ..two() };
    let (mut a, mut b) = pair2(config, two());
    let up = a.invoke_streamed();
    a.write(up, body(999)).unwrap();
    assert_eq!(a.session.contents().room(up), Ok(1));
    a.write(up, body(5_000)).unwrap();
    assert_eq!(a.session.contents().room(up), Ok(0));
    assert_eq!(a.write(up, "x"), Err(WriteError::Full));
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up)]);
    assert_eq!(a.session.contents().room(up), Ok(1_000));
}

#[test]
fn what_the_reader_does_not_want_is_not_sent() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.write(up, body(1 << 20)).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.session.contents().stop(theirs(&request));
    assert_eq!(b.read(theirs(&request)), Err(ContentError::NotOpen));
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up)]);
    assert_eq!(a.write(up, "x"), Err(WriteError::Stopped));
    assert_eq!((b.session.held_bytes(), a.sent()), (0, vec![]));
    b.session.reply(request.id, ok("enough")).unwrap();
    exchange(&mut a, &mut b);
    assert!(matches!(a.events()[..], [Event::Ended { outcome: Outcome::Result(_), .. }]));
    assert!(a.session.is_idle() && b.session.is_idle());
}

#[test]
fn a_result_ends_the_argument() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.session.reply(request.id, Reply::result(body(100_000))).unwrap();
    a.write(up, body(300_000)).unwrap();
    let events = exchange_collecting(&mut b, &mut a);
    assert!(events.iter().any(|event| matches!(event, Event::Collected { body: Ok(_), .. })), "{events:?}");
    assert_eq!(a.write(up, "x"), Err(WriteError::NotOpen));
    exchange(&mut a, &mut b);
    assert!(a.session.is_idle() && b.session.is_idle());
    assert_eq!(b.session.held_bytes(), 0);
}

/// A call whose handler has finished its result, "done", and reads on.
fn half_closed() -> (Side, Side, ExchangeId, IncomingId) {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.write(up, "some").unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    let id = theirs(&request);
    assert_eq!(b.read_all(id), (b"some".to_vec(), false));
    b.session.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.write(id, "done").unwrap();
    b.session.contents().finish(id).unwrap();
    exchange(&mut a, &mut b);
    assert!(matches!(a.events()[..], [Event::Response { .. }, ..]));
    (a, b, up, request.id)
}

fn assert_idle(a: &mut Side, b: &mut Side) {
    exchange(a, b);
    exchange(b, a);
    assert!(a.session.is_idle() && b.session.is_idle());
}

fn call_of(up: ExchangeId) -> CallId {
    let ExchangeId::Ours(call) = up else { unreachable!("it is ours") };
    call
}

#[test]
fn a_handler_reads_on_when_its_result_is_complete() {
    for read_first in [true, false] {
        let (mut a, mut b, up, incoming) = half_closed();
        let id = ExchangeId::Theirs(incoming);
        let read = |a: &mut Side| assert_eq!(a.read_all(up), (b"done".to_vec(), true));
        if read_first {
            read(&mut a);
        }
        // More than a window.
        let rest = body(600_000);
        for part in rest.chunks(100_000) {
            a.write(up, Bytes::copy_from_slice(part)).unwrap();
            exchange(&mut a, &mut b);
            assert_eq!(b.read_all(id), (part.to_vec(), false));
            exchange(&mut a, &mut b);
        }
        assert!(!a.events().iter().any(|event| matches!(event, Event::Ended { .. })));
        assert!(!a.session.is_idle());
        a.session.contents().finish(up).unwrap();
        exchange(&mut a, &mut b);
        assert_eq!(b.read_all(id), (vec![], true));
        assert!(a.events().contains(&ended(call_of(up), Outcome::Complete)));
        if !read_first {
            read(&mut a);
        }
        b.session.reply(incoming, Reply::End).unwrap();
        exchange(&mut a, &mut b);
        assert!(a.session.is_idle() && b.session.is_idle());
        assert_eq!((a.session.held_bytes(), b.session.held_bytes()), (0, 0));
        assert!(!b.events().iter().any(|event| matches!(event, Event::CancelRequested(_))));
    }
}

#[test]
fn a_call_whose_result_is_complete_ends_in_all_ways() {
    // The handler ends, and reads no more.
    let (mut a, mut b, up, incoming) = half_closed();
    b.session.reply(incoming, Reply::End).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up), ended(call_of(up), Outcome::Complete)]);
    assert_eq!(a.write(up, "more"), Err(WriteError::Stopped));
    assert_eq!(a.read_all(up), (b"done".to_vec(), true), "it stays readable");
    assert_eq!(a.write(up, "more"), Err(WriteError::NotOpen));
    assert_idle(&mut a, &mut b);

    // It fails after all.
    let (mut a, mut b, up, incoming) = half_closed();
    let info = ErrorInfo::new("Disk", "full");
    b.session.reply(incoming, Reply::Failure(info.clone())).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(call_of(up), Outcome::Failure(info))]);
    assert_idle(&mut a, &mut b);

    // The argument is given up.
    let (mut a, mut b, up, incoming) = half_closed();
    a.session.contents().abort(call_of(up));
    assert_eq!(a.events(), [ended(call_of(up), Outcome::Complete)]);
    exchange(&mut a, &mut b);
    assert_eq!(b.read(ExchangeId::Theirs(incoming)), Err(ContentError::Aborted));
    b.session.reply(incoming, Reply::End).unwrap();
    assert_eq!(a.read_all(up), (b"done".to_vec(), true));
    assert_idle(&mut a, &mut b);

    // The caller is gone, and does not even read the result.
    let (mut a, mut b, up, incoming) = half_closed();
    assert!(a.session.abandon(call_of(up)));
    exchange(&mut a, &mut b);
    assert!(b.events().contains(&Event::CancelRequested(incoming)));
    b.session.reply(incoming, Reply::Cancelled).unwrap();
    assert_idle(&mut a, &mut b);
    assert_eq!(a.session.held_bytes(), 0);

    // It has read it, and finished its argument, which has not left: that is not cut off.
    let (mut a, mut b, up, incoming) = half_closed();
    assert_eq!(a.read_all(up), (b"done".to_vec(), true));
    a.write(up, body(500_000)).unwrap();
    a.session.contents().finish(up).unwrap();
    exchange(&mut a, &mut b);
    assert!(!a.session.abandon(call_of(up)) && !a.session.is_idle());
    let (mut all, mut end) = (0, false);
    while !end {
        let (more, ended) = b.read_all(ExchangeId::Theirs(incoming));
        (all, end) = (all + more.len(), ended);
        exchange(&mut a, &mut b);
    }
    assert_eq!(all, 500_000);
    assert!(a.events().contains(&ended(call_of(up), Outcome::Complete)));
    b.session.reply(incoming, Reply::End).unwrap();
    assert_idle(&mut a, &mut b);

    // The link ends before the argument has left.
    let (mut a, _b, up, _) = half_closed();
    a.session.close(CloseCause::LinkLost);
    assert!(
        a.events()
            .iter()
            .any(|event| matches!(event, Event::Ended { outcome: Outcome::Disconnected { .. }, .. }))
    );
    assert_eq!(a.read(up), Err(ContentError::NotOpen));
}

#[test]
fn a_body_that_was_given_as_a_whole_ends_with_its_result() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.session.invoke(a.now, Call::new("m", body(600_000))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.session.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.session.contents().finish(theirs(&request)).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events().last(), Some(&ended(call, Outcome::Complete)));
    let mut last = b.read(theirs(&request));
    while let Ok(Read::Chunk(_)) = last {
        last = b.read(theirs(&request));
    }
    assert_eq!(last, Err(ContentError::Aborted), "the handler learns that it is incomplete");
    b.session.reply(request.id, Reply::End).unwrap();
    assert_eq!(a.read_all(ExchangeId::Ours(call)), (vec![], true));
    assert_idle(&mut a, &mut b);
}

#[test]
fn whoever_refuses_an_argument_and_goes_on_tells_its_writer() {
    let (mut a, mut b) = pair2(two(), SessionConfig { max_body: 1_000, ..two() });
    let up = a.invoke_streamed();
    a.write(up, body(2_000)).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.session.contents().collect(b.now, theirs(&request)).unwrap();
    exchange(&mut a, &mut b);
    assert!(b.events().iter().any(|event| matches!(event, Event::Collected { body: Err(_), .. })));
    b.session.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.session.reply(request.id, Reply::End).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.write(up, "more"), Err(WriteError::Stopped));
    assert!(a.events().contains(&ended(call_of(up), Outcome::Complete)));
    assert_eq!(a.read_all(up), (vec![], true));
    assert_idle(&mut a, &mut b);
}

#[test]
fn an_argument_that_can_not_be_completed_is_no_argument() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    let ExchangeId::Ours(call) = up else { unreachable!() };
    a.write(up, "half").unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    a.session.contents().abort(call);
    exchange(&mut a, &mut b);
    assert_eq!(b.read(theirs(&request)), Err(ContentError::Aborted));
    assert_eq!(b.events(), []);
    b.session.reply(request.id, Reply::Cancelled).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(call, Outcome::Cancelled)]);
    // Given up before it has left.
    let up = a.invoke_streamed();
    let ExchangeId::Ours(call) = up else { unreachable!() };
    a.session.contents().abort(call);
    exchange(&mut a, &mut b);
    let request = super::dialect2::request(&mut b);
    assert_eq!(b.read(theirs(&request)), Err(ContentError::Aborted));
}

#[test]
fn a_result_may_fail_when_it_has_begun() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.session.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    assert_eq!(
        b.session.begin_reply(request.id, false, Metadata::new(), None),
        Err(ReplyError::AlreadyBegun)
    );
    b.write(theirs(&request), body(100_000)).unwrap();
    exchange(&mut a, &mut b);
    let info = ErrorInfo::new("Disk", "full");
    b.session.reply(request.id, Reply::Failure(info.clone())).unwrap();
    exchange(&mut a, &mut b);
    let events = a.events();
    assert_eq!(events.last(), Some(&ended(call, Outcome::Failure(info))));
    assert_eq!(a.read(ExchangeId::Ours(call)), Err(ContentError::NotOpen));
    assert_eq!((a.session.held_bytes(), a.session.is_idle(), b.session.is_idle()), (0, true, true));
}

#[test]
fn a_whole_result_can_not_follow_one_that_has_begun() {
    let (mut a, mut b) = pair2(two(), two());
    a.invoke("m");
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.session.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    assert_eq!(b.session.reply(request.id, ok("whole")), Err(ReplyError::AlreadyBegun));
    exchange(&mut a, &mut b);
    assert!(matches!(a.events().last(), Some(Event::Ended { outcome: Outcome::Error(_), .. })));
}

#[test]
fn a_streamed_result_needs_dialect_2() {
    let mut side = Side::established(config());
    let id = side.asked(1);
    let result = side.session.begin_reply(id, false, Metadata::new(), None);
    assert_eq!(result, Err(ReplyError::NeedsDialect2));
    let [(1, Payload::Error(info))] = &side.said()[..] else { panic!("an ERROR") };
    assert_eq!(Refusal::of(info), Some(Refusal::Unsupported));
    assert!(Refusal::Unsupported.may_have_run(), "its handler has run");
}

#[test]
fn cancelling_lets_go_of_everything_on_both_sides() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    let ExchangeId::Ours(call) = up else { unreachable!() };
    a.write(up, body(1 << 20)).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.session.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.write(theirs(&request), body(1 << 20)).unwrap();
    exchange(&mut a, &mut b);
    assert!(a.session.held_bytes() > 0 && b.session.held_bytes() > 0);
    assert!(a.session.abandon(call));
    exchange(&mut a, &mut b);
    assert!(b.events().contains(&Event::CancelRequested(request.id)));
    b.session.reply(request.id, Reply::Cancelled).unwrap();
    exchange(&mut a, &mut b);
    assert!(a.session.is_idle() && b.session.is_idle());
    assert_eq!((a.session.held_bytes(), b.session.held_bytes()), (0, 0));
}

#[test]
fn whoever_writes_a_result_that_nobody_waits_for_is_told() {
    for begun in [false, true] {
        let (mut a, mut b) = pair2(two(), SessionConfig { stream_buffer: 1, ..two() });
        let call = a.invoke("m");
        exchange(&mut a, &mut b);
        let request = request(&mut b);
        let id = theirs(&request);
        let begin = |b: &mut Side| b.session.begin_reply(request.id, false, Metadata::new(), None);
        if begun {
            begin(&mut b).unwrap();
            b.write(id, body(1 << 20)).unwrap();
            assert_eq!(b.session.contents().room(id), Ok(0));
        }
        a.session.abandon(call);
        exchange(&mut a, &mut b);
        let cancelled = Event::CancelRequested(request.id);
        if begun {
            assert_eq!(b.events(), [Event::Writable(id), cancelled]);
        } else {
            assert_eq!(b.events(), [cancelled]);
            begin(&mut b).unwrap();
        }
        assert_eq!(b.write(id, "more"), Err(WriteError::Stopped));
        b.session.reply(request.id, Reply::Failure(ErrorInfo::new("E", "e"))).unwrap();
        exchange(&mut a, &mut b);
        assert!(b.session.is_idle());
    }
}

#[test]
fn a_result_that_comes_after_the_cancellation_does_not_wait_for_credit() {
    for streamed in [false, true] {
        let (mut a, mut b) = pair2(two(), two());
        let key = OrderingKey::text("k");
        let [first, second] =
            [1, 2].map(|_| a.session.invoke(a.now, Call { key: key.clone(), ..call("m") }).unwrap());
        exchange(&mut a, &mut b);
        let requests = [request(&mut b), request(&mut b)];
        let id = theirs(&requests[0]);
        if streamed {
            b.session.begin_reply(requests[0].id, false, Metadata::new(), None).unwrap();
            b.session.contents().write(id, body(1 << 20), true).unwrap();
            exchange(&mut a, &mut b);
        }
        a.session.abandon(first);
        exchange(&mut a, &mut b);
        assert_eq!(b.events().last(), Some(&Event::CancelRequested(requests[0].id)));
        // It had ended by itself.
        let reply = if streamed { Reply::End } else { Reply::result(body(1 << 20)) };
        b.session.reply(requests[0].id, reply).unwrap();
        b.session.reply(requests[1].id, ok("2")).unwrap();
        exchange(&mut a, &mut b);
        assert_eq!(a.events().last(), Some(&ended(second, Outcome::Result("2".into()))));
        assert!(b.session.is_idle() && b.session.queued_bytes() == 0);
    }
}

#[test]
fn a_result_on_its_way_is_dropped_when_its_call_is_cancelled() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.session.reply(asked.id, Reply::result(body(5 << 20))).unwrap();
    exchange(&mut a, &mut b);
    a.session.abandon(call);
    exchange(&mut a, &mut b);
    assert!(a.session.is_idle() && b.session.is_idle());
    assert_eq!(b.session.queued_bytes(), 0);
    // Before any of it has left.
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    b.events();
    a.session.abandon(call);
    let cancel = a.sent();
    b.session.reply(IncomingId(asked.id.0 + 1), Reply::result(body(5 << 20))).unwrap();
    cancel.into_iter().for_each(|packet| b.hear(packet));
    assert_eq!(b.sent_records(), []);
    assert!(b.session.is_idle());
}

#[test]
fn results_of_one_key_leave_one_after_the_other() {
    let keyed = |ordered_replies| {
        let (mut a, mut b) = pair2(two(), SessionConfig { ordered_replies, ..two() });
        let k = || OrderingKey::text("k");
        let calls = [k(), k(), OrderingKey::none()]
            .map(|key| a.session.invoke(a.now, Call { key, ..Call::new("m", "") }).unwrap());
        exchange(&mut a, &mut b);
        let requests = [request(&mut b), request(&mut b), request(&mut b)];
        b.session.reply(requests[0].id, Reply::result(body(3 << 20))).unwrap();
        b.session.reply(requests[1].id, ok("second")).unwrap();
        b.session.reply(requests[2].id, ok("no key")).unwrap();
        let events = exchange_collecting(&mut b, &mut a);
        let order: Vec<CallId> = events
            .into_iter()
            .filter_map(|event| if let Event::Ended { call, .. } = event { Some(call) } else { None })
            .collect();
        assert!(b.session.is_idle(), "{:?}", b.session);
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
        a.session.invoke(a.now, Call { key, urgency, ..Call::new("m", "") }).unwrap()
    });
    exchange(&mut a, &mut b);
    let mut requests = [(); 4].map(|()| request(&mut b)).into_iter();
    let mut reply = |b: &mut Side, reply| b.session.reply(requests.next().unwrap().id, reply).unwrap();
    reply(&mut b, Reply::result(body(3 << 20)));
    reply(&mut b, Reply::Failure(ErrorInfo::new("E", "e")));
    reply(&mut b, ok("third"));
    exchange(&mut b, &mut a);
    // The one before it has been set aside by now.
    reply(&mut b, ok("fourth"));
    let events = exchange_collecting(&mut b, &mut a);
    let order: Vec<CallId> = events
        .into_iter()
        .filter_map(|event| if let Event::Ended { call, .. } = event { Some(call) } else { None })
        .collect();
    assert_eq!(order, calls);
    assert!(a.session.is_idle() && b.session.is_idle());
}

#[test]
fn a_result_that_fails_keeps_its_turn() {
    for has_begun in [false, true] {
        let (mut a, mut b) = pair2(two(), two());
        let calls = [3, 0].map(|urgency| {
            let key = OrderingKey::text("k");
            a.session.invoke(a.now, Call { key, urgency, ..Call::new("m", "") }).unwrap()
        });
        exchange(&mut a, &mut b);
        let requests = [request(&mut b), request(&mut b)];
        b.session.begin_reply(requests[0].id, false, Metadata::new(), None).unwrap();
        if has_begun {
            exchange(&mut a, &mut b);
        }
        b.session.reply(requests[1].id, ok("second")).unwrap();
        if has_begun {
            exchange(&mut a, &mut b);
        }
        b.session.reply(requests[0].id, Reply::Failure(ErrorInfo::new("E", "e"))).unwrap();
        exchange(&mut a, &mut b);
        let order = a.events().into_iter().filter_map(|event| match event {
            Event::Ended { call, .. } => Some(call),
            _ => None,
        });
        assert_eq!(order.collect::<Vec<_>>(), calls);
        assert!(b.session.is_idle() && b.session.leaving.is_empty());
    }
}

#[test]
fn results_that_waited_leave_when_the_one_before_is_given_up() {
    let (mut a, mut b) = pair2(two(), two());
    let calls = [1, 2].map(|_| {
        let key = OrderingKey::text("k");
        a.session.invoke(a.now, Call { key, ..Call::new("m", "") }).unwrap()
    });
    exchange(&mut a, &mut b);
    let requests = [request(&mut b), request(&mut b)];
    b.session.reply(requests[0].id, Reply::result(body(3 << 20))).unwrap();
    b.session.reply(requests[1].id, ok("second")).unwrap();
    exchange(&mut a, &mut b);
    assert!(matches!(a.events()[..], [Event::Response { .. }]));
    a.session.abandon(calls[0]);
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
            Record::Open { call, method: "m".into(), key, options, content: whole("") }
        };
        side.hear_records(&[keyed(0), keyed(2)]);
        let requests = [request(&mut side).id, request(&mut side).id];
        side.sent();
        let cancel = [Record::Cancel { call: 0 }];
        if cancelled_first {
            side.hear_records(&cancel);
        }
        side.session.begin_reply(requests[0], false, Metadata::new(), None).unwrap();
        if writes {
            side.write(ExchangeId::Theirs(requests[0]), "of no use").unwrap();
        }
        if !cancelled_first {
            side.hear_records(&cancel);
        }
        // It is the next one's turn, as soon as the first has ended.
        side.session.reply(requests[1], ok("second")).unwrap();
        let answers = |side: &mut Side| {
            let mut records = side.sent_records();
            records.retain(|record| matches!(record, Record::Result { .. } | Record::Fail { .. }));
            records
        };
        assert_eq!(answers(&mut side), []);
        side.session.reply(requests[0], Reply::Cancelled).unwrap();
        let left = answers(&mut side);
        let [Record::Fail { call: 0, failure: Failure::Cancelled, .. }, Record::Result { call: 2, .. }] =
            &left[..]
        else {
            panic!("{left:?}");
        };
        assert!(side.session.is_idle(), "{:?}", side.session);
    }
}

#[test]
fn what_the_peer_gets_wrong_with_an_argument_costs_only_that_call() {
    let size = |size| Options { size: Some(size), ..Options::default() };
    let sized = |options| Record::Open {
        call: 0,
        method: "m".into(),
        key: OrderingKey::none(),
        options,
        content: part("ab"),
    };
    let block = |len: usize| snap::raw::Encoder::new().compress_vec(&vec![0; len]).unwrap();
    let giant = Piece { compressed: true, ..part(&b"\xff\xff\xff\xff\x0f"[..]) };
    let oversize = Piece { compressed: true, ..part(block(MAX_CHUNK + 1)) };
    let fin = Piece { fin: true, ..part("c") };
    let cases = [
        (vec![open(0, part("ab")), data(0, 1, part("c"))], ContentFault::Overlap),
        (vec![open(0, part("ab")), data(0, 3, part("c"))], ContentFault::Gap),
        (vec![open(0, part("ab")), data(0, 2, fin.clone()), data(0, 3, part("d"))], ContentFault::PastEnd),
        (vec![open(0, part("ab")), data(0, 2, giant)], ContentFault::Snappy),
        (vec![open(0, part("ab")), data(0, 2, oversize)], ContentFault::Oversize),
        (vec![sized(size(2)), data(0, 2, part("c"))], ContentFault::Size),
        (vec![sized(size(4)), data(0, 2, fin)], ContentFault::Size),
        (vec![sized(size(1))], ContentFault::Size),
    ];
    for (records, fault) in cases {
        let mut side = binder(two());
        side.hear_records(&records);
        side.hear_records(&[open(2, whole("good"))]);
        let events = side.events();
        let asked = |call: &str| {
            let of = |event: &&Event| matches!(event, Event::Request(request) if format!("{:?}", request.id).contains(call));
            events.iter().find(of).is_some()
        };
        assert!(asked("(0)") && asked("(1)"), "{fault:?}: {events:?}");
        assert!(events.contains(&Event::Anomaly(Anomaly::Content(fault))), "{fault:?}: {events:?}");
        assert_eq!(side.read(ExchangeId::Theirs(IncomingId(0))), Err(ContentError::Fault(fault)));
        side.session.reply(IncomingId(0), Reply::Cancelled).unwrap();
        assert_eq!(side.session.held_bytes(), 0, "{fault:?}");
    }
}

#[test]
fn a_declared_size_holds_for_a_body_in_one_piece_too() {
    let options = |size| Options { size: Some(size), ..Options::default() };
    let sized = |call, size| Record::Open {
        call,
        method: "m".into(),
        key: OrderingKey::none(),
        options: options(size),
        content: whole("four"),
    };
    let mut side = binder(two());
    side.hear_records(&[sized(0, 5), sized(2, 3), sized(4, 4)]);
    let events = side.events();
    let faults =
        events.iter().filter(|event| **event == Event::Anomaly(Anomaly::Content(ContentFault::Size)));
    let requests = events.iter().filter(|event| matches!(event, Event::Request(_)));
    assert_eq!((faults.count(), requests.count()), (2, 1));
    let refused = |record: &Record| matches!(record, Record::Fail { failure: Failure::Error(info), .. } if &*info.name == "MalformedBody");
    assert_eq!(side.sent_records().iter().filter(|record| refused(record)).count(), 2);

    let mut side = binder(two());
    let ExchangeId::Ours(call) = side.invoke_streamed() else { unreachable!("it is ours") };
    side.sent();
    side.hear_records(&[Record::Result { call: 1, options: options(5), content: whole("four") }]);
    assert!(side.events().contains(&ended(call, Outcome::Fault(ContentFault::Size))));
    assert!(side.session.is_idle() || !side.sent().is_empty(), "the peer is told");
}

#[test]
fn content_after_a_whole_body_is_reported() {
    let mut side = binder(two());
    side.hear_records(&[open(0, whole("all")), data(0, 3, part("more"))]);
    let events = side.events();
    assert!(matches!(events[0], Event::Request(_)), "{events:?}");
    assert_eq!(events[1..], [Event::Anomaly(Anomaly::Content(ContentFault::PastEnd))]);
    assert_eq!(side.session.held_bytes(), 0);
}

#[test]
fn texts_of_an_error_have_a_limit() {
    for (size, fits) in [(MAX_TEXTS - 1, true), (MAX_TEXTS, false)] {
        let mut side = binder(two());
        let ExchangeId::Ours(call) = side.invoke_streamed() else { unreachable!("it is ours") };
        side.sent();
        let info = ErrorInfo::new("E", "x".repeat(size));
        let failure = Failure::Failure(info.clone());
        side.hear_records(&[Record::Fail { call: 1, failure, options: Options::default() }]);
        let too_large =
            DecodeError::TooLarge { what: "the texts of an error", size: size + 1, limit: MAX_TEXTS };
        let outcome = if fits { Outcome::Failure(info) } else { Outcome::Malformed(too_large) };
        assert_eq!(side.events(), [ended(call, outcome)]);
    }
}

#[test]
fn a_stream_begins_with_any_piece_whatever_the_limit_of_bodies() {
    let mut side = binder(SessionConfig { max_body: 10, ..two() });
    side.hear_records(&[open(0, part("more than ten bytes"))]);
    assert!(matches!(side.events()[..], [Event::Request(_)]));
    assert_eq!(side.read_all(ExchangeId::Theirs(IncomingId(0))), (b"more than ten bytes".to_vec(), false));
}

#[test]
fn an_argument_whose_call_is_cancelled_holds_no_credit() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.session.invoke(a.now, Call::new("m", body(400_000))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    assert!(b.session.held_bytes() > 250_000);
    a.session.abandon(call);
    exchange(&mut a, &mut b);
    assert_eq!(b.session.held_bytes(), 0, "though it is not answered yet");
    assert_eq!(b.read(theirs(&request)), Err(ContentError::Aborted));
    // Its answer is short, and there is one.
    b.session.reply(request.id, Reply::result(body(100_000))).unwrap();
    let cancelled = |record: &Record| matches!(record, Record::Fail { failure: Failure::Cancelled, .. });
    assert!(b.sent_records().iter().any(cancelled));
    assert!(b.session.is_idle());
}

#[test]
fn what_is_refused_does_not_wait_for_a_result_of_its_key() {
    let mut side = binder(SessionConfig { max_requests: 2, ..two() });
    let keyed = |call| Record::Open {
        call,
        method: "m".into(),
        key: OrderingKey::text("k"),
        options: Options::default(),
        content: whole(""),
    };
    side.hear_records(&[keyed(0), keyed(2), keyed(4)]);
    side.session.begin_reply(IncomingId(0), false, Metadata::new(), None).unwrap();
    side.write(ExchangeId::Theirs(IncomingId(0)), "it goes on").unwrap();
    let error = Refusal::Busy.to_error("no room");
    side.session.reply(IncomingId(1), Reply::Refusal(error)).unwrap();
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

/// Sessions whose first windows are small.
fn narrow() -> SessionConfig {
    SessionConfig {
        first_window: 1_024,
        stream_window: 50_000,
        link_window: 200_000,
        ..SessionConfig::default()
    }
}

#[test]
fn a_window_opens_when_its_content_is_read() {
    let (mut a, mut b) = pair2(narrow(), narrow());
    let arrived = |b: &Side| b.session.held_bytes();
    for collects in [false, true] {
        a.session.invoke(a.now, Call::new("m", body(90_000))).unwrap();
        exchange(&mut a, &mut b);
        let request = request(&mut b);
        assert_eq!(request.body, Body::Streamed { size: Some(90_000), held: 1_024 + MAX_FIRST });
        assert_eq!(arrived(&b), 1_024, "as long as nobody reads");
        if collects {
            b.collect(theirs(&request));
            exchange(&mut a, &mut b);
            assert_eq!(b.collected(), Ok(body(90_000)));
        } else {
            assert!(matches!(b.read(theirs(&request)), Ok(Read::Chunk(_))));
            exchange(&mut a, &mut b);
            assert_eq!(arrived(&b), 50_000);
            let mut rest = 90_000 - MAX_FIRST;
            while rest > 0 {
                rest -= b.read_all(theirs(&request)).0.len();
                exchange(&mut a, &mut b);
            }
        }
        b.session.reply(request.id, ok("1")).unwrap();
        exchange(&mut a, &mut b);
        a.events();
        b.events();
    }
    // One that needs no more than its first window costs no CREDIT.
    a.session.invoke(a.now, Call::new("m", body(MAX_FIRST + 500))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.read_all(theirs(&request));
    let credit = |record: &Record| matches!(record, Record::Credit { .. });
    assert_eq!(b.sent_records().iter().filter(|record| credit(record)).count(), 1, "the last one");
    assert_eq!(b.session.exchanges.growth_left, 100_000);
}

#[test]
fn contents_are_read_in_any_order() {
    // Far more than the link's window, of which first windows take up no more than half.
    let (mut a, mut b) = pair2(narrow(), narrow());
    let calls: Vec<CallId> = (0..90).map(|_| a.invoke("m")).collect();
    exchange(&mut a, &mut b);
    for event in b.events() {
        let Event::Request(request) = event else { continue };
        b.session.reply(request.id, Reply::result(body(100_000))).unwrap();
    }
    exchange(&mut a, &mut b);
    a.events();
    for call in calls.into_iter().rev() {
        let (id, mut all) = (ExchangeId::Ours(call), Vec::new());
        for turn in 0.. {
            let (more, end) = a.read_all(id);
            all.extend(more);
            exchange(&mut a, &mut b);
            if end {
                break;
            }
            assert!(turn < 200, "{id:?} gets no more: {} bytes", all.len());
        }
        assert!(all == body(100_000));
    }
    exchange(&mut a, &mut b);
    assert!(a.session.is_idle() && b.session.is_idle());
    assert_eq!((a.session.held_bytes(), a.session.exchanges.growth_left), (0, 100_000));
}

#[test]
fn contents_that_many_have_begun_to_read_leave_room_for_others() {
    let (mut a, mut b) = pair2(narrow(), narrow());
    let calls: Vec<CallId> = (0..90).map(|_| a.invoke("m")).collect();
    exchange(&mut a, &mut b);
    for event in b.events() {
        let Event::Request(request) = event else { continue };
        b.session.reply(request.id, Reply::result(body(100_000))).unwrap();
    }
    exchange(&mut a, &mut b);
    // Each is begun, and no more is read of it.
    for call in &calls[..89] {
        assert!(matches!(a.read(ExchangeId::Ours(*call)), Ok(Read::Chunk(_))));
        exchange(&mut a, &mut b);
    }
    let (id, mut read, mut turns) = (ExchangeId::Ours(calls[89]), 0, 0);
    while read < 100_000 {
        read += a.read_all(id).0.len();
        exchange(&mut a, &mut b);
        turns += 1;
        assert!(turns < 1_000, "it gets no more: {read}");
    }
    assert!(a.session.held_bytes() <= 200_000);
}

#[test]
fn credit_that_was_not_given_can_not_be_used() {
    let mut side = binder(SessionConfig { stream_window: 1_024, ..two() });
    side.hear_records(&[open(0, part("")), data(0, 0, part(vec![0; 1_024 - RECORD_COST as usize]))]);
    side.hear_records(&[data(0, 1_024 - RECORD_COST, part(""))]);
    assert!(side.events().contains(&Event::Anomaly(Anomaly::Content(ContentFault::Credit))));
    let mut side = binder(SessionConfig { stream_window: 2_048, link_window: 2_048, ..two() });
    side.hear_records(&[open(0, part("")), open(2, part(""))]);
    side.hear_records(&[data(0, 0, part(vec![0; 1_000])), data(2, 0, part(vec![0; 1_000]))]);
    let violation = CloseCause::ProtocolViolation(Violation::Credit);
    assert_eq!(side.events().last(), Some(&Event::Closed(violation)));
    // Credit that overflows, or acknowledges what was not sent.
    let mut side = binder(two());
    side.invoke_streamed();
    side.sent();
    let credit = |consumed, limit| Record::Credit { call: 1, consumed, limit };
    side.hear_records(&[credit(0, u64::MAX), Record::LinkCredit { limit: u64::MAX }]);
    assert!(!side.session.is_closed());
    side.hear_records(&[credit(1, 0)]);
    let violation = CloseCause::ProtocolViolation(Violation::Acknowledgement);
    assert_eq!(side.events().last(), Some(&Event::Closed(violation)));
}

#[test]
fn nothing_is_held_once_the_session_is_over() {
    let (mut a, mut b) = pair2(two(), two());
    a.session.invoke(a.now, Call::new("m", body(100_000))).unwrap();
    exchange(&mut a, &mut b);
    assert!(b.session.held_bytes() > 0);
    b.session.close(CloseCause::LinkLost);
    assert_eq!(b.session.held_bytes(), 0);
}

#[test]
fn late_content_gives_its_credit_back() {
    let mut side = binder(SessionConfig { link_window: 300_000, ..two() });
    for call in 0..100 {
        let call = 2 * call;
        side.hear_records(&[open(call, part("")), data(call, 0, part(vec![0; 1_000]))]);
        let asked = request(&mut side);
        side.session.reply(asked.id, Reply::Cancelled).unwrap();
        for n in 0..3 {
            side.hear_records(&[data(call, 1_000 + 4_000 * n, part(vec![0; 4_000]))]);
        }
        side.events();
        side.sent();
        assert!(!side.session.is_closed(), "after {call}");
        assert_eq!(side.session.held_bytes(), 0);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_declaration_or_where_it_exceeds_it() {
    let (mut a, mut b) = pair2(two(), SessionConfig { max_body: 100_000, ..two() });
    let up = a.invoke_streamed();
    a.write(up, body(100_001)).unwrap();
    let events = exchange_collecting(&mut a, &mut b);
    let too_large = |size| ContentError::TooLarge { size, limit: 100_000 };
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Collected { body: Err(ContentError::TooLarge { .. }), .. })),
        "{events:?}"
    );
    let mut side = binder(SessionConfig { max_body: 100_000, ..two() });
    let options = Options { size: Some(100_001), ..Options::default() };
    let (method, key) = ("m".into(), OrderingKey::none());
    side.hear_records(&[Record::Open { call: 0, method, key, options, content: part("") }]);
    let asked = request(&mut side);
    side.collect(theirs(&asked));
    assert_eq!(side.collected(), Err(too_large(100_001)));
    // Of a call of ours, that ends it.
    let mut side = binder(SessionConfig { max_body: 100_000, ..two() });
    let call = side.invoke("m");
    side.sent();
    let options = Options { size: Some(100_001), ..Options::default() };
    side.hear_records(&[Record::Result { call: 1, options, content: part("") }]);
    side.events();
    side.collect(ExchangeId::Ours(call));
    let error = DecodeError::TooLarge { what: "a body", size: 100_001, limit: 100_000 };
    assert_eq!(side.events().last(), Some(&ended(call, Outcome::Malformed(error))));
    assert_eq!(side.sent_records(), [Record::Cancel { call: 1 }]);
}

#[test]
fn bodies_that_are_put_together_wait_for_room() {
    let config = SessionConfig { max_reassembly: 250_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    for _ in 0..4 {
        a.session.invoke(a.now, Call::new("m", body(100_000))).unwrap();
    }
    // Only a part of each, so that none is complete.
    let packets = a.sent();
    let (early, late) = packets.split_at(4);
    early.iter().for_each(|packet| b.hear(packet.clone()));
    let requests: Vec<Request> = std::iter::from_fn(|| b.event())
        .filter_map(|event| if let Event::Request(request) = event { Some(request) } else { None })
        .collect();
    assert_eq!(requests.len(), 4);
    requests.iter().for_each(|request| b.collect(theirs(request)));
    assert_eq!(b.session.exchanges.gathering.len(), 2, "two have room");
    assert_eq!(b.session.exchanges.gather_queue.len(), 2);
    late.iter().for_each(|packet| b.hear(packet.clone()));
    exchange(&mut a, &mut b);
    let done =
        b.events().iter().filter(|event| matches!(event, Event::Collected { body: Ok(_), .. })).count();
    assert_eq!(done, 4);
    assert_eq!((b.session.exchanges.gathering.len(), b.session.poll_timeout()), (0, None));
}

#[test]
fn bodies_that_wait_for_room_get_it_when_the_one_before_is_given_up() {
    let config = SessionConfig { max_reassembly: 1, ..two() };
    for gives_up in ["cancelled", "answered", "stopped", "answered at length"] {
        let (mut a, mut b) = pair2(two(), config.clone());
        let up = a.invoke_streamed();
        a.session.invoke(a.now, Call::new("m", body(100_000))).unwrap();
        exchange(&mut a, &mut b);
        let [first, second] = [request(&mut b), request(&mut b)];
        b.collect(theirs(&first));
        b.collect(theirs(&second));
        b.events();
        match (gives_up, up) {
            ("cancelled", ExchangeId::Ours(call)) => {
                a.session.abandon(call);
                exchange(&mut a, &mut b);
                b.session.reply(first.id, Reply::Cancelled).unwrap();
            }
            ("answered", _) => b.session.reply(first.id, ok("1")).unwrap(),
            ("answered at length", _) => b.session.reply(first.id, Reply::result(body(1 << 20))).unwrap(),
            _ => b.session.contents().stop(theirs(&first)),
        }
        exchange(&mut a, &mut b);
        let collected = Event::Collected { exchange: theirs(&second), body: Ok(body(100_000)) };
        assert!(b.events().contains(&collected), "{gives_up}");
        assert_eq!(b.session.poll_timeout(), None, "{gives_up}");
    }
}

#[test]
fn any_number_of_bodies_may_wait_for_room_and_be_complete() {
    let waiting = 5_000;
    let config = SessionConfig { max_reassembly: 1, max_requests: waiting + 1, ..two() };
    let mut side = binder(config);
    for n in 0..=waiting as u64 {
        side.hear_records(&[open(2 * n, part("")), data(2 * n, 0, part("1"))]);
        let asked = request(&mut side);
        if n > 0 {
            side.hear_records(&[data(2 * n, 1, whole("2"))]);
        }
        side.events();
        side.collect(theirs(&asked));
    }
    assert_eq!(side.session.exchanges.gather_queue.len(), waiting);
    side.hear_records(&[data(0, 1, whole("2"))]);
    let events = side.events();
    assert_eq!(events.len(), waiting + 1);
    assert!(events.iter().all(|event| matches!(event, Event::Collected { body: Ok(_), .. })));
}

#[test]
fn a_body_that_is_never_complete_is_dropped_by_age() {
    let mut side = binder(two());
    let options = Options { size: Some(128 * 1024), ..Options::default() };
    let (method, key) = ("m".into(), OrderingKey::none());
    side.hear_records(&[Record::Open { call: 0, method, key, options, content: part("") }]);
    let asked = request(&mut side);
    side.collect(theirs(&asked));
    side.pass(31 * SECOND);
    side.hear_records(&[data(0, 0, part("progress does not extend it"))]);
    assert_eq!(side.events(), []);
    side.pass(SECOND);
    assert_eq!(side.collected(), Err(ContentError::TimedOut));
    side.hear_records(&[data(0, 27, part("too late"))]);
    assert_eq!((side.session.held_bytes(), side.events()), (0, vec![]));
    // One that is cancelled takes its timer along.
    let options = Options { size: Some(128 * 1024), ..Options::default() };
    let (method, key) = ("m".into(), OrderingKey::none());
    side.hear_records(&[Record::Open { call: 2, method, key, options, content: part("") }]);
    let asked = request(&mut side);
    side.collect(theirs(&asked));
    side.hear_records(&[Record::Cancel { call: 2 }]);
    side.session.reply(asked.id, Reply::Cancelled).unwrap();
    assert_eq!(side.session.poll_timeout(), None);
}

#[test]
fn a_window_that_was_widened_makes_room_for_others_when_its_body_is_complete() {
    let config = SessionConfig { stream_window: 20_000, link_window: 1_000_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    b.session.exchanges.round_trip = Some(Duration::from_secs(1));
    let room = b.session.exchanges.growth_left;
    a.session.invoke(a.now, Call::new("m", body(1 << 20))).unwrap();
    let events = exchange_collecting(&mut a, &mut b);
    assert!(matches!(events[..], [Event::Request(_), Event::Collected { body: Ok(_), .. }]));
    assert_eq!(b.session.exchanges.growth_left, room);
}

#[test]
fn a_result_is_read_after_its_call_has_ended() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.session.reply(asked.id, Reply::result(body(100_000))).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events().last(), Some(&ended(call, Outcome::Complete)));
    assert!(!a.session.is_idle(), "it has not been read");
    let (read, end) = a.read_all(ExchangeId::Ours(call));
    assert_eq!((Bytes::from(read), end), (body(100_000), true));
    exchange(&mut a, &mut b);
    assert!(a.session.is_idle());
    // Or after the link has ended.
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.session.reply(asked.id, Reply::result(body(100_000))).unwrap();
    exchange(&mut a, &mut b);
    let (mut c, mut d) = pair2(two(), two());
    std::mem::swap(&mut a, &mut c);
    c.session.close(CloseCause::LinkLost);
    assert!(c.events().contains(&ended(call, Outcome::Complete)));
    assert_eq!(c.read_all(ExchangeId::Ours(call)), (body(100_000).to_vec(), true));
    assert_eq!((c.read(ExchangeId::Ours(call)), c.sent()), (Err(ContentError::NotOpen), vec![]));
    std::mem::swap(&mut b, &mut d);
    // Or dropped unread.
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.session.reply(asked.id, Reply::result(body(100_000))).unwrap();
    exchange(&mut a, &mut b);
    a.session.contents().stop(ExchangeId::Ours(call));
    assert_eq!(a.sent_records(), [Record::Cancel { call: 0 }], "its writer may wait for it to be read");
    assert!(a.session.is_idle() && a.session.held_bytes() == 0);
}

#[test]
fn compressed_bodies_come_out_as_they_were() {
    let (mut a, mut b) = pair2(two(), two());
    let zeros = Bytes::from(vec![0; 1 << 20]);
    a.session.invoke(a.now, Call { compressed: true, ..Call::new("m", zeros.clone()) }).unwrap();
    let sent: usize = {
        let packets = a.sent();
        let sizes = packets.iter().map(Multipart::size).sum();
        packets.into_iter().for_each(|packet| b.hear(packet));
        sizes
    };
    assert!(sent < 100_000, "{sent} bytes for what the window allows");
    let events = exchange_collecting(&mut a, &mut b);
    assert!(
        events.iter().any(|event| matches!(event, Event::Collected { body: Ok(body), .. } if *body == zeros))
    );
}
