//! A listener on the line who does the books of numbers and credit anew.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::wire::Credit;
use crate::wire::dialect2::{MAX_CHUNK, RECORD_COST, Record, records};

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
    /// What the other side gives from the start.
    pub(super) fn new(given: Credit) -> Self {
        Self { given: Some(given), link_limit: given.link, ..Self::default() }
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
                }
                Record::Fail { call, .. } | Record::Cancel { call } => drop(self.over.insert(call)),
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

    fn began(&mut self, call: u64, content: &crate::wire::dialect2::Piece) {
        let size = content.declared(MAX_CHUNK).expect("no more than a piece may have") as u64;
        let writes = self.writes(call);
        assert!(writes.offset == 0 && !writes.fin, "{call} begins twice");
        (writes.offset, writes.fin) = (size, content.fin);
    }

    pub(super) fn heard(&mut self, packet: &Bytes) {
        for record in read(packet) {
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
