//! Checks the packets that one connection sends and receives: call numbers, offsets, credit and the order of replies.
//!
//! It counts these from the packets alone, so that a connection that counts wrongly is noticed even if its peer agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;

use callosum_proto::internals::wire::Credit;
use callosum_proto::internals::wire::dialect2::{Failure, MAX_CHUNK, Piece, RECORD_COST, Record, records};
use callosum_proto::{OrderingKey, Refusal};

/// The packets of one side of a connection.
#[derive(Default)]
pub(super) struct Monitor {
    given: Option<Credit>,
    link_limit: u64,
    link_spent: u64,
    next_open: Option<u64>,
    writes: BTreeMap<u64, SendState>,
    /// Bytes of each call's stream that were received.
    received: BTreeMap<u64, u64>,
    /// Calls for which this side has sent the last record.
    over: BTreeSet<u64>,
    order: ReplyOrder,
}

#[derive(Default)]
struct SendState {
    limit: u64,
    spent: u64,
    offset: u64,
    fin: bool,
}

fn read(packet: &Bytes) -> impl Iterator<Item = Record> {
    records(packet).expect("a packet").map(|record| record.expect("a record"))
}

impl Monitor {
    /// `given` is the credit in the other side's hello. `ordered` says whether this side's replies with the same key leave in
    /// the order of their calls.
    pub(super) fn new(given: Credit, ordered: bool) -> Self {
        let order = ReplyOrder { ordered, ..ReplyOrder::default() };
        Self { given: Some(given), link_limit: given.link, order, ..Self::default() }
    }

    /// Whether a reply has followed a reply of several records with the same key since the last time this was called.
    pub(super) fn has_followed_long_reply(&mut self) -> bool {
        std::mem::take(&mut self.order.followed)
    }

    fn writes(&mut self, call: u64) -> &mut SendState {
        let limit = self.given.map_or(0, |credit| credit.stream);
        self.writes.entry(call).or_insert(SendState { limit, ..SendState::default() })
    }

    /// # Panics
    /// If this side breaks the protocol.
    pub(super) fn on_sent(&mut self, now: Instant, packet: &Bytes) {
        for record in read(packet) {
            // CREDIT and STOP may wait behind a PING in the send queue, and leave after the end of their call.
            let late = matches!(record, Record::Credit { .. } | Record::Stop { .. });
            if let Some(call) = call_of(&record).filter(|_| !late) {
                assert!(!self.over.contains(&call), "{record:?} after the last of its call");
            }
            match record {
                Record::Open { call, piece, .. } => {
                    let next = self.next_open.replace(call + 2).unwrap_or(call % 2);
                    assert_eq!(call, next, "a number is not the next");
                    self.on_first(call, &piece);
                }
                Record::Result { call, piece, .. } => {
                    if piece.fin {
                        self.over.insert(call);
                    }
                    self.on_first(call, &piece);
                    if !(piece.fin && self.order.is_given_up(now, call)) {
                        self.order.answered(call, piece.fin);
                    }
                }
                Record::Fail { call, failure, .. } => {
                    self.over.insert(call);
                    // A handler may fail after its result is complete.
                    let is_complete = self.writes(call).fin;
                    if !is_complete && !is_unordered(&failure) && !self.order.is_given_up(now, call) {
                        self.order.answered(call, true);
                    }
                    // Also that of a result that had begun before, or although, its caller gave it up.
                    self.order.ended(call);
                }
                Record::Cancel { call } => drop(self.over.insert(call)),
                Record::Data { call, offset, piece } => {
                    let size = piece.declared(MAX_CHUNK).expect("no more than a piece may have") as u64;
                    let cost = size + RECORD_COST;
                    self.link_spent += cost;
                    assert!(self.link_spent <= self.link_limit, "more than the connection's credit");
                    let writes = self.writes(call);
                    assert!(!writes.fin && offset == writes.offset, "{call}: {offset} is not next");
                    writes.spent += cost;
                    writes.offset += size;
                    writes.fin = piece.fin;
                    assert!(writes.spent <= writes.limit, "{call}: more than its credit");
                    if piece.fin {
                        self.order.ended(call);
                    }
                }
                Record::Credit { call, consumed, .. } => {
                    let received = self.received.get(&call).copied().unwrap_or(0);
                    assert!(consumed <= received, "{call}: {consumed} consumed of {received}");
                }
                Record::Abort { .. } | Record::Stop { .. } => {}
                Record::LinkCredit { .. } | Record::Goodbye { .. } => {}
            }
        }
    }

    fn on_first(&mut self, call: u64, piece: &Piece) {
        let size = piece.declared(MAX_CHUNK).expect("no more than a piece may have") as u64;
        let writes = self.writes(call);
        assert!(writes.offset == 0 && !writes.fin, "{call} begins twice");
        (writes.offset, writes.fin) = (size, piece.fin);
    }

    pub(super) fn on_received(&mut self, now: Instant, packet: &Bytes) {
        for record in read(packet) {
            match &record {
                Record::Open { call, key, options, .. } => {
                    self.order.asked(*call, key);
                    let deadline = options.remaining.and_then(|left| now.checked_add(left));
                    self.order.deadlines.extend(deadline.map(|at| (*call, at)));
                }
                // The result of a cancelled call may end without a record.
                Record::Cancel { call } => {
                    self.order.deadlines.insert(*call, now);
                    self.order.ended(*call);
                }
                _ => {}
            }
            match record {
                Record::Credit { call, limit, .. } => {
                    let writes = self.writes(call);
                    writes.limit = writes.limit.max(limit);
                }
                Record::LinkCredit { limit } => self.link_limit = self.link_limit.max(limit),
                Record::Open { call, piece, .. }
                | Record::Result { call, piece, .. }
                | Record::Data { call, piece, .. } => {
                    let size = piece.declared(MAX_CHUNK).expect("it was sent so") as u64;
                    *self.received.entry(call).or_default() += size;
                }
                _ => {}
            }
        }
    }
}

/// The order of this side's replies to calls with a key (rule O-17).
#[derive(Default)]
struct ReplyOrder {
    ordered: bool,
    /// The keys of the calls that were received.
    keys: BTreeMap<u64, OrderingKey>,
    /// When their callers gave them up, or will have.
    deadlines: BTreeMap<u64, Instant>,
    /// The last call of each key whose reply has begun.
    last: BTreeMap<OrderingKey, u64>,
    /// Calls whose results are several records, and those of them that are in flight.
    long: BTreeSet<u64>,
    in_flight: BTreeSet<u64>,
    followed: bool,
}

impl ReplyOrder {
    fn asked(&mut self, call: u64, key: &OrderingKey) {
        if self.ordered && key.is_given() {
            self.keys.insert(call, key.clone());
        }
    }

    /// Whether the deadline of a call has passed. Its reply then waits for no order (rule O-18).
    fn is_given_up(&self, now: Instant, call: u64) -> bool {
        self.deadlines.get(&call).is_some_and(|at| *at <= now)
    }

    /// # Panics
    /// If the reply is out of order.
    fn answered(&mut self, call: u64, whole: bool) {
        let Some(key) = self.keys.get(&call) else { return };
        if let Some(last) = self.last.insert(key.clone(), call)
            && last != call
        {
            assert!(last < call, "{call} is answered after {last}, a later call");
            assert!(!self.in_flight.contains(&last), "{call} is answered before the end of {last}");
            self.followed |= self.long.contains(&last);
        }
        match whole {
            true => self.ended(call),
            false => {
                self.long.insert(call);
                self.in_flight.insert(call);
            }
        }
    }

    fn ended(&mut self, call: u64) {
        self.in_flight.remove(&call);
    }
}

/// Whether it refuses a call for lack of room, which is sent out of order (rule O-14).
fn is_unordered(failure: &Failure) -> bool {
    matches!(failure, Failure::Error(info) if Refusal::of(info) == Some(Refusal::Busy))
}

fn call_of(record: &Record) -> Option<u64> {
    match record {
        Record::Open { call, .. }
        | Record::Result { call, .. }
        | Record::Fail { call, .. }
        | Record::Data { call, .. }
        | Record::Cancel { call }
        | Record::Abort { call }
        | Record::Stop { call }
        | Record::Credit { call, .. } => Some(*call),
        Record::LinkCredit { .. } | Record::Goodbye { .. } => None,
    }
}
