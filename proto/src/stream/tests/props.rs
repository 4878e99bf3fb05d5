//! Written bytes are read unchanged, however they are split; and every change of the pieces is detected.

use proptest::prelude::*;

use super::*;
use crate::stream::send::Data;
use crate::wire::Codec;

/// The largest stream, in bytes.
const MAX: usize = 60_000;

fn writes() -> impl Strategy<Value = Vec<(Bytes, bool)>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (any::<u8>(), 0..MAX / 4).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::vec((bytes.prop_map(Bytes::from), any::<bool>()), 0..8)
}

fn flat(writes: &[(Bytes, bool)]) -> Vec<u8> {
    writes.iter().flat_map(|(bytes, _)| bytes.to_vec()).collect()
}

/// Where items end.
fn items(writes: &[(Bytes, bool)]) -> Vec<usize> {
    let mut at = 0;
    let ends = writes.iter().filter_map(|(bytes, item)| {
        at += bytes.len();
        item.then_some(at)
    });
    ends.collect()
}

fn filled(writes: &[(Bytes, bool)], limit: u64, compress: bool) -> SendHalf {
    let mut send = SendHalf::new(limit, compress);
    send.start(0, Bytes::new(), false);
    writes.iter().for_each(|(bytes, item)| send.push(bytes.clone(), *item));
    send.finish();
    send
}

/// The piece of a DATA as the codec sends it.
fn encoded(codec: &mut Codec, data: Data, compress: bool) -> (u64, Piece) {
    let Data { offset, bytes, fin, item, .. } = data;
    let piece = codec.compress(Piece { bytes, fin, item, compressed: false }, compress);
    (offset, piece)
}

/// All pieces of a stream, for DATA of at most `room` bytes.
fn pieces(writes: &[(Bytes, bool)], compress: bool, room: usize) -> Vec<(u64, Piece)> {
    let mut send = filled(writes, u64::MAX, compress);
    let mut codec = Codec::default();
    std::iter::from_fn(|| send.next(room, u64::MAX)).map(|data| encoded(&mut codec, data, compress)).collect()
}

/// Reads everything that has arrived.
fn drain(receive: &mut RecvHalf, read: &mut Vec<u8>, ends: &mut Vec<usize>) -> bool {
    loop {
        match receive.next() {
            Ok(Next::Chunk(chunk, _)) => {
                read.extend_from_slice(&chunk.bytes);
                ends.extend(chunk.end_of_item.then_some(read.len()));
            }
            Ok(Next::End) => return true,
            Ok(Next::Pending) | Err(_) => return false,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_comes_out_the_same(
        writes in writes(),
        compress in any::<bool>(),
        window in 33_u64..100_000,
        rooms in prop::collection::vec((1_usize..70_000, any::<bool>()), 1..20),
        sized in any::<bool>(),
        reassembles in any::<bool>(),
        frame in prop_oneof![Just(0), 1_usize..200_000],
    ) {
        let whole = flat(&writes);
        let now = Instant::now();
        let mut send = filled(&writes, window, compress);
        let mut receive = RecvHalf::new(window, sized.then_some(whole.len() as u64));
        let mut spares = Spares::default();
        if reassembles {
            receive.await_memory();
            receive.reassemble(whole.len(), &mut spares);
        }
        let (mut codec, mut flow) = (Codec::default(), Flow::new(1 << 20));
        let (mut read, mut ends, mut done) = (Vec::new(), Vec::new(), false);
        let mut rooms = rooms.into_iter().cycle();
        for _ in 0..1_000_000 {
            let (room, reads) = rooms.next().expect("it has no end");
            let sent = send.is_ready().then(|| send.next(room, u64::MAX)).flatten();
            let idle = sent.is_none();
            if let Some(data) = sent {
                let (offset, piece) = encoded(&mut codec, data, compress);
                prop_assert!(piece.declared(MAX_CHUNK).is_ok());
                prop_assert!(receive.take(offset, piece, frame).is_ok());
                prop_assert!(receive.held_cost() <= receive.window());
            }
            if reassembles {
                if let Some(body) = receive.reassembled(&mut spares) {
                    read = body.expect("it is not too large").to_vec();
                    ends = items(&writes);
                    done = true;
                }
            } else if reads || idle {
                done = drain(&mut receive, &mut read, &mut ends);
            }
            if done {
                break;
            }
            if let Some((consumed, limit)) = receive.credit_due(now, &mut flow) {
                prop_assert!(send.credit(consumed, limit));
            }
        }
        prop_assert!(done, "it does not end");
        prop_assert!(read == whole);
        prop_assert_eq!(ends, items(&writes));
    }

    #[test]
    fn what_was_changed_on_the_way_is_noticed(
        writes in writes(),
        compress in any::<bool>(),
        room in 1_usize..70_000,
        which in any::<prop::sample::Index>(),
        change in 0..6,
        by in 1_u64..100_000,
    ) {
        let whole = flat(&writes);
        let mut pieces = pieces(&writes, compress, room.max(whole.len() / 50 + 1));
        let at = which.index(pieces.len());
        let (offset, piece) = &mut pieces[at];
        let before = piece.clone();
        match change {
            0 => *offset += by,
            1 => *offset = offset.saturating_sub(by),
            2 => piece.fin = !piece.fin,
            3 => piece.compressed = !piece.compressed,
            4 => piece.bytes = piece.bytes.slice(..piece.bytes.len() - (by as usize).min(piece.bytes.len())),
            _ => piece.bytes = [&piece.bytes[..], &vec![0; by as usize]].concat().into(),
        }
        let moved = change < 2 && (change == 0 || *offset > 0 || at > 0) && pieces[at].0 != sum(&pieces[..at]);
        let mut receive = RecvHalf::new(1 << 30, Some(whole.len() as u64));
        let mut fault = None;
        for (n, (offset, piece)) in pieces.iter().enumerate() {
            match receive.take(*offset, piece.clone(), 0) {
                Ok(_) => prop_assert!(!(moved && n == at), "another offset is taken"),
                Err(found) => {
                    fault = Some(found);
                    break;
                }
            }
        }
        let (mut read, mut ends) = (Vec::new(), Vec::new());
        let end = drain(&mut receive, &mut read, &mut ends);
        prop_assert!(read.len() <= whole.len(), "more than was declared");
        if fault.is_none() && end {
            prop_assert_eq!(read.len(), whole.len());
        }
        if fault.is_none() && !end {
            // The only undetected change is a missing FIN, for which the reader waits.
            prop_assert!(before.fin && !pieces[at].1.fin);
        }
    }
}

fn sum(pieces: &[(u64, Piece)]) -> u64 {
    pieces.iter().map(|(_, piece)| piece.declared(MAX_CHUNK).expect("they are as they were") as u64).sum()
}
