//! What the peer sends in dialect 2.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::exchange::{ContentFault, Exchange, Receiving};
use super::outbox::Control;
use super::requests::Name;
use super::{
    Anomaly, Body, CloseCause, ContentError, Event, ExchangeId, Outcome, Refusal, Request, Session, Timer,
    Violation,
};
use crate::wire::DecodeError;
use crate::wire::dialect2::{
    self, Failure, MAX_CHUNK, MAX_FIRST, MAX_TEXTS, Options, Piece, RECORD_COST, Record, records,
};
use crate::{CallId, OrderingKey, Text, Urgency};

/// A content up to this size is copied out of its packet, and so is one that is a small part of a larger packet, so that
/// what waits holds no more memory than it counts for.
const COPY_MAX: usize = 2 * 1024;

/// A packet may have this many times the bytes of a part that keeps it.
const MAX_SHARE: usize = 2;

/// A handler is stopped so long after its requester has given up, who is to be the first to know. As a rule his CANCEL
/// stops it before.
const GRACE: Duration = Duration::from_secs(1);

impl Session {
    pub(super) fn handle_packet(&mut self, now: Instant, packet: &Bytes) {
        let result = match records(packet) {
            Ok(mut records) => records.try_for_each(|record| {
                let record = record.map_err(|error| self.unreadable(error))?;
                self.handle_record(now, record, packet.len())?;
                // Nothing counts after the end, such as that of a peer that does not read.
                if self.is_closed() { Err(None) } else { Ok(()) }
            }),
            Err(error) => Err(self.unreadable(error)),
        };
        if let Err(Some(violation)) = result {
            self.close(CloseCause::ProtocolViolation(violation));
        }
    }

    fn unreadable(&mut self, error: DecodeError) -> Option<Violation> {
        self.report(Anomaly::Packet(error));
        Some(Violation::Packet)
    }

    fn handle_record(
        &mut self,
        now: Instant,
        record: Record,
        packet: usize,
    ) -> Result<(), Option<Violation>> {
        match record {
            Record::Open { call, method, key, options, content } => {
                self.check_side(call, false)?;
                self.handle_open(now, call, (method, key), options, content, packet)?;
            }
            Record::Result { call, options, content } => {
                if let Some(ExchangeId::Ours(id)) = self.known(call, true)? {
                    self.handle_result(id, options, content, packet);
                }
            }
            Record::Fail { call, failure, options } => {
                if let Some(ExchangeId::Ours(id)) = self.known(call, true)? {
                    self.handle_fail(id, failure, options);
                }
            }
            Record::Data { call, offset, content } => self.handle_data(call, offset, content, packet)?,
            Record::Cancel { call } => {
                if let Some(ExchangeId::Theirs(id)) = self.known(call, false)? {
                    match self.requests.cancel(id) {
                        true => {
                            self.stop_sending(ExchangeId::Theirs(id));
                            // The rest of its argument will not come, and what has come holds credit until its turn.
                            self.fail_content(ExchangeId::Theirs(id), ContentError::Aborted);
                            self.events.push_back(Event::CancelRequested(id));
                        }
                        // Its result is on its way, and of no use any more.
                        false if self.requests.get_mut(id).is_none() => {
                            self.drop_exchange(ExchangeId::Theirs(id));
                        }
                        false => {}
                    }
                }
            }
            Record::Abort { call } => {
                if let Some(id) = self.known(call, false)? {
                    self.fail_content(id, ContentError::Aborted);
                }
            }
            Record::Stop { call } => {
                if let Some(id) = self.known(call, true)? {
                    self.stop_sending(id);
                }
            }
            Record::Credit { call, consumed, limit } => self.handle_credit(call, consumed, limit)?,
            Record::LinkCredit { limit } => {
                self.exchanges.link_limit = self.exchanges.link_limit.max(limit);
            }
            Record::Goodbye { next } => self.handle_goodbye(next)?,
        }
        Ok(())
    }

    /// The reader of a content wants no more of it.
    fn stop_sending(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.stopped = true;
        if self.exchanges.take_send(id).is_some() {
            self.events.push_back(Event::Writable(id));
            self.argument_ended(id);
        }
    }

    /// No more of what is sent will be: if that was the last of a call of ours, it has ended.
    pub(super) fn argument_ended(&mut self, id: ExchangeId) {
        if let ExchangeId::Ours(call) = id {
            self.complete(call);
        }
    }

    /// Whether a record may name this call, and come from the peer.
    fn check_side(&self, call: u64, ours: bool) -> Result<(), Option<Violation>> {
        match self.exchanges.is_ours(call) == ours {
            true => Ok(()),
            false => Err(Some(Violation::WrongSide)),
        }
    }

    /// The call that a record names, which must be one of ours or of theirs; `None` if it has ended.
    fn known(&self, call: u64, ours: bool) -> Result<Option<ExchangeId>, Option<Violation>> {
        self.check_side(call, ours)?;
        self.used(call)
    }

    fn used(&self, call: u64) -> Result<Option<ExchangeId>, Option<Violation>> {
        match self.exchanges.was_used(call) {
            true => Ok(self.exchanges.find(call)),
            false => Err(Some(Violation::Sequence)),
        }
    }

    fn handle_open(
        &mut self,
        now: Instant,
        call: u64,
        (method, key): (Text, OrderingKey),
        options: Options,
        content: Piece,
        packet: usize,
    ) -> Result<(), Option<Violation>> {
        if call != self.exchanges.next_theirs {
            return Err(Some(Violation::Sequence));
        }
        self.exchanges.next_theirs += 2;
        if self.draining {
            // The peer was, or will be, told which calls were not taken.
            return Ok(());
        }
        let key = OrderingKey::from_wire(key.kind(), owned(key.into_bytes(), packet));
        let name = Name::Two(call, key.clone());
        if self.exchanges.theirs.len() >= self.config.max_requests {
            self.refuse(name, Refusal::Busy, "too many requests of this peer are open");
            return Ok(());
        }
        if options.unsupported {
            self.refuse(name, Refusal::Unsupported, "the call has an option that is not known here");
            return Ok(());
        }
        let Piece { fin, item, .. } = content;
        let limit = if fin { MAX_FIRST.min(self.config.max_body) } else { MAX_FIRST };
        let first = match content.plain(limit) {
            Ok(bytes) if fin && options.size.is_some_and(|size| size != bytes.len() as u64) => {
                self.refuse(name, Refusal::MalformedBody, &ContentFault::Size.to_string());
                self.report(Anomaly::Content(ContentFault::Size));
                return Ok(());
            }
            Ok(bytes) => owned(bytes, packet),
            Err(error) => {
                let refusal = match error {
                    DecodeError::TooLarge { .. } => Refusal::BodyTooLarge,
                    _ => Refusal::MalformedBody,
                };
                self.refuse(name, refusal, &error.to_string());
                self.report(Anomaly::Body(error));
                return Ok(());
            }
        };
        let method = Text::from_checked(owned(method.into_bytes(), packet));
        let metadata =
            if options.metadata.is_empty() { options.metadata } else { options.metadata.detached() };
        let urgency = options.urgency.unwrap_or_default();
        let deadline = options.remaining.and_then(|left| now.checked_add(left));
        let stop = deadline.and_then(|at| at.checked_add(GRACE));
        let id = self.requests.insert(name, urgency, stop);
        self.exchanges.theirs.insert(call, id);
        if let Some(at) = stop {
            self.timers.set(Timer::Execution(id), at);
        }
        let body = match fin {
            true => Body::Whole(first),
            false => self.open_argument(id, call, urgency, options.size, first, item),
        };
        self.events.push_back(Event::Request(Request { id, method, key, body, metadata, deadline }));
        Ok(())
    }

    fn open_argument(
        &mut self,
        id: crate::session::IncomingId,
        call: u64,
        urgency: Urgency,
        size: Option<u64>,
        first: Bytes,
        item: bool,
    ) -> Body {
        let window = self.config.first_window;
        let mut receive = Receiving::new(window, size);
        if let Err(fault) = receive.first(first, item) {
            self.events.push_back(Event::Anomaly(Anomaly::Content(fault)));
            receive.fail(ContentError::Fault(fault));
        }
        receive.announce();
        let exchange = self.exchanges.insert(ExchangeId::Theirs(id), Exchange::new(Some(call), urgency));
        exchange.receive = Some(receive);
        let held = window.saturating_add(MAX_FIRST as u64).min(size.unwrap_or(u64::MAX));
        Body::Streamed { size, held: usize::try_from(held).unwrap_or(usize::MAX) }
    }

    fn handle_result(&mut self, id: CallId, options: Options, content: Piece, packet: usize) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if call.responded {
            return self.end_faulty(id, ContentFault::SecondResult);
        }
        if options.unsupported {
            return self.end_malformed(id, DecodeError::OutOfRange("option"));
        }
        let Piece { fin, item, .. } = content;
        let limit = if fin { MAX_FIRST.min(self.config.max_body) } else { MAX_FIRST };
        let first = match content.plain(limit) {
            Ok(bytes) => owned(bytes, packet),
            Err(error) => return self.end_malformed(id, error),
        };
        if fin && options.size.is_some_and(|size| size != first.len() as u64) {
            return self.end_faulty(id, ContentFault::Size);
        }
        let metadata =
            if options.metadata.is_empty() { options.metadata } else { options.metadata.detached() };
        if fin {
            self.forget_call(id);
            self.drop_exchange(ExchangeId::Ours(id));
            self.events.push_back(Event::Ended { call: id, outcome: Outcome::Result(first), metadata });
            return;
        }
        call.responded = true;
        let (wire, urgency) = (call.wire, call.urgency);
        let mut receive = Receiving::new(self.config.first_window, options.size);
        if let Err(fault) = receive.first(first, item) {
            return self.end_faulty(id, fault);
        }
        receive.announce();
        let exchange = self.exchanges.insert(ExchangeId::Ours(id), Exchange::new(wire, urgency));
        exchange.receive = Some(receive);
        self.events.push_back(Event::Response { call: id, metadata, size: options.size });
    }

    fn handle_fail(&mut self, id: CallId, failure: Failure, options: Options) {
        let limit = MAX_TEXTS.min(self.config.max_body);
        if let Failure::Failure(info) | Failure::Error(info) = &failure
            && info.size() > limit
        {
            return self.end_malformed(
                id,
                DecodeError::TooLarge { what: "the texts of an error", size: info.size(), limit },
            );
        }
        self.forget_call(id);
        self.drop_exchange(ExchangeId::Ours(id));
        let outcome = match failure {
            Failure::Failure(info) => Outcome::Failure(info.detached()),
            Failure::Error(info) => Outcome::Error(info.detached()),
            Failure::Cancelled => Outcome::Cancelled,
        };
        let metadata =
            if options.metadata.is_empty() { options.metadata } else { options.metadata.detached() };
        self.events.push_back(Event::Ended { call: id, outcome, metadata });
    }

    /// Takes a call out of the tables.
    fn forget_call(&mut self, id: CallId) {
        if let Some(call) = self.calls.remove(id) {
            self.timers.stop(Timer::Call(id), call.deadline);
            if let Some(wire) = call.wire {
                self.exchanges.ours.remove(&wire);
            }
        }
    }

    /// Ends a call whose result can't be read, and tells the peer.
    fn end_malformed(&mut self, id: CallId, error: DecodeError) {
        if self.retire(id).is_some() {
            self.end(id, Outcome::Malformed(error));
        }
    }

    fn end_faulty(&mut self, id: CallId, fault: ContentFault) {
        self.report(Anomaly::Content(fault));
        if self.retire(id).is_some() {
            self.end(id, Outcome::Fault(fault));
        }
    }

    fn handle_data(
        &mut self,
        call: u64,
        offset: u64,
        mut content: Piece,
        packet: usize,
    ) -> Result<(), Option<Violation>> {
        let known = self.used(call)?;
        // What a block declares that can't be one does not matter: whoever sends it has spent no credit for it.
        let size = content.declared(MAX_CHUNK).unwrap_or(content.bytes.len());
        let cost = RECORD_COST + size as u64;
        self.exchanges.spend(cost).map_err(|_| Some(Violation::Credit))?;
        let exchange = known.and_then(|id| Some((id, self.exchanges.get_mut(id)?)));
        let Some((id, receive)) = exchange.and_then(|(id, exchange)| Some((id, exchange.receive.as_mut()?)))
        else {
            self.exchanges.consume(cost);
            match known {
                Some(ExchangeId::Ours(id)) if self.calls.get_mut(id).is_some_and(|call| !call.responded) => {
                    self.end_faulty(id, ContentFault::NotBegun);
                }
                // Its handler has had it as a whole.
                Some(_) => self.report(Anomaly::Content(ContentFault::PastEnd)),
                None => {}
            }
            return Ok(());
        };
        if !content.compressed {
            content.bytes = owned(content.bytes, packet);
        }
        match receive.take(offset, content) {
            Ok(dropped) => {
                let failed = receive.has_failed();
                self.exchanges.consume(dropped.0);
                self.exchanges.owe_credit(id);
                if !failed {
                    self.content_came(id);
                }
            }
            Err(fault) => {
                self.exchanges.consume(cost);
                match id {
                    ExchangeId::Ours(call) => self.end_faulty(call, fault),
                    ExchangeId::Theirs(_) => {
                        self.report(Anomaly::Content(fault));
                        self.give_up_content(id, ContentError::Fault(fault));
                    }
                }
            }
        }
        Ok(())
    }

    /// There is more of a content, or it is complete.
    fn content_came(&mut self, id: ExchangeId) {
        let Some(receive) = self.exchanges.get_mut(id).and_then(|exchange| exchange.receive.as_mut()) else {
            return;
        };
        let complete = receive.is_complete();
        if receive.is_gathering() {
            self.advance_gathering(id);
        } else if receive.announce() {
            self.events.push_back(Event::Readable(id));
        }
        if complete && let ExchangeId::Ours(call) = id {
            self.complete(call);
        }
    }

    /// Ends a call of ours if all of its result has come, and all of its argument has left or never will.
    pub(super) fn complete(&mut self, id: CallId) {
        let exchange = ExchangeId::Ours(id);
        let (Some(call), Some(open)) = (self.calls.get_mut(id), self.exchanges.get_mut(exchange)) else {
            return;
        };
        if !call.responded || open.receive.as_ref().is_some_and(|receive| !receive.is_complete()) {
            return;
        }
        if open.send.as_ref().is_some_and(|send| !send.fin_sent()) {
            if !open.whole_body {
                return;
            }
            // Nobody waits for it any more, but the handler may wait for the rest.
            if let Some(call) = open.wire {
                self.outbox.push_control(Control::Record(Record::Abort { call }));
            }
        }
        open.over = true;
        let read = open.receive.is_none();
        self.exchanges.take_send(exchange);
        self.forget_call(id);
        if read {
            self.drop_exchange(exchange);
        }
        self.end(id, Outcome::Complete);
    }

    /// A content can't be read to its end.
    fn fail_content(&mut self, id: ExchangeId, error: ContentError) {
        let Some(receive) = self.exchanges.get_mut(id).and_then(|exchange| exchange.receive.as_mut()) else {
            return;
        };
        if !receive.is_complete() {
            self.give_up_content(id, error);
        }
    }

    fn give_up_content(&mut self, id: ExchangeId, error: ContentError) {
        let Some(receive) = self.exchanges.get_mut(id).and_then(|exchange| exchange.receive.as_mut()) else {
            return;
        };
        if receive.has_failed() {
            return;
        }
        let freed = receive.fail(error);
        let announce = receive.announce();
        self.exchanges.consume(freed);
        if self.is_collecting(id) {
            self.end_collecting(id, Err(error));
        } else if announce {
            self.events.push_back(Event::Readable(id));
        }
    }

    fn handle_credit(&mut self, call: u64, consumed: u64, limit: u64) -> Result<(), Option<Violation>> {
        let Some(id) = self.used(call)? else { return Ok(()) };
        let Some(send) = self.exchanges.get_mut(id).and_then(|exchange| exchange.send.as_mut()) else {
            return Ok(());
        };
        if !send.credit(consumed, limit) {
            return Err(Some(Violation::Acknowledgement));
        }
        if std::mem::take(&mut send.awaits_credit) {
            self.events.push_back(Event::Writable(id));
        }
        self.exchanges.schedule(id);
        Ok(())
    }

    fn handle_goodbye(&mut self, next: u64) -> Result<(), Option<Violation>> {
        if !self.exchanges.is_ours(next) && next <= dialect2::MAX_CALL {
            return Err(Some(Violation::WrongSide));
        }
        if std::mem::replace(&mut self.peer_draining, true) {
            // What it took once it can't take back.
            return Ok(());
        }
        let refused = || Outcome::Error(Refusal::ShuttingDown.to_error("the peer is shutting down"));
        let untaken: Vec<CallId> = self.exchanges.ours.range(next..).map(|(_, call)| *call).collect();
        for call in untaken {
            self.forget_call(call);
            self.drop_exchange(ExchangeId::Ours(call));
            self.end(call, refused());
        }
        for call in self.calls.queued() {
            self.end_unsent(call, refused());
        }
        self.events.push_back(Event::Goodbye);
        Ok(())
    }

    pub(super) fn say_stop(&mut self, call: u64) {
        self.outbox.push_control(Control::Record(Record::Stop { call }));
    }
}

/// The same bytes, in a buffer that they fill to a good part.
fn owned(bytes: Bytes, packet: usize) -> Bytes {
    match bytes.len() <= COPY_MAX || packet / MAX_SHARE > bytes.len() {
        true => Bytes::copy_from_slice(&bytes),
        false => bytes,
    }
}
