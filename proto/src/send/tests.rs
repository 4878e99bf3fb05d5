//! The policy and the queues, each alone.

use bytes::Bytes;

use super::queue::Overflow;
use super::*;
use crate::ids::{CallId, StreamId};
use crate::multipart::Multipart;
use crate::stream::SendHalf;
use crate::wire::{Failure, MAX_CHUNK, RECORD_COST};
use crate::{ErrorInfo, Metadata, OrderingKey, Urgency};

const KIB: usize = 1024;

/// Which kinds have something to send.
#[derive(Clone, Copy)]
struct Waiting {
    control: bool,
    message: bool,
    data: bool,
}

const CONTROL: Waiting = Waiting { control: true, message: false, data: false };
const MESSAGE: Waiting = Waiting { control: false, message: true, data: false };
const DATA: Waiting = Waiting { control: false, message: false, data: true };
const BOTH: Waiting = Waiting { message: true, ..DATA };
const ALL: Waiting = Waiting { control: true, message: true, data: true };
const NOTHING: Waiting = Waiting { control: false, message: false, data: false };

fn next(policy: &mut Policy, len: usize, waiting: Waiting) -> Option<Kind> {
    policy.next(len, |kind| match kind {
        Kind::Control => waiting.control,
        Kind::Message => waiting.message,
        Kind::Data => waiting.data,
    })
}

/// Fills one packet, to which each record adds `of_each` bytes. Returns the kinds in it, with the number of
/// their records.
fn packet(policy: &mut Policy, waiting: Waiting, of_each: usize) -> Vec<(Kind, usize)> {
    let (mut len, mut kinds) = (0, Vec::<(Kind, usize)>::new());
    policy.begin();
    while let Some(kind) = next(policy, len, waiting) {
        policy.sent(kind, of_each);
        len += of_each;
        match kinds.last_mut() {
            Some((last, count)) if *last == kind => *count += 1,
            _ => kinds.push((kind, 1)),
        }
        assert!(len < 1 << 20, "there is no end to it");
    }
    kinds
}

#[test]
fn a_packet_is_filled_up_to_the_target_of_its_kind() {
    let mut policy = Policy::default();
    assert_eq!(packet(&mut policy, CONTROL, 100), [(Kind::Control, 164)], "16 KiB");
    assert_eq!(packet(&mut policy, MESSAGE, 100), [(Kind::Message, 11)], "1 KiB");
    assert_eq!(packet(&mut policy, DATA, 10 * KIB), [(Kind::Data, 7)], "64 KiB");
    assert_eq!(packet(&mut policy, NOTHING, 1), []);
    // The last record may exceed the target.
    assert_eq!(packet(&mut policy, MESSAGE, 10 * KIB), [(Kind::Message, 1)]);
    assert_eq!(packet(&mut policy, DATA, 100 * KIB), [(Kind::Data, 1)]);
}

#[test]
fn control_goes_first_and_what_follows_fills_the_packet() {
    let mut policy = Policy::default();
    policy.begin();
    assert_eq!(next(&mut policy, 0, ALL), Some(Kind::Control));
    assert_eq!(next(&mut policy, 100, BOTH), Some(Kind::Message));
    assert_eq!(
        next(&mut policy, 200, ALL),
        Some(Kind::Message),
        "control that comes later is for the next packet"
    );
    assert_eq!(next(&mut policy, 300, DATA), Some(Kind::Data), "no message waits any more");
    assert_eq!(next(&mut policy, 400, NOTHING), None);
    // Control records that fill a packet leave no room for others.
    assert_eq!(packet(&mut Policy::default(), ALL, KIB), [(Kind::Control, 16)]);
}

#[test]
fn data_leaves_only_when_no_message_waits() {
    let mut policy = Policy::default();
    assert_eq!(packet(&mut policy, BOTH, 500), [(Kind::Message, 3)]);
    policy.begin();
    assert_eq!(next(&mut policy, 0, BOTH), Some(Kind::Message));
    assert_eq!(next(&mut policy, 2 * KIB, BOTH), None, "the packet leaves as it is");
    policy.begin();
    assert_eq!(next(&mut policy, 0, DATA), Some(Kind::Data));
}

#[test]
fn after_64_kib_of_messages_64_kib_of_data_go_first() {
    let mut policy = Policy::default();
    let mut messages = 0;
    loop {
        match packet(&mut policy, BOTH, KIB)[..] {
            [(Kind::Message, 1)] => messages += 1,
            // Data fills the packet, so that no message follows.
            [(Kind::Data, 64)] => break,
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(messages, 64);
    assert_eq!(packet(&mut policy, BOTH, KIB), [(Kind::Message, 1)], "and then it begins again");
    // The rest of the share goes first in the next packet.
    let mut policy = Policy::default();
    (0..64).for_each(|_| drop(packet(&mut policy, BOTH, KIB)));
    policy.begin();
    assert_eq!(next(&mut policy, 0, BOTH), Some(Kind::Data));
    policy.sent(Kind::Data, 60 * KIB);
    policy.begin();
    assert_eq!(next(&mut policy, 0, BOTH), Some(Kind::Data));
    policy.sent(Kind::Data, 4 * KIB);
    assert_eq!(next(&mut policy, 4 * KIB, BOTH), None);
    policy.begin();
    assert_eq!(next(&mut policy, 0, BOTH), Some(Kind::Message));
}

#[test]
fn a_share_is_not_saved_up() {
    let mut policy = Policy::default();
    (0..64).for_each(|_| drop(packet(&mut policy, MESSAGE, KIB)));
    // There was no data when the share was due.
    assert_eq!(packet(&mut policy, MESSAGE, KIB), [(Kind::Message, 1)]);
    assert_eq!(packet(&mut policy, BOTH, KIB), [(Kind::Message, 1)]);
    // When no message waits, data has its share, too.
    let mut policy = Policy::default();
    (0..63).for_each(|_| drop(packet(&mut policy, BOTH, KIB)));
    packet(&mut policy, DATA, KIB);
    assert_eq!(packet(&mut policy, BOTH, KIB), [(Kind::Message, 1)]);
    assert_eq!(packet(&mut policy, BOTH, KIB), [(Kind::Message, 1)]);
}

/// Streams and their queue, with unlimited credit.
#[derive(Default)]
struct Streams {
    queue: StreamQueue,
    streams: Vec<(Urgency, SendHalf)>,
}

impl Streams {
    /// Adds a body with all of its bytes, or a stream that is written again whenever it has nothing left.
    fn add(&mut self, urgency: u8, body: Option<usize>) -> usize {
        let urgency = Urgency::new(urgency).unwrap();
        let mut half = SendHalf::new(u64::MAX, false);
        half.start(0, Bytes::from(vec![0; body.unwrap_or(0)]), true);
        half.fixed_length = body.is_some();
        let place = self.streams.len();
        self.streams.push((urgency, half));
        self.schedule(place);
        place
    }

    fn schedule(&mut self, place: usize) {
        let (urgency, half) = &mut self.streams[place];
        self.queue.enqueue(StreamId::Call(CallId(place as u64)), *urgency, half);
    }

    fn write(&mut self, place: usize, len: usize) {
        self.streams[place].1.push(vec![0; len].into(), false);
        self.schedule(place);
    }

    /// Sends the next DATA; returns its stream and its bytes.
    fn send(&mut self) -> Option<(usize, usize)> {
        let (id, order) = self.queue.pop()?;
        let StreamId::Call(CallId(place)) = id else { panic!("{id:?}") };
        let (urgency, half) = &mut self.streams[place as usize];
        half.order = None;
        let data = half.next(MAX_CHUNK, u64::MAX).expect("it has something to send");
        self.queue.sent(id, *urgency, half, data.cost, order);
        Some((place as usize, data.bytes.len()))
    }
}

/// The example in the header of `streams.rs`.
#[test]
fn a_small_stream_does_not_wait_for_a_body_and_both_get_half() {
    let mut streams = Streams::default();
    let (body, stream) = (streams.add(3, Some(8 << 20)), streams.add(3, None));
    streams.write(stream, 10 * KIB);
    assert_eq!(streams.send(), Some((stream, 10 * KIB)), "its quantum ends first");
    let mut left = [0; 2];
    while left[body] < 4 << 20 {
        streams.write(stream, 10 * KIB);
        let (place, bytes) = streams.send().unwrap();
        left[place] += bytes;
    }
    let half = 4 << 20;
    assert!((half - (1 << 20)..half + (1 << 20)).contains(&left[stream]), "{left:?}");
}

#[test]
fn a_body_leaves_in_quanta_of_a_mib() {
    let mut streams = Streams::default();
    let bodies = [streams.add(3, Some(2 << 20)), streams.add(3, Some(2 << 20))];
    let mut order = Vec::new();
    while let Some((place, bytes)) = streams.send() {
        match order.last_mut() {
            Some((last, sum)) if *last == place => *sum += bytes,
            _ => order.push((place, bytes)),
        }
    }
    // A quantum counts the cost of its records, so it may have a record more or less.
    let quantum = (1 << 20) - MAX_CHUNK..=(1 << 20) + MAX_CHUNK;
    assert!(order.len() <= 5 && quantum.contains(&order[0].1) && quantum.contains(&order[1].1), "{order:?}");
    assert_eq!([order[0].0, order[1].0], bodies);
    assert!(streams.queue.is_empty() && streams.streams.iter().all(|(_, half)| half.order.is_none()));
}

#[test]
fn a_stream_that_was_idle_has_saved_up_nothing() {
    let mut streams = Streams::default();
    let (busy, idle) = (streams.add(3, Some(8 << 20)), streams.add(3, None));
    (0..64).for_each(|_| assert_eq!(streams.send().unwrap().0, busy));
    let mut left = [0; 2];
    for _ in 0..64 {
        streams.write(idle, MAX_CHUNK);
        let (place, bytes) = streams.send().unwrap();
        left[place] += bytes;
    }
    assert!(left[busy] >= 1 << 20, "{left:?}");
}

#[test]
fn one_data_in_eight_goes_round_the_less_urgent_classes() {
    let mut streams = Streams::default();
    for urgency in [0, 3, 5, 7] {
        streams.add(urgency, Some(64 << 20));
    }
    let order: Vec<usize> = (0..48).map(|_| streams.send().unwrap().0).collect();
    let (urgent, relieved): (Vec<_>, Vec<_>) = order.iter().enumerate().partition(|(n, _)| (n + 1) % 8 > 0);
    assert!(urgent.iter().all(|(_, place)| **place == 0), "{order:?}");
    assert_eq!(relieved.into_iter().map(|(_, place)| *place).collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3]);
    // A single class gets everything.
    let mut streams = Streams::default();
    let only = streams.add(7, Some(64 << 20));
    assert!((0..48).all(|_| streams.send().unwrap().0 == only));
}

#[test]
fn a_stream_that_is_removed_or_keeps_its_place_is_queued_once() {
    let mut streams = Streams::default();
    let (first, second) = (streams.add(3, Some(100 * KIB)), streams.add(3, Some(100 * KIB)));
    streams.schedule(first);
    let (id, order) = streams.queue.pop().unwrap();
    let (urgency, half) = &mut streams.streams[first];
    half.order = None;
    streams.queue.requeue(id, *urgency, half, order);
    assert_eq!(streams.queue.len(), 2);
    let (urgency, half) = &streams.streams[first];
    streams.queue.remove(*urgency, half);
    assert_eq!(streams.send().unwrap().0, second);
    let (urgency, half) = &streams.streams[second];
    streams.queue.remove(*urgency, half);
    assert!(streams.queue.is_empty());
}

#[test]
fn a_quantum_that_credit_cuts_short_is_a_short_one() {
    let mut queue = StreamQueue::default();
    let mut half = SendHalf::new(10 * KIB as u64, false);
    half.start(0, Bytes::from(vec![0; 1 << 20]), true);
    half.fixed_length = true;
    queue.enqueue(StreamId::Call(CallId(0)), Urgency::DEFAULT, &mut half);
    assert_eq!(half.order.map(|(finish, _)| finish), Some(10 * KIB as u64));
    assert_eq!(half.credit_left() + RECORD_COST, 10 * KIB as u64);
}

fn call(number: u64, len: usize) -> Queued {
    keyed(number, "", len)
}

fn keyed(number: u64, key: &str, len: usize) -> Queued {
    let key = if key.is_empty() { OrderingKey::none() } else { OrderingKey::text(key) };
    Queued::Call(QueuedCall {
        call: CallId(number),
        method: "m".into(),
        key,
        body: vec![0; len].into(),
        metadata: Metadata::new(),
        is_stream: false,
        compress: false,
    })
}

fn reply(number: u64, unsolicited: bool) -> QueuedReply {
    let body = ReplyBody::from(Failure::Error(ErrorInfo::new("n", "r")));
    let (key, metadata) = (OrderingKey::none(), Metadata::new());
    QueuedReply { number, key, names: 1, body, metadata, unsolicited }
}

fn number(queued: Option<Queued>) -> Option<u64> {
    queued.map(|queued| match queued {
        Queued::Call(call) => call.call.0,
        Queued::Reply(reply) => reply.number,
    })
}

fn push(queue: &mut SendQueue, number: u64, key: &str, urgency: u8) -> Place {
    queue.push(keyed(number, key, 0), Urgency::new(urgency).unwrap())
}

fn drain(queue: &mut SendQueue) -> Vec<u64> {
    std::iter::from_fn(|| number(queue.pop())).collect()
}

#[test]
fn messages_leave_by_urgency_then_first_in_first_out() {
    let mut queue = SendQueue::default();
    for (n, urgency) in [7, 3, 0, 3, 7, 0].into_iter().enumerate() {
        push(&mut queue, n as u64, "", urgency);
    }
    assert_eq!(number(queue.peek().map(|_| call(2, 0))), Some(2));
    assert_eq!(drain(&mut queue), [2, 5, 1, 3, 0, 4]);
    assert!(queue.is_empty() && !queue.has_messages() && queue.bytes() == 0);
}

#[test]
fn messages_of_one_key_and_kind_keep_their_order() {
    let mut queue = SendQueue::default();
    push(&mut queue, 0, "k", 5);
    push(&mut queue, 1, "k", 0);
    push(&mut queue, 2, "l", 0);
    let reply = QueuedReply { key: OrderingKey::text("k"), ..reply(3, false) };
    queue.push(Queued::Reply(reply), Urgency::MOST);
    assert_eq!(drain(&mut queue), [2, 3, 0, 1], "replies are a kind of their own");
    // Once no message with the key waits, the next one has its own urgency.
    let place = push(&mut queue, 4, "k", 7);
    push(&mut queue, 5, "", 3);
    assert_eq!(number(queue.remove(place)), Some(4));
    assert_eq!(number(queue.remove(place)), None);
    push(&mut queue, 6, "k", 0);
    assert_eq!(drain(&mut queue), [6, 5]);
}

#[test]
fn a_message_that_is_taken_back_holds_up_no_later_one_of_its_key() {
    let mut queue = SendQueue::default();
    push(&mut queue, 0, "k", 0);
    let place = push(&mut queue, 1, "k", 7);
    assert_eq!(number(queue.remove(place)), Some(1));
    push(&mut queue, 2, "", 3);
    push(&mut queue, 3, "k", 0);
    let place = push(&mut queue, 4, "k", 7);
    push(&mut queue, 5, "k", 5);
    queue.remove(place);
    // Behind 5, which had to follow 4.
    push(&mut queue, 6, "k", 0);
    queue.audit(0);
    assert_eq!(drain(&mut queue), [0, 3, 2, 5, 6]);
}

#[test]
fn messages_that_are_taken_back_leave_nothing_behind() {
    let mut queue = SendQueue::default();
    push(&mut queue, 0, "stays", 3);
    let bytes = queue.bytes();
    for n in 1..=1_000_000 {
        let place = push(&mut queue, n, "k", (n % 8) as u8);
        assert_eq!(number(queue.remove(place)), Some(n));
    }
    assert_eq!((queue.bytes(), queue.len()), (bytes, 1));
    assert_eq!(drain(&mut queue), [0]);
}

#[test]
fn bytes_are_those_of_what_waits() {
    let mut queue = SendQueue::default();
    let first = queue.push(call(0, 100), Urgency::DEFAULT);
    queue.push(call(1, 1_000), Urgency::DEFAULT);
    assert_eq!(queue.bytes(), 2 * (MESSAGE_OVERHEAD + 1) + 1_100);
    assert_eq!(queue.larger_than(100).len(), 1);
    assert_eq!(queue.larger_than(99), [first, queue.larger_than(100)[0]]);
    queue.remove(first);
    assert_eq!(queue.bytes(), MESSAGE_OVERHEAD + 1 + 1_000);
    let place = queue.push(Queued::Reply(reply(2, false)), Urgency::DEFAULT);
    queue.change_reply(place, |reply| reply.body = ReplyBody::Stream { size: None, compress: false });
    queue.pop();
    assert_eq!(queue.bytes(), MESSAGE_OVERHEAD + 1);
    queue.pop();
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn what_the_peer_causes_is_limited_at_the_edge() {
    const MAX: usize = 4 << 20;
    let pong = |len: usize| Multipart::new(Bytes::new(), Bytes::new(), vec![0; len].into());
    let room = MAX - MESSAGE_OVERHEAD - pong(0).size();
    let mut queue = SendQueue::default();
    assert_eq!(queue.push_pong(pong(room + 1), false), Err(Overflow));
    assert!(queue.is_empty());
    queue.push_pong(pong(room), false).unwrap();
    assert_eq!((queue.count_unsolicited(0), queue.count_unsolicited(1)), (Ok(()), Err(Overflow)));
    // Sent answers make room again.
    assert!(matches!(queue.pop_control(false), Some(Control::Pong(_))));
    let refusal = reply(1, true);
    let size = refusal.size();
    queue.count_unsolicited(size).unwrap();
    queue.push(Queued::Reply(refusal), Urgency::DEFAULT);
    assert_eq!(
        (queue.count_unsolicited(MAX - size + 1), queue.count_unsolicited(MAX - size)),
        (Err(Overflow), Ok(()))
    );
    queue.pop();
    assert_eq!((queue.count_unsolicited(size + 1), queue.count_unsolicited(size)), (Err(Overflow), Ok(())));
}

#[test]
fn only_the_handshake_leaves_before_it_is_complete() {
    let message = || Multipart::new(Bytes::new(), Bytes::new(), Bytes::new());
    let mut queue = SendQueue::default();
    queue.push_control(Control::Ping(0));
    queue.push_control(Control::Hello(message()));
    queue.push_pong(message(), false).unwrap();
    queue.push_pong(Multipart::new(Bytes::new(), Bytes::new(), "first".into()), true).unwrap();
    assert!(matches!(queue.pop_control(false), Some(Control::Pong(first)) if first.size() == 5));
    assert!(matches!(queue.pop_control(false), Some(Control::Hello(_))));
    assert!(matches!(queue.pop_control(false), Some(Control::Pong(_))));
    assert!(queue.pop_control(false).is_none());
    queue.remove_ping(1);
    assert!(matches!(queue.pop_control(true), Some(Control::Ping(0))));
    assert!(queue.is_empty());
}
