//! Fills the next message: takes records from the queues in the order of the [`Policy`](crate::send::Policy),
//! and encodes them.
//!
//! A call gets its number, and its argument its initial credit, when its OPEN is sent.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::table::{Beginning, OpenCall, ResultState, State, Writer};
use super::{Calls, Fatal};
use crate::event::{CloseCause, Event};
use crate::ids::StreamId;
use crate::send::{Control, Kind, Queued, QueuedCall, QueuedReply, ReplyBody};
use crate::stream::SendHalf;
use crate::wire::{self, Failure, MAX_PACKET, Number, Options, Piece, RECORD_COST, Record};
use crate::{Multipart, Urgency};

/// The most bytes of a DATA in addition to its piece.
const DATA_HEAD: usize = 64;

impl Calls {
    /// The next message about calls; only once the handshake is complete.
    pub(crate) fn poll_message(&mut self, now: Instant) -> Option<Multipart> {
        self.policy.begin();
        while !self.codec.is_full() && self.fatal.is_none() {
            let before = self.codec.len();
            let waits = |kind| match kind {
                Kind::Control => {
                    self.queue.next_is_about_a_call() || !self.credits.is_empty() || self.flow.is_credit_due()
                }
                Kind::Message => self.queue.has_messages(),
                // More than the overhead, so that each DATA brings its stream forward by a byte at least.
                Kind::Data => !self.streams.is_empty() && self.flow.send_credit() > RECORD_COST,
            };
            let Some(kind) = self.policy.next(before, waits) else { break };
            let goes_on = match kind {
                // M-4: a PONG behind the records of this packet goes before any call or reply.
                Kind::Control => self.write_control(now) && !self.queue.next_is_alone(),
                Kind::Message => self.write_message(now),
                Kind::Data => self.write_data(),
            };
            self.policy.sent(kind, self.codec.len().saturating_sub(before));
            if !goes_on {
                break;
            }
        }
        let message = self.codec.take();
        // Nothing is sent of a reply that was cancelled meanwhile.
        self.needs_acknowledgement &= message.is_some();
        message
    }

    /// Adds a control record. Returns false if the current message must be sent first.
    fn write_control(&mut self, now: Instant) -> bool {
        if let Some(record) = self.queue.peek_record() {
            if !self.codec.accepts(record.call().unwrap_or_default()) {
                return false;
            }
            if let Some(Control::Record(record)) = self.queue.pop_control(true) {
                self.codec.control(&record);
            }
        } else if let Some(limit) = self.flow.credit_due() {
            self.codec.control(&Record::LinkCredit { limit });
        } else if let Some(id) = self.credits.pop_first()
            && let Some(credit) = self.credit_of(id, now)
        {
            self.codec.control(&credit);
        }
        true
    }

    /// Adds a call or a reply. Returns false if the current message must be sent first.
    fn write_message(&mut self, now: Instant) -> bool {
        // An answer in dialect 1 needs a message of its own.
        if let Some(Queued::Reply(reply)) = self.queue.peek()
            && !self.codec.accepts(reply.number)
        {
            return false;
        }
        match self.queue.pop() {
            Some(Queued::Call(call)) => self.write_call(now, call),
            Some(Queued::Reply(reply)) => self.write_reply(reply),
            None => return false,
        }
        true
    }

    fn write_call(&mut self, now: Instant, queued: QueuedCall) {
        let QueuedCall { call: id, method, key, body, metadata, is_stream, compress } = queued;
        let stream = StreamId::Call(id);
        // C-1: dialect 1 has names instead of numbers.
        let number = match self.has_streams() {
            true => self.numbers.assign(id),
            false => Some(wire::number_in_dialect_1(id)),
        };
        let Some(number) = number else {
            self.fatal = Some(Fatal(CloseCause::CallsExhausted));
            return;
        };
        let credit = self.stream_limit();
        let Some(open) = self.table.get_mut(stream) else { return };
        let State::Queued { argument, delivery, .. } = &mut open.state else { return };
        let (mut argument, delivery) = (std::mem::replace(argument, Writer::Closed), *delivery);
        let (first, rest) = split_first(body, wire::max_first(number));
        // F-1: the rest of a larger body follows as DATA, as a stream of fixed length. Dialect 1 has none.
        let whole = !is_stream && rest.is_empty();
        let options = Options {
            metadata,
            remaining: open.deadline.map(|at| remaining(at, now)),
            urgency: (open.urgency != Urgency::DEFAULT).then_some(open.urgency),
            size: (!whole && !is_stream).then_some((first.len() + rest.len()) as u64),
            unsupported: false,
        };
        let left = first.len();
        let piece = Piece { bytes: first, fin: whole, item: whole, compressed: false };
        self.codec.open(number, (&method, &key), &options, (piece, compress));
        if !whole {
            if !is_stream {
                let mut half = Box::new(SendHalf::new(credit, compress));
                half.fixed_length = true;
                argument = Writer::Open(half);
            }
            match &mut argument {
                Writer::Open(half) => {
                    half.set_limit(credit);
                    half.start(left, rest, !is_stream);
                    if !is_stream {
                        half.finish();
                        *self.bodies.of(stream) += half.body_left();
                    }
                }
                // The argument was aborted before the call was sent.
                Writer::Closed | Writer::Stopped => {
                    self.queue.push_control(Control::Record(Record::Abort { call: number }));
                }
            }
        }
        open.state = State::Sent { number, argument, result: ResultState::Awaited(delivery) };
        if !whole {
            self.schedule(stream);
        }
    }

    fn write_reply(&mut self, reply: QueuedReply) {
        let QueuedReply { number, body, metadata, .. } = reply;
        let options = Options { metadata, ..Options::default() };
        self.needs_acknowledgement = true;
        match body {
            ReplyBody::Failure(failure) => self.codec.fail(number, *failure, &options),
            ReplyBody::Stream { size, compress } => {
                self.set_beginning(number, Beginning::Left);
                let id = StreamId::Request(self.request(number));
                let Some(open) = self.table.get_mut(id) else { return self.write_cancelled(number) };
                // Of a cancelled result, only the end is sent.
                let Some(half) = open.sender() else { return };
                half.start(0, Bytes::new(), false);
                let options = Options { size, ..options };
                self.codec.result(number, &options, Piece::default(), compress);
                self.schedule(id);
            }
            ReplyBody::Result { body, compress } => {
                // F-1: as the argument in `write_call`.
                let (first, rest) = split_first(body, wire::max_first(number));
                if rest.is_empty() {
                    return self.codec.result(number, &options, Piece::whole(first), compress);
                }
                let size = Some((first.len() + rest.len()) as u64);
                let id = StreamId::Request(self.request(number));
                let Some(half) = self.table.get_mut(id).and_then(OpenCall::sender) else {
                    return self.write_cancelled(number);
                };
                half.start(first.len(), rest, true);
                half.finish();
                *self.bodies.of(id) += half.body_left();
                let options = Options { size, ..options };
                self.codec.result(number, &options, Piece { bytes: first, ..Piece::default() }, compress);
                self.schedule(id);
            }
        }
    }

    /// The call was cancelled while its result waited in the queue: answers it (C-10, D-4).
    fn write_cancelled(&mut self, number: Number) {
        self.codec.fail(number, Failure::Cancelled, &Options::default());
    }

    /// Adds a DATA of the next stream. Returns false if there is no room for it.
    fn write_data(&mut self) -> bool {
        let credit = self.flow.send_credit();
        let room = (MAX_PACKET - self.codec.len()).saturating_sub(DATA_HEAD);
        let Some((id, order)) = self.streams.pop() else { return false };
        let found = self.table.get_mut(id).and_then(|call| {
            let (urgency, number) = (call.urgency, call.number()?);
            Some((urgency, number, call.sender()?))
        });
        // Always found: a call that is dropped takes its stream out of the queue.
        let Some((urgency, number, half)) = found else { return true };
        half.order = None;
        let before = half.body_left();
        let Some(data) = half.next(room, credit) else {
            // Not reached as long as the policy's targets leave room for a whole piece.
            self.streams.requeue(id, urgency, half, order);
            return false;
        };
        // Not before half of the buffer is free, so that the writer is not woken for every DATA.
        let has_room = half.buffered() <= self.config.stream_buffer / 2;
        if has_room && std::mem::take(&mut half.awaits_room) {
            self.events.push_back(Event::Writable(id));
        }
        let (is_body, left) = (half.fixed_length, half.body_left());
        self.flow.count_sent(data.cost);
        let compress = half.compress;
        self.streams.sent(id, urgency, half, data.cost, order);
        *self.bodies.of(id) -= before - left;
        let piece = Piece { bytes: data.bytes, fin: data.fin, item: data.item, compressed: false };
        self.codec.data(number, data.offset, piece, compress);
        if data.fin {
            // The rest of an argument that is a body is of no use once there is a result, which is awaited.
            self.needs_acknowledgement |= !(is_body && matches!(id, StreamId::Call(_)));
            self.stream_left(id);
        }
        true
    }

    /// All of a stream has been sent.
    fn stream_left(&mut self, id: StreamId) {
        match id {
            StreamId::Call(call) => self.end_if_complete(call),
            StreamId::Request(_) => {
                if let Some(OpenCall { state: State::Replying { .. }, .. }) = self.table.get(id) {
                    return self.drop_call(id);
                }
                // The handler may go on, but the replies that wait for this one may be sent.
                if let Some((key, number)) = self.table.get(id).and_then(OpenCall::leads) {
                    self.leave_gate(&key, number);
                }
            }
        }
    }
}

fn split_first(mut body: Bytes, most: usize) -> (Bytes, Bytes) {
    let rest = if body.len() > most { body.split_off(most) } else { Bytes::new() };
    (body, rest)
}

/// Rounded up to microseconds, so that a call that has not timed out here never gets 0 there.
fn remaining(at: Instant, now: Instant) -> Duration {
    at.saturating_duration_since(now).saturating_add(Duration::from_nanos(999))
}
