//! What leaves in dialect 2: which records share a packet.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::exchange::{Exchange, Sending, compress};
use super::outbox::{Answer, Control, Entry, Place};
use super::requests::Name;
use super::{CloseCause, Dialect, Event, ExchangeId, Session, Timer};
use crate::message::Payload;
use crate::wire::dialect2::{
    Failure, MAX_CHUNK, MAX_FIRST, MAX_PACKET, Options, PacketWriter, Piece, RECORD_COST, Record,
};
use crate::{CallId, Multipart, Urgency};

/// Calls and replies fill a packet up to this. The last of them may exceed it, by no more than leaves room for some
/// content. Not more, because nothing of a packet is read before all of it is there: where many calls are in flight, both
/// ends then work at the same time, one on what the other has sent, instead of taking turns.
const SMALL_TARGET: usize = 1024;

/// After so many bytes of calls and replies it is the turn of contents, even if more calls and replies wait.
const SMALL_SHARE: usize = 64 * 1024;

/// Control records fill a packet up to this.
const CONTROL_TARGET: usize = 16 * 1024;

/// Contents fill a packet up to this.
const PACKET_TARGET: usize = 64 * 1024;

/// What a DATA record has besides its content, at the most.
const DATA_HEAD: usize = 64;

impl Session {
    /// The next packet: control records, then calls and replies, then contents, so that small things overtake large ones;
    /// but for now and then, lest contents never get their turn.
    pub(super) fn poll_packet(&mut self, now: Instant) -> Option<Multipart> {
        let mut packet = std::mem::take(&mut self.packet);
        self.write_records(&mut packet, now);
        if self.small_sent >= SMALL_SHARE {
            (self.small_sent, self.contents_due) = (0, PACKET_TARGET);
        }
        if self.contents_due > 0 {
            let sent = self.write_contents(&mut packet);
            self.contents_due = if sent == 0 { 0 } else { self.contents_due.saturating_sub(sent) };
        }
        let before = packet.len();
        let stray = self.write_entries(&mut packet, now);
        self.small_sent += packet.len().saturating_sub(before);
        if stray.is_none() && !packet.is_closed() && !self.outbox.has_entries() {
            self.small_sent = 0;
            self.write_contents(&mut packet);
        }
        let message = stray.or_else(|| (!packet.is_empty()).then(|| packet.take()));
        self.packet = packet;
        message
    }

    fn write_records(&mut self, packet: &mut PacketWriter, now: Instant) {
        while packet.len() < CONTROL_TARGET
            && let Some(record) = self.outbox.pop_record()
        {
            packet.write(&record);
        }
        if let Some(limit) = self.exchanges.link_credit_due() {
            packet.write(&Record::LinkCredit { limit });
        }
        while packet.len() < CONTROL_TARGET
            && let Some(id) = self.exchanges.credits.pop_first()
        {
            if let Some(credit) = self.credit_of(id, now) {
                packet.write(&credit);
            }
        }
    }

    /// The CREDIT that is due for an exchange.
    pub(super) fn credit_of(&mut self, id: ExchangeId, now: Instant) -> Option<Record> {
        let call = self.exchanges.get_mut(id)?.wire?;
        let (consumed, limit) = self.exchanges.credit_due(id, now)?;
        Some(Record::Credit { call, consumed, limit })
    }

    /// Calls and replies. Returns a message of its own if one is the answer to a request of dialect 1.
    fn write_entries(&mut self, packet: &mut PacketWriter, now: Instant) -> Option<Multipart> {
        while !packet.is_closed()
            && packet.len() < SMALL_TARGET
            // It is a message of its own.
            && (packet.is_empty() || !self.outbox.next_is_of_dialect_1())
            && let Some((place, entry)) = self.outbox.pop()
        {
            match entry {
                Entry::Call { call, body, compressed, .. } => {
                    self.write_call(packet, now, call, body, compressed);
                }
                Entry::Reply(answer) => match answer.name {
                    Name::Two(wire, _) => self.write_answer(packet, wire, place, answer),
                    Name::One(_) => return Some(self.encode_answer(answer)),
                },
            }
        }
        None
    }

    fn write_call(
        &mut self,
        packet: &mut PacketWriter,
        now: Instant,
        id: CallId,
        body: Bytes,
        compressed: bool,
    ) {
        let Some(wire) = self.exchanges.allocate(id) else {
            return self.close(CloseCause::CallsExhausted);
        };
        let call = self.calls.get_mut(id).expect("a call that ends takes its entry back");
        (call.queued, call.wire) = (None, Some(wire));
        let whole = !call.streamed && body.len() <= MAX_FIRST;
        let size = (!whole && !call.streamed).then_some(body.len() as u64);
        let options = Options {
            metadata: call.metadata.clone(),
            remaining: call.deadline.map(|at| remaining(at, now)),
            urgency: (call.urgency != Urgency::DEFAULT).then_some(call.urgency),
            size,
            unsupported: false,
        };
        let (first, rest) = split_first(body);
        let left = first.len();
        packet.open(wire, &call.method, &call.key, &options, &first_piece(first, whole, compressed));
        if !whole {
            let (urgency, streamed) = (call.urgency, call.streamed);
            self.begin_argument(id, wire, urgency, streamed, compressed, left, rest);
        }
    }

    /// The rest of an argument is sent as a content.
    #[expect(clippy::too_many_arguments, reason = "they are what is left of one call")]
    fn begin_argument(
        &mut self,
        id: CallId,
        wire: u64,
        urgency: Urgency,
        streamed: bool,
        compressed: bool,
        left: usize,
        rest: Bytes,
    ) {
        let limit = self.stream_limit();
        let exchange = self.exchanges.insert(ExchangeId::Ours(id), Exchange::new(None, urgency));
        (exchange.wire, exchange.begun) = (Some(wire), true);
        if !streamed {
            exchange.send = Some(Sending::new(limit, compressed));
            exchange.whole_body = true;
        }
        let Some(send) = &mut exchange.send else {
            // It was given up before it left.
            return self.outbox.push_control(Control::Record(Record::Abort { call: wire }));
        };
        send.set_limit(limit);
        let queued = rest.len();
        send.begin(left, rest, !streamed);
        if !streamed {
            send.finish();
            self.exchanges.body_bytes += queued;
        }
        self.exchanges.schedule(ExchangeId::Ours(id));
    }

    fn write_answer(&mut self, packet: &mut PacketWriter, call: u64, place: Place, answer: Answer) {
        let key = answer.name.key();
        if answer.is_end {
            self.leaving.remove(key);
            self.outbox.unblock(key);
        } else if !answer.out_of_turn
            && self.config.ordered_replies
            && key.is_given()
            && self.leaving.contains(key)
        {
            return self.outbox.block(place, answer);
        }
        let options = |metadata| Options { metadata, ..Options::default() };
        let body = match answer.payload {
            Payload::Result(ref body) => body.clone(),
            Payload::Failure(info) => {
                return packet.fail(call, &Failure::Failure(info), &options(answer.metadata));
            }
            Payload::Error(info) => {
                return packet.fail(call, &Failure::Error(info), &options(answer.metadata));
            }
            _ => return packet.fail(call, &Failure::Cancelled, &options(answer.metadata)),
        };
        let whole = !answer.streamed && body.len() <= MAX_FIRST;
        if whole {
            let piece = first_piece(body, true, answer.compressed);
            return packet.result(call, &options(answer.metadata), &piece);
        }
        let Some(id) = self.exchanges.find(call) else { return };
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.queued = None;
        if self.config.ordered_replies && answer.name.key().is_given() {
            exchange.leaving = Some(answer.name.key().clone());
            self.leaving.insert(answer.name.key().clone());
        }
        // Of one that was cancelled nothing leaves but its end.
        let Some(send) = &mut exchange.send else { return };
        exchange.begun = true;
        let size = if answer.streamed { exchange.size } else { Some(body.len() as u64) };
        let (first, rest) = split_first(body);
        let queued = rest.len();
        send.begin(first.len(), rest, !answer.streamed);
        let options = Options { size, ..options(answer.metadata) };
        packet.result(call, &options, &first_piece(first, false, answer.compressed));
        if !answer.streamed {
            send.finish();
            self.exchanges.body_bytes += queued;
        }
        self.exchanges.schedule(id);
    }

    /// Returns how many bytes of the packet they take up.
    fn write_contents(&mut self, packet: &mut PacketWriter) -> usize {
        let before = packet.len();
        self.fill_with_contents(packet);
        packet.len().saturating_sub(before)
    }

    fn fill_with_contents(&mut self, packet: &mut PacketWriter) {
        while !packet.is_closed() && packet.len() < PACKET_TARGET {
            let link = self.exchanges.link_credit();
            if link <= RECORD_COST {
                return;
            }
            let Some((id, turn)) = self.exchanges.next_turn() else { return };
            let room = (MAX_PACKET - packet.len()).saturating_sub(DATA_HEAD).min(MAX_CHUNK);
            let Some(exchange) = self.exchanges.get_mut(id) else { continue };
            let (Some(send), Some(wire)) = (&mut exchange.send, exchange.wire) else { continue };
            let Some(data) = send.next(room, link) else {
                if send.is_ready() {
                    self.exchanges.keep_turn(id, turn);
                    return;
                }
                continue;
            };
            packet.data(wire, data.offset, &data.content);
            let has_room = send.queued() <= self.config.stream_buffer / 2;
            if has_room && std::mem::take(&mut send.awaits_room) {
                self.events.push_back(Event::Writable(id));
            }
            if exchange.whole_body {
                self.exchanges.body_bytes -= data.taken;
            }
            self.exchanges.link_spent += data.cost;
            self.exchanges.count_served(id, data.cost);
            match data.content.fin {
                true => self.content_left(id),
                false => self.exchanges.end_turn(id, turn),
            }
        }
    }

    /// All of a content has left.
    fn content_left(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let key = exchange.leaving.take();
        let (over, theirs) = (exchange.over, matches!(id, ExchangeId::Theirs(_)));
        if let Some(key) = key {
            self.leaving.remove(&key);
            self.outbox.unblock(&key);
        }
        if over && theirs {
            self.drop_exchange(id);
        }
        self.argument_ended(id);
    }

    /// Forgets an exchange; whoever waited for its result to leave goes on.
    pub(super) fn drop_exchange(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.remove(id) else { return };
        if exchange.collect_deadline.is_some() {
            self.timers.stop(Timer::Collect(id), exchange.collect_deadline);
        }
        if let Some(key) = exchange.leaving {
            self.leaving.remove(&key);
            self.outbox.unblock(&key);
        }
        // It may have been put together, or have waited for that at the head of the queue.
        self.start_gathering();
    }

    /// The credit that the peer gives each content from the start.
    pub(super) fn stream_limit(&self) -> u64 {
        let credit = self.peer.as_ref().and_then(|hello| hello.credit);
        credit.filter(|_| self.speaks(Dialect::Two)).map_or(0, |credit| credit.stream)
    }
}

fn split_first(mut body: Bytes) -> (Bytes, Bytes) {
    let first = body.split_to(body.len().min(MAX_FIRST));
    (first, body)
}

fn first_piece(bytes: Bytes, whole: bool, compressed: bool) -> Piece {
    let (bytes, compressed) = if compressed { compress(bytes) } else { (bytes, false) };
    Piece { bytes, fin: whole, item: whole, compressed }
}

/// In whole microseconds, rounded up: a call that has not timed out here has some time there.
fn remaining(at: Instant, now: Instant) -> Duration {
    let left = at.saturating_duration_since(now);
    left.saturating_add(Duration::from_nanos(999))
}
