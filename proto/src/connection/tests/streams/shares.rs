//! Shares of streams of the same urgency, whatever the length of their quanta.

use super::super::dialect2::{pair2, two};
use super::super::*;
use crate::wire::{MAX_CHUNK, Record, records};

const MIB: usize = 1 << 20;

/// A side with unlimited credit, and the bytes sent of each of its calls, in the order in which they were
/// made.
struct Sender {
    side: Side,
    left: Vec<usize>,
    /// The complete ones, in the order of completion.
    complete: Vec<usize>,
}

impl Sender {
    fn new() -> Self {
        let (mut side, _) = pair2(two(), two());
        side.connection.calls.flow().peer_limit = u64::MAX;
        let mut sender = Self { side, left: Vec::new(), complete: Vec::new() };
        sender.first_credit(u64::MAX);
        sender
    }

    /// Sets the initial credit of each stream.
    fn first_credit(&mut self, stream: u64) {
        self.side.connection.calls.set_peer_credit(Credit { stream, link: u64::MAX });
    }

    fn invoke(&mut self, call: Call) -> StreamId {
        self.left.push(0);
        StreamId::Call(self.side.connection.invoke(self.side.now, call).unwrap())
    }

    fn body(&mut self, len: usize) {
        self.invoke(new_call("m", vec![7; len]));
    }

    fn credit(&mut self, id: StreamId, limit: u64) {
        self.side.connection.calls.set_stream_limit(id, limit);
    }

    /// Sends a packet; returns whether there was one.
    fn send(&mut self) -> bool {
        let Some(packet) = self.side.connection.poll_message(self.side.now) else { return false };
        let packet = packet.into_one().unwrap();
        for record in records(&packet).unwrap() {
            match record.unwrap() {
                Record::Open { .. } => {}
                Record::Data { call, piece, .. } => {
                    let call = call as usize / 2;
                    self.left[call] += piece.bytes.len();
                    if piece.fin {
                        self.complete.push(call);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        true
    }
}

#[test]
fn a_stream_has_its_share_beside_bodies_that_have_longer_turns() {
    for bodies in [1, 4, 16] {
        let mut sender = Sender::new();
        let stream = sender.invoke(Call { argument: Delivery::Stream, ..new_call("m", "") });
        sender.send();
        (0..bodies).for_each(|_| sender.body(3 * MIB));
        while sender.complete.len() < bodies {
            // It always has something to send.
            while sender.side.connection.send_stream(stream).room().unwrap() > 0 {
                sender.side.connection.send_stream(stream).write(vec![7; MAX_CHUNK].into(), false).unwrap();
            }
            assert!(sender.send());
        }
        let share = sender.left[0];
        assert!((5 * MIB / 2..=7 * MIB / 2).contains(&share), "{share} beside {bodies} bodies of 3 MiB");
    }
}

#[test]
fn bodies_of_a_turn_leave_one_after_the_other() {
    let mut sender = Sender::new();
    (0..4).for_each(|_| sender.body(MIB));
    while sender.send() {
        let halves =
            sender.left.iter().filter(|left| (MAX_CHUNK + 1..MIB - MAX_CHUNK).contains(left)).count();
        assert!(halves <= 1, "{:?}", sender.left);
    }
    assert_eq!(sender.complete, [0, 1, 2, 3]);
}

#[test]
fn what_is_small_does_not_wait_for_what_is_large() {
    let mut sender = Sender::new();
    (0..16).for_each(|_| sender.body(3 * MIB));
    while sender.left[0] == 0 {
        assert!(sender.send());
    }
    sender.body(100_000);
    while sender.complete.is_empty() {
        assert!(sender.send());
    }
    assert_eq!(sender.complete, [16]);
    // No more than the rest of the current quantum.
    assert!(sender.left[..16].iter().sum::<usize>() < MIB + MAX_CHUNK, "{:?}", sender.left);
}

#[test]
fn who_was_idle_has_saved_up_nothing() {
    let mut sender = Sender::new();
    let idle = sender.invoke(Call { argument: Delivery::Stream, ..new_call("m", "") });
    sender.send();
    sender.body(8 * MIB);
    while sender.left[1] < 6 * MIB {
        assert!(sender.send());
    }
    let mut stream = sender.side.connection.send_stream(idle);
    while stream.room().unwrap() > 0 {
        stream.write(vec![7; 1024].into(), false).unwrap();
    }
    sender.body(MAX_CHUNK);
    while !sender.complete.contains(&2) {
        assert!(sender.send());
    }
    assert!(sender.left[0] < 3 * MAX_CHUNK, "{:?}", sender.left);
}

#[test]
fn what_is_large_has_its_turn_beside_any_number_of_small_ones() {
    let mut sender = Sender::new();
    sender.body(MIB);
    (0..4).for_each(|_| sender.body(40_000));
    let mut smalls = 4;
    while sender.complete.last() != Some(&0) {
        assert!(sender.send());
        while smalls < sender.complete.len() + 4 {
            sender.body(40_000);
            smalls += 1;
        }
        assert!(smalls < 400, "it starves: {:?}", sender.left);
    }
}

#[test]
fn a_turn_that_credit_cuts_short_is_a_short_one() {
    const WINDOW: usize = 256 * 1024;
    let mut sender = Sender::new();
    let stream = sender.invoke(Call { argument: Delivery::Stream, ..new_call("m", "") });
    sender.send();
    // Its reader grants credit incrementally.
    sender.first_credit(WINDOW as u64);
    sender.body(8 * MIB);
    let body = StreamId::Call(CallId(1));
    while sender.left[1] < 6 * MIB {
        while sender.side.connection.send_stream(stream).room().unwrap() > 0 {
            sender.side.connection.send_stream(stream).write(vec![7; MAX_CHUNK].into(), false).unwrap();
        }
        let before = sender.left[1];
        assert!(sender.send());
        if sender.left[1] > before {
            sender.credit(body, (sender.left[1] + WINDOW) as u64);
        }
    }
    let share = sender.left[0];
    assert!((5 * MIB..=7 * MIB).contains(&share), "{share} beside {}", sender.left[1]);
}
