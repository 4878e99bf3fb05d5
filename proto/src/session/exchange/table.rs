//! The exchanges of one link: numbers, turns, credit of the link, and what is put together.

#[cfg(feature = "fuzzing")]
mod audit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Exchange, ExchangeId, Sending};
use crate::session::IncomingId;
use crate::wire::dialect2::{MAX_CALL, RECORD_COST};
use crate::{CallId, Urgency};

/// A body that is there as a whole has its turn for so many bytes, in several packets: nobody has any use for half of it, and
/// many that grow at the same time are in each other's way.
const BODY_TURN: u64 = 1024 * 1024;

/// Every so many records, less urgent ones that wait get one, lest they starve.
const STARVED_AFTER: u32 = 8;

/// Credit of the link is given again when this part of what nothing is held in has been used.
const CREDIT_STEP: u64 = 4;

/// Windows are widened by this part of the link's in all. The rest is for what nobody reads.
const GROWTH_PART: u64 = 2;

/// Windows are widened beyond their ordinary width, for long ways, by this part of that.
const EXTRA_PART: u64 = 4;

/// What a session knows of its calls in dialect 2.
#[derive(Debug)]
pub(in crate::session) struct Exchanges {
    table: BTreeMap<ExchangeId, Box<Exchange>>,
    /// Our calls that have left and not ended, by number.
    pub(in crate::session) ours: BTreeMap<u64, CallId>,
    /// The peer's calls of which anything is left.
    pub(in crate::session) theirs: BTreeMap<u64, IncomingId>,
    pub(in crate::session) next_ours: u64,
    pub(in crate::session) next_theirs: u64,
    lanes: [Lane; Urgency::CLASSES],
    next_place: u64,
    turn: u32,
    /// The lane that had the last turn that keeps lanes from starving.
    last_starved: usize,
    /// Exchanges that have credit to give.
    pub(in crate::session) credits: BTreeSet<ExchangeId>,
    /// What DATA to the peer may cost in all, and has.
    pub(in crate::session) link_limit: u64,
    pub(in crate::session) link_spent: u64,
    link: LinkCredit,
    /// Bytes of bodies, not of streams, that have begun to leave.
    pub(in crate::session) body_bytes: usize,
    /// Windows are not widened beyond this in all.
    pub(in crate::session) growth_left: u64,
    /// Reassembly: what may be put together at once, what is, and who waits for room.
    pub(in crate::session) gather_limit: usize,
    pub(in crate::session) gathering: BTreeMap<ExchangeId, usize>,
    gathered: usize,
    pub(in crate::session) gather_queue: VecDeque<(ExchangeId, usize)>,
    /// Those that there is room for are being started.
    pub(in crate::session) is_starting: bool,
    /// The shortest time that an answer took.
    pub(in crate::session) round_trip: Option<Duration>,
}

/// Where a content waits for its turn: behind those whose turns end before, or as early and have waited longer.
pub(in crate::session) type Turn = (u64, u64);

/// Those of one urgency that have something to send, in the order of their turns.
///
/// Turns are as long as what leaves in them, and come as early as they would end if all of these left at the same time and at
/// the same rate (self-clocked fair queueing, Golestani 1994). So each gets its share whatever the length of its turns, and who
/// has little to send is done early.
#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeMap<Turn, ExchangeId>,
    /// Bytes that each might have had by now: as many as the one that has had most.
    time: u64,
}

impl Lane {
    fn put(&mut self, id: ExchangeId, send: &mut Sending, turn: Turn) {
        send.turn = Some(turn);
        self.waiting.insert(turn, id);
    }
}

/// What the peer may send of all contents together.
#[derive(Debug)]
struct LinkCredit {
    window: u64,
    limit: u64,
    spent: u64,
    consumed: u64,
}

/// DATA that the link had no credit for, or a number that no call can have.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) struct Exceeded;

impl Exchanges {
    /// `connector` decides which numbers are ours; `link_window` and `gather_limit` are in bytes.
    pub(in crate::session) fn new(connector: bool, link_window: u64, gather_limit: usize) -> Self {
        Self {
            table: BTreeMap::new(),
            ours: BTreeMap::new(),
            theirs: BTreeMap::new(),
            next_ours: u64::from(!connector),
            next_theirs: u64::from(connector),
            lanes: Default::default(),
            next_place: 0,
            turn: 0,
            last_starved: 0,
            credits: BTreeSet::new(),
            link_limit: 0,
            link_spent: 0,
            link: LinkCredit { window: link_window, limit: link_window, spent: 0, consumed: 0 },
            body_bytes: 0,
            growth_left: link_window / GROWTH_PART,
            gather_limit,
            gathering: BTreeMap::new(),
            gathered: 0,
            gather_queue: VecDeque::new(),
            is_starting: false,
            round_trip: None,
        }
    }

    pub(in crate::session) fn get_mut(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.table.get_mut(&id).map(Box::as_mut)
    }

    pub(in crate::session) fn insert(&mut self, id: ExchangeId, exchange: Exchange) -> &mut Exchange {
        self.table.entry(id).or_insert_with(|| Box::new(exchange))
    }

    /// Forgets an exchange; gives back what nobody will take.
    pub(in crate::session) fn remove(&mut self, id: ExchangeId) -> Option<Exchange> {
        self.take_send(id);
        self.take_receive(id);
        let exchange = *self.table.remove(&id)?;
        self.end_gathering(id);
        self.credits.remove(&id);
        if let (ExchangeId::Theirs(_), Some(wire)) = (id, exchange.wire) {
            self.theirs.remove(&wire);
        }
        Some(exchange)
    }

    /// Nothing more of a content is read.
    pub(in crate::session) fn take_receive(&mut self, id: ExchangeId) {
        if let Some(mut receive) = self.get_mut(id).and_then(|exchange| exchange.receive.take()) {
            let freed = receive.fail(super::ContentError::NotOpen);
            self.consume(freed);
            self.growth_left += receive.growth();
        }
    }

    /// Nothing more of a content is sent.
    pub(in crate::session) fn take_send(&mut self, id: ExchangeId) -> Option<Sending> {
        let exchange = self.table.get_mut(&id)?;
        let send = exchange.send.take()?;
        if let Some(turn) = send.turn {
            self.lanes[lane(exchange)].waiting.remove(&turn);
        }
        if std::mem::take(&mut exchange.whole_body) {
            self.body_bytes -= send.queued();
        }
        Some(send)
    }

    pub(in crate::session) fn len(&self) -> usize {
        self.table.len()
    }

    /// Takes a number for a call of ours, unless all are used up.
    pub(in crate::session) fn allocate(&mut self, call: CallId) -> Option<u64> {
        let wire = Some(self.next_ours).filter(|wire| *wire <= MAX_CALL)?;
        self.next_ours += 2;
        self.ours.insert(wire, call);
        Some(wire)
    }

    /// Whether the number is of the kind that this side gives to its calls.
    pub(in crate::session) fn is_ours(&self, wire: u64) -> bool {
        wire % 2 == self.next_ours % 2
    }

    /// Whether a call had this number at some time.
    pub(in crate::session) fn was_used(&self, wire: u64) -> bool {
        wire < if self.is_ours(wire) { self.next_ours } else { self.next_theirs }
    }

    /// Which exchange a number stands for, if its call has not ended.
    pub(in crate::session) fn find(&self, wire: u64) -> Option<ExchangeId> {
        match self.is_ours(wire) {
            true => self.ours.get(&wire).map(|call| ExchangeId::Ours(*call)),
            false => self.theirs.get(&wire).map(|id| ExchangeId::Theirs(*id)),
        }
    }

    /// Puts an exchange in its lane, if it has something to send and credit for it.
    pub(in crate::session) fn schedule(&mut self, id: ExchangeId) {
        let Some(exchange) = self.table.get_mut(&id) else { return };
        let lane = &mut self.lanes[lane(exchange)];
        if exchange.begun
            && let Some(send) = &mut exchange.send
            && send.turn.is_none()
            && send.is_ready()
        {
            let length = match exchange.whole_body {
                true => (send.queued() as u64).min(BODY_TURN),
                false => send.next_len() as u64,
            };
            // A turn that credit cuts short is a short one.
            let length = length.min(send.credit_left());
            send.served = send.served.max(lane.time);
            self.next_place += 1;
            lane.put(id, send, (send.served + RECORD_COST + length, self.next_place));
        }
    }

    /// Whose turn it is to send a record, and what to give to [`keep_turn`](Self::keep_turn).
    pub(in crate::session) fn next_turn(&mut self) -> Option<(ExchangeId, Turn)> {
        let mut filled = (0..Urgency::CLASSES).filter(|lane| !self.lanes[*lane].waiting.is_empty());
        let mut lane = filled.next()?;
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(STARVED_AFTER) {
            // One after the other, and round again.
            let mut others = filled.clone();
            let next = others.find(|other| *other > self.last_starved).or_else(|| filled.next());
            lane = next.unwrap_or(lane);
            self.last_starved = lane;
        }
        let lane = &mut self.lanes[lane];
        let (turn, id) = lane.waiting.pop_first()?;
        if let Some(send) = self.get_mut(id).and_then(|exchange| exchange.send.as_mut()) {
            send.turn = None;
        }
        Some((id, turn))
    }

    /// Counts a record that was sent.
    pub(in crate::session) fn count_served(&mut self, id: ExchangeId, cost: u64) {
        let Some(exchange) = self.table.get_mut(&id) else { return };
        let lane = &mut self.lanes[lane(exchange)];
        if let Some(send) = &mut exchange.send {
            send.served += cost;
            lane.time = lane.time.max(send.served);
        }
    }

    /// A turn goes on after a record if there is more of it. What has had its turn waits for the next one.
    pub(in crate::session) fn end_turn(&mut self, id: ExchangeId, turn: Turn) {
        let goes_on = self.table.get(&id).is_some_and(|exchange| {
            exchange.whole_body && exchange.send.as_ref().is_some_and(|send| send.served < turn.0)
        });
        match goes_on {
            true => self.keep_turn(id, turn),
            false => self.schedule(id),
        }
    }

    /// Its turn is not over, unless its credit is.
    pub(in crate::session) fn keep_turn(&mut self, id: ExchangeId, turn: Turn) {
        let Some(exchange) = self.table.get_mut(&id) else { return };
        let lane = &mut self.lanes[lane(exchange)];
        if let Some(send) = &mut exchange.send
            && send.is_ready()
        {
            lane.put(id, send, turn);
        }
    }

    pub(in crate::session) fn link_credit(&self) -> u64 {
        self.link_limit.saturating_sub(self.link_spent)
    }

    /// Counts what a DATA record of the peer cost.
    pub(in crate::session) fn spend(&mut self, cost: u64) -> Result<(), Exceeded> {
        let spent = self.link.spent.checked_add(cost).ok_or(Exceeded)?;
        if spent > self.link.limit {
            return Err(Exceeded);
        }
        self.link.spent = spent;
        Ok(())
    }

    /// Counts what was taken, or dropped, of what [`spend`](Self::spend) counted.
    pub(in crate::session) fn consume(&mut self, cost: u64) {
        self.link.consumed += cost;
    }

    /// The link's limit to tell the peer, if it is time to.
    pub(in crate::session) fn link_credit_due(&mut self) -> Option<u64> {
        // Not of the window: contents that nobody reads may hold most of it, and the others go on with the rest.
        let free = self.link.window.saturating_sub(self.held());
        let target = self.link.consumed.saturating_add(self.link.window);
        if target.saturating_sub(self.link.limit) < (free / CREDIT_STEP).max(1) {
            return None;
        }
        self.link.limit = target;
        Some(target)
    }

    /// Credit that was spent and not given back: what is held of contents.
    pub(in crate::session) fn held(&self) -> u64 {
        self.link.spent - self.link.consumed
    }

    /// Notes that an exchange may have credit to give.
    pub(in crate::session) fn owe_credit(&mut self, id: ExchangeId) {
        if self.table.contains_key(&id) {
            self.credits.insert(id);
        }
    }

    /// Somebody reads a content: its window becomes an ordinary one, if there is room.
    pub(in crate::session) fn open_window(&mut self, id: ExchangeId, window: u64) {
        let receive = self.table.get_mut(&id).and_then(|exchange| exchange.receive.as_mut());
        if receive.is_some_and(|receive| receive.open(window, &mut self.growth_left)) {
            self.credits.insert(id);
        }
    }

    /// A content is put together from now on.
    pub(in crate::session) fn open_wholly(&mut self, id: ExchangeId, window: u64) {
        let receive = self.table.get_mut(&id).and_then(|exchange| exchange.receive.as_mut());
        match receive.is_some_and(super::Receiving::open_wholly) {
            true => drop(self.credits.insert(id)),
            false => self.open_window(id, window),
        }
    }

    /// The CREDIT that is due for a content: what was taken, and the limit.
    pub(in crate::session) fn credit_due(&mut self, id: ExchangeId, now: Instant) -> Option<(u64, u64)> {
        let kept = (self.link.window / GROWTH_PART) / EXTRA_PART * (EXTRA_PART - 1);
        let left = &mut self.growth_left;
        let grow = |by| match left.checked_sub(by) {
            Some(after) if after >= kept => {
                *left = after;
                true
            }
            _ => false,
        };
        let receive = self.table.get_mut(&id)?.receive.as_mut()?;
        receive.credit_due(now, self.round_trip, grow)
    }

    /// Takes the next that may be put together, if there is room for it.
    pub(in crate::session) fn next_gathering(&mut self) -> Option<(ExchangeId, usize)> {
        let (id, size) = *self.gather_queue.front()?;
        // One alone may be larger than all the room.
        if self.gathered > 0 && self.gathered.saturating_add(size) > self.gather_limit {
            return None;
        }
        self.gather_queue.pop_front();
        self.gathered += size;
        self.gathering.insert(id, size);
        Some((id, size))
    }

    pub(in crate::session) fn end_gathering(&mut self, id: ExchangeId) {
        match self.gathering.remove(&id) {
            Some(size) => self.gathered -= size,
            None => self.gather_queue.retain(|(waiting, _)| *waiting != id),
        }
    }

    /// The link is gone. What has come as a whole can still be read.
    pub(in crate::session) fn clear(&mut self) {
        self.table.retain(|_, exchange| {
            exchange.over && exchange.receive.as_ref().is_some_and(super::Receiving::is_readable)
        });
        self.ours.clear();
        self.theirs.clear();
        self.lanes = Default::default();
        self.credits.clear();
        let unread = self.table.values().filter_map(|exchange| exchange.receive.as_ref());
        let (held, growth) = unread.fold((0, 0), |(held, growth), receive| {
            (held + receive.unread_cost(), growth + receive.growth())
        });
        self.link.consumed = self.link.spent - held;
        self.growth_left = self.link.window / GROWTH_PART - growth;
        self.body_bytes = 0;
        self.gathering.clear();
        self.gathered = 0;
        self.gather_queue.clear();
    }
}

/// The lane of an exchange.
fn lane(exchange: &Exchange) -> usize {
    usize::from(exchange.urgency.get())
}
