//! A listener on the line who does the books of numbers, credit and turns anew.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use callosum_proto::OrderingKey;
use callosum_proto::internals::wire::Credit;
use callosum_proto::internals::wire::dialect2::{Failure, MAX_CHUNK, RECORD_COST, Record, records};
use callosum_proto::session::Refusal;

/// What one side of a link has said, and been told.
#[derive(Default)]
pub(super) struct Tap {
    given: Option<Credit>,
    link_limit: u64,
    link_spent: u64,
    next_open: Option<u64>,
    writes: BTreeMap<u64, Writes>,
    /// Bytes of content that have come, by call.
    came: BTreeMap<u64, u64>,
    /// Calls of which this side has said the last.
    over: BTreeSet<u64>,
    turns: Turns,
}

#[derive(Default)]
struct Writes {
    limit: u64,
    spent: u64,
    offset: u64,
    fin: bool,
}

fn read(packet: &Bytes) -> impl Iterator<Item = Record> {
    records(packet).expect("a packet").map(|record| record.expect("a record"))
}

impl Tap {
    /// What the other side gives from the start, and whether this side's answers with a key leave in the order of their calls.
    pub(super) fn new(given: Credit, ordered: bool) -> Self {
        let turns = Turns { ordered, ..Turns::default() };
        Self { given: Some(given), link_limit: given.link, turns, ..Self::default() }
    }

    /// Whether an answer has followed another with its key, which was more than one record, since this was last asked.
    pub(super) fn has_taken_turns(&mut self) -> bool {
        std::mem::take(&mut self.turns.taken)
    }

    fn writes(&mut self, call: u64) -> &mut Writes {
        let limit = self.given.map_or(0, |credit| credit.stream);
        self.writes.entry(call).or_insert(Writes { limit, ..Writes::default() })
    }

    /// # Panics
    /// If this side says what it may not.
    pub(super) fn sent(&mut self, packet: &Bytes) {
        for record in read(packet) {
            // A probe in the queue may hold up what is said of a content beyond the end of its call.
            let late = matches!(record, Record::Credit { .. } | Record::Stop { .. });
            if let Some(call) = call_of(&record).filter(|_| !late) {
                assert!(!self.over.contains(&call), "{record:?} after the last of its call");
            }
            match record {
                Record::Open { call, content, .. } => {
                    let next = self.next_open.replace(call + 2).unwrap_or(call % 2);
                    assert_eq!(call, next, "a number is not the next");
                    self.began(call, &content);
                }
                Record::Result { call, content, .. } => {
                    if content.fin {
                        self.over.insert(call);
                    }
                    self.began(call, &content);
                    self.turns.answered(call, content.fin);
                }
                Record::Fail { call, failure, .. } => {
                    self.over.insert(call);
                    // A handler may outlive its result.
                    let is_complete = self.writes(call).fin;
                    if !is_complete && !is_out_of_turn(&failure) {
                        self.turns.answered(call, true);
                    }
                }
                Record::Cancel { call } => drop(self.over.insert(call)),
                Record::Data { call, offset, content } => {
                    let size = content.declared(MAX_CHUNK).expect("no more than a piece may have") as u64;
                    let cost = size + RECORD_COST;
                    self.link_spent += cost;
                    assert!(self.link_spent <= self.link_limit, "more than the link's credit");
                    let writes = self.writes(call);
                    assert!(!writes.fin && offset == writes.offset, "{call}: {offset} is not next");
                    writes.spent += cost;
                    writes.offset += size;
                    writes.fin = content.fin;
                    assert!(writes.spent <= writes.limit, "{call}: more than its credit");
                    if content.fin {
                        self.turns.ended(call);
                    }
                }
                Record::Credit { call, consumed, .. } => {
                    let came = self.came.get(&call).copied().unwrap_or(0);
                    assert!(consumed <= came, "{call}: {consumed} taken of {came}");
                }
                Record::Abort { .. } | Record::Stop { .. } => {}
                Record::LinkCredit { .. } | Record::Goodbye { .. } => {}
            }
        }
    }

    fn began(&mut self, call: u64, content: &callosum_proto::internals::wire::dialect2::Piece) {
        let size = content.declared(MAX_CHUNK).expect("no more than a piece may have") as u64;
        let writes = self.writes(call);
        assert!(writes.offset == 0 && !writes.fin, "{call} begins twice");
        (writes.offset, writes.fin) = (size, content.fin);
    }

    pub(super) fn heard(&mut self, packet: &Bytes) {
        for record in read(packet) {
            match &record {
                Record::Open { call, key, .. } => self.turns.asked(*call, key),
                // Its result may be given up without a word.
                Record::Cancel { call } => self.turns.ended(*call),
                _ => {}
            }
            match record {
                Record::Credit { call, limit, .. } => {
                    let writes = self.writes(call);
                    writes.limit = writes.limit.max(limit);
                }
                Record::LinkCredit { limit } => self.link_limit = self.link_limit.max(limit),
                Record::Open { call, content, .. }
                | Record::Result { call, content, .. }
                | Record::Data { call, content, .. } => {
                    let size = content.declared(MAX_CHUNK).expect("it was sent so") as u64;
                    *self.came.entry(call).or_default() += size;
                }
                _ => {}
            }
        }
    }
}

/// The answers of this side to calls with a key (rule O-17).
#[derive(Default)]
struct Turns {
    ordered: bool,
    /// Of the calls that have come, if they have one.
    keys: BTreeMap<u64, OrderingKey>,
    /// The last call with a key that was answered, or is being answered.
    last: BTreeMap<OrderingKey, u64>,
    /// Those whose results are more than one record, and those of them that go on.
    long: BTreeSet<u64>,
    leaving: BTreeSet<u64>,
    taken: bool,
}

impl Turns {
    fn asked(&mut self, call: u64, key: &OrderingKey) {
        if self.ordered && key.is_given() {
            self.keys.insert(call, key.clone());
        }
    }

    /// # Panics
    /// If it was not the call's turn.
    fn answered(&mut self, call: u64, whole: bool) {
        let Some(key) = self.keys.get(&call) else { return };
        if let Some(last) = self.last.insert(key.clone(), call)
            && last != call
        {
            assert!(last < call, "{call} is answered after {last}, which came later");
            assert!(!self.leaving.contains(&last), "{call} is answered before the end of {last}");
            self.taken |= self.long.contains(&last);
        }
        match whole {
            true => self.ended(call),
            false => {
                self.long.insert(call);
                self.leaving.insert(call);
            }
        }
    }

    fn ended(&mut self, call: u64) {
        self.leaving.remove(&call);
    }
}

/// Whether it is the answer to a call for which there was no room (rule O-14).
fn is_out_of_turn(failure: &Failure) -> bool {
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
