//! The two halves of a stream, without a connection.

mod props;

use std::time::{Duration, Instant};

use super::*;
use crate::wire::{MAX_CHUNK, Piece, RECORD_COST};

/// A chunk keeps no more than this many times its size alive.
const MAX_SLACK: usize = 4;

fn piece(bytes: &'static [u8]) -> Piece {
    Piece { bytes: Bytes::from_static(bytes), ..Piece::default() }
}

fn last(bytes: &'static [u8]) -> Piece {
    Piece { fin: true, ..piece(bytes) }
}

fn receiving() -> RecvHalf {
    RecvHalf::new(1_000, None)
}

fn chunk(receive: &mut RecvHalf) -> (Bytes, bool) {
    match receive.next().unwrap() {
        Next::Chunk(Chunk { bytes, end_of_item }, _) => (bytes, end_of_item),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pieces_must_follow_each_other() {
    let mut receive = receiving();
    receive.first("abc".into(), false).unwrap();
    assert_eq!(receive.take(2, piece(b"d"), 0), Err(StreamFault::Overlap));
    assert_eq!(receive.take(4, piece(b"d"), 0), Err(StreamFault::Gap));
    receive.take(3, last(b"d"), 0).unwrap();
    assert_eq!(receive.take(4, piece(b"e"), 0), Err(StreamFault::PastEnd));
    assert_eq!(chunk(&mut receive).0, "abcd", "tiny pieces are put together");
    assert!(matches!(receive.next(), Ok(Next::End)));
}

#[test]
fn credit_is_checked_at_the_edge_and_every_record_costs() {
    let mut receive = RecvHalf::new(2 * RECORD_COST + 3, None);
    receive.take(0, piece(b"abc"), 0).unwrap();
    assert_eq!(receive.take(3, piece(b"d"), 0), Err(StreamFault::Credit));
    receive.take(3, last(b""), 0).unwrap();
}

#[test]
fn a_declared_size_is_kept_to_the_byte() {
    let declared = |size| RecvHalf::new(1_000, Some(size));
    assert_eq!(declared(2).first("abc".into(), false), Err(StreamFault::Size));
    assert_eq!(declared(2).take(0, piece(b"abc"), 0), Err(StreamFault::Size), "more");
    assert_eq!(declared(2).take(0, last(b"a"), 0), Err(StreamFault::Size), "less");
    assert!(declared(2).take(0, last(b"ab"), 0).is_ok());
}

#[test]
fn a_piece_is_limited_at_the_edge() {
    let sized = |len: usize| Piece { bytes: vec![0; len].into(), ..Piece::default() };
    let mut receive = RecvHalf::new(1 << 20, None);
    assert_eq!(receive.take(0, sized(MAX_CHUNK + 1), 0), Err(StreamFault::Oversize));
    receive.take(0, sized(MAX_CHUNK), 0).unwrap();
    let broken = Piece { bytes: Bytes::from_static(&[0x0a, 0]), compressed: true, ..Piece::default() };
    assert_eq!(receive.take(MAX_CHUNK as u64, broken, 0), Err(StreamFault::Snappy));
}

#[test]
fn credit_is_given_for_what_was_taken() {
    let now = Instant::now();
    let mut receive = RecvHalf::new(1_000, None);
    receive.take(0, Piece { item: true, ..piece(&[0; 217]) }, 0).unwrap();
    // Without a measured round trip, the window does not grow.
    let due = |receive: &mut RecvHalf| receive.credit_due(now, &mut Flow::new(1 << 20));
    assert_eq!(due(&mut receive), None, "nothing was taken");
    chunk(&mut receive);
    assert_eq!(due(&mut receive), None, "249 of 250");
    receive.take(217, Piece { item: true, ..piece(b"a") }, 0).unwrap();
    chunk(&mut receive);
    assert_eq!(due(&mut receive), Some((218, 1_282)));
    assert_eq!(due(&mut receive), None);
    receive.take(218, last(b""), 0).unwrap();
    assert!(matches!(receive.next(), Ok(Next::End)));
    assert_eq!(due(&mut receive), Some((218, 1_282)), "the last acknowledgement");
    assert_eq!(due(&mut receive), None);
}

#[test]
fn a_window_that_holds_up_its_writer_is_widened() {
    let start = Instant::now();
    let mut receive = RecvHalf::new(1_000, None);
    let trip = Duration::from_millis(10);
    // Of an allowance of 4,000 for all windows, 1,000 can be used to grow beyond `stream_window`.
    let mut flow = Flow::new(8_000);
    flow.set_round_trip(trip);
    let mut use_up = |receive: &mut RecvHalf, at: Instant, offset: u64| {
        receive.take(offset, Piece { item: true, ..piece(&[0; 968]) }, 0).unwrap();
        chunk(receive);
        receive.credit_due(at, &mut flow).unwrap().1
    };
    assert_eq!(use_up(&mut receive, start, 0), 2_000);
    assert_eq!(use_up(&mut receive, start + trip * 2, 968), 3_000, "a window in two trips");
    let fast = start + trip * 4 - Duration::from_nanos(1);
    assert_eq!(use_up(&mut receive, fast, 2 * 968), 5_000, "faster");
    assert_eq!(receive.growth(), 1_000);
    assert_eq!(use_up(&mut receive, fast, 3 * 968), 6_000, "half of it, though at once");
    assert_eq!(use_up(&mut receive, fast, 4 * 968), 7_000, "no room for more");
}

#[test]
fn tiny_pieces_and_items_do_not_pin_what_they_came_in() {
    let mut receive = RecvHalf::new(1 << 20, None);
    let packet = Bytes::from(vec![1; 100_000]);
    for n in 0..10 {
        let piece = Piece { bytes: packet.slice(n..n + 1), item: n % 2 == 0, ..Piece::default() };
        receive.take(n as u64, piece, packet.len()).unwrap();
    }
    assert!(packet.is_unique());
}

#[test]
fn tiny_items_share_buffers_and_come_out_one_by_one() {
    let mut receive = RecvHalf::new(1 << 20, None);
    for n in 0..10_000 {
        let piece = Piece { bytes: vec![n as u8; n % 2].into(), item: n % 5 != 3, ..Piece::default() };
        receive.take((n / 2) as u64, piece, 0).unwrap();
    }
    assert!(receive.buffers() <= 10, "{}", receive.buffers());
    let (mut read, mut ends, mut costs) = (0, 0, 0);
    while let Ok(Next::Chunk(chunk, cost)) = receive.next() {
        read += chunk.bytes.len();
        ends += usize::from(chunk.end_of_item);
        costs += cost;
    }
    // A piece without bytes and without the end of an item is consumed at once: there is nothing to read.
    assert_eq!((read, ends), (5_000, 8_000));
    assert_eq!(costs, 5_000 + 9_000 * RECORD_COST);
}

/// An application may keep only the last item of those that have shared a buffer.
#[test]
fn no_item_pins_the_buffer_that_it_has_shared() {
    for len in [100, 1_024] {
        let mut receive = RecvHalf::new(1 << 20, None);
        let count = MAX_CHUNK / len;
        for n in 0..count {
            let piece = Piece { bytes: vec![7; len].into(), item: true, ..Piece::default() };
            receive.take((n * len) as u64, piece, 0).unwrap();
        }
        assert_eq!(receive.buffers(), 1);
        for n in 0..count {
            let mut memory = chunk(&mut receive).0.try_into_mut().expect("nobody else has it");
            memory.clear();
            assert!(!memory.try_reclaim(MAX_SLACK * len), "item {n} of {len} bytes");
        }
    }
}

#[test]
fn a_body_is_reassembled_up_to_its_limit() {
    let mut receive = receiving();
    receive.first("ab".into(), false).unwrap();
    receive.await_memory();
    assert_eq!(receive.reassemble(4, &mut Spares::default()), 0, "the first piece costs nothing");
    assert_eq!(receive.reassembled(&mut Spares::default()), None);
    assert_eq!(receive.take(2, last(b"cd"), 0), Ok(RECORD_COST + 2), "it is in the body already");
    assert_eq!(receive.reassembled(&mut Spares::default()), Some(Ok("abcd".into())));
    let mut receive = receiving();
    receive.await_memory();
    receive.reassemble(4, &mut Spares::default());
    assert_eq!(receive.take(0, piece(b"abcde"), 0), Ok(RECORD_COST + 5));
    let error = ReadError::TooLarge { size: 5, limit: 4 };
    assert_eq!(receive.reassembled(&mut Spares::default()), Some(Err(error)));
    assert_eq!(receive.fail(error), 0);
    assert!(matches!(receive.next(), Err(found) if found == error));
}

#[test]
fn a_body_that_waits_for_memory_is_held_and_freed_when_there_is_some() {
    let mut receive = receiving();
    receive.first("ab".into(), false).unwrap();
    receive.await_memory();
    assert_eq!(receive.take(2, piece(b"c"), 0), Ok(0));
    assert!(matches!(receive.next(), Err(ReadError::NotOpen)), "it is not read any more");
    assert_eq!((receive.held_cost(), receive.unread_cost()), (RECORD_COST + 1, RECORD_COST + 1));
    assert_eq!(receive.reassemble(3, &mut Spares::default()), RECORD_COST + 1);
    assert_eq!((receive.held_cost(), receive.unread_cost()), (0, 0));
    receive.take(3, last(b""), 0).unwrap();
    assert_eq!(receive.reassembled(&mut Spares::default()), Some(Ok("abc".into())));
    assert_eq!(receive.reassembled(&mut Spares::default()), None, "once");
}

/// The sending half of a stream whose OPEN or RESULT has been sent.
fn sending(limit: u64) -> SendHalf {
    let mut send = SendHalf::new(limit, false);
    send.start(0, Bytes::new(), false);
    send
}

#[test]
fn nothing_is_sent_before_the_beginning_has_left() {
    let mut send = SendHalf::new(1_000, false).after(3);
    send.push("def".into(), true);
    assert!(!send.is_ready());
    assert_eq!((send.written(), send.queued()), (6, 3));
    send.start(2, "c".into(), false);
    assert!(send.is_ready());
    let [first, second] = [(), ()].map(|()| send.next(MAX_CHUNK, u64::MAX).unwrap());
    assert_eq!((first.offset, &first.bytes[..], first.item), (2, &b"c"[..], false));
    assert_eq!((second.offset, &second.bytes[..], second.item), (3, &b"def"[..], true));
    assert_eq!(send.written(), 6);
}

#[test]
fn no_more_is_sent_than_there_is_credit_for() {
    let mut send = sending(RECORD_COST + 3);
    send.push("abcdef".into(), true);
    let first = send.next(MAX_CHUNK, u64::MAX).unwrap();
    assert_eq!((&first.bytes[..], first.item, first.offset), (&b"abc"[..], false, 0));
    assert!(!send.is_ready() && send.next(MAX_CHUNK, u64::MAX).is_none());
    assert!(send.credit(3, 2 * RECORD_COST + 6));
    let second = send.next(MAX_CHUNK, u64::MAX).unwrap();
    assert_eq!((&second.bytes[..], second.item, second.offset), (&b"def"[..], true, 3));
    assert!(!second.fin);
    send.finish();
    assert!(!send.is_ready(), "the end costs a record");
    assert!(send.credit(6, 3 * RECORD_COST + 6));
    let end = send.next(MAX_CHUNK, u64::MAX).unwrap();
    assert!(end.fin && end.bytes.is_empty() && send.fin_sent());
}

#[test]
fn credit_does_not_shrink_and_acknowledges_only_what_left() {
    let mut send = sending(1_000);
    send.push("abc".into(), false);
    assert!(!send.credit(1, 2_000), "nothing has left");
    send.next(MAX_CHUNK, u64::MAX).unwrap();
    assert!(send.credit(3, 10) && send.credit(2, 20));
    assert_eq!(send.acknowledged(), 3);
    send.push("d".into(), false);
    assert!(send.is_ready());
}

#[test]
fn the_end_comes_with_the_last_piece() {
    let mut send = sending(1_000);
    send.push("abc".into(), true);
    send.finish();
    let data = send.next(MAX_CHUNK, u64::MAX).unwrap();
    assert!(data.fin && data.item && send.fin_sent() && !send.is_ready());
}

#[test]
fn the_link_and_the_packet_limit_a_piece() {
    let mut send = sending(u64::MAX);
    send.push(vec![0; 2 * MAX_CHUNK].into(), true);
    assert_eq!(send.next(10, u64::MAX).unwrap().bytes.len(), 10);
    assert_eq!(send.next(MAX_CHUNK, RECORD_COST + 7).unwrap().bytes.len(), 7);
    assert_eq!(send.next(usize::MAX, u64::MAX).unwrap().bytes.len(), FULL_PIECE);
    assert!(send.next(0, u64::MAX).is_none() && send.next(10, RECORD_COST).is_none());
    assert_eq!(send.queued(), 2 * MAX_CHUNK - FULL_PIECE - 17);
}

#[test]
fn only_what_is_too_large_for_one_piece_is_cut() {
    let mut send = sending(u64::MAX);
    for (len, pieces) in
        [(MAX_CHUNK, &[MAX_CHUNK][..]), (MAX_CHUNK + 1, &[FULL_PIECE, MAX_CHUNK + 1 - FULL_PIECE])]
    {
        send.push(vec![0; len].into(), true);
        let sent = pieces.iter().map(|_| send.next(usize::MAX, u64::MAX).unwrap().bytes.len());
        assert!(sent.eq(pieces.iter().copied()) && send.queued() == 0, "{len}");
    }
}
