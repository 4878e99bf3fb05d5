//! Handles the peer's records: checks each, finds its call, changes the state of the call, and queues events.
//!
//! Faults have three degrees: an [`Anomaly`] is reported and the record dropped; a fault in a stream ends its
//! call; a [`Violation`] closes the connection (PROTOCOL.md, R-7).

use std::time::Instant;

use super::Calls;
use super::reassembly::reassembly_size;
use super::table::{OpenCall, Opened, ResultState, State};
use crate::Metadata;
use crate::event::{Anomaly, CloseCause, Event, Outcome, Violation};
use crate::ids::{CallId, RequestId, StreamId};
use crate::stream::{ReadError, RecvHalf, StreamFault};
use crate::wire::{
    self, DecodeError, Failure, Inbound, MAX_CALL, MAX_CHUNK, Number, Options, Piece, RECORD_COST, Record,
};

use super::Delivery;

/// Why the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fatal(pub(crate) CloseCause);

impl From<Violation> for Fatal {
    fn from(violation: Violation) -> Self {
        Self(CloseCause::ProtocolViolation(violation))
    }
}

impl Calls {
    pub(super) fn report(&mut self, anomaly: Anomaly) {
        self.events.push_back(Event::Anomaly(anomaly));
    }

    /// Takes the reason for which the connection must be closed, if there is one.
    pub(crate) fn take_fatal(&mut self) -> Option<Fatal> {
        self.fatal.take()
    }

    /// Handles an UPPER message, which is of dialect 1; returns whether its header is valid.
    pub(crate) fn handle_upper(&mut self, now: Instant, header: &bytes::Bytes, body: bytes::Bytes) -> bool {
        use crate::wire::Dropped;
        let refusal = self.refusal_of(&Options::default());
        match self.codec.read_upper(header, body, self.config.max_body, refusal.is_none()) {
            Ok(Inbound::Record(record)) => {
                // No fault in a message of dialect 1 is fatal: it affects at most one call.
                let _ = self.handle_record(now, record, 0);
            }
            Ok(Inbound::Refused { call, key }) => {
                if let Some((refusal, why)) = refusal {
                    self.refuse(call, key, refusal.to_error(why));
                }
            }
            Ok(Inbound::BadRequest { call, key, error }) => self.refuse_unreadable(call, key, error),
            Ok(Inbound::BadAnswer { call, error }) => {
                // C-4: only dialect 1 has this, and the codec has found the call by its name.
                if let Some(call) = wire::call_in_dialect_1(call) {
                    // C-6: no CANCEL, because the peer has answered the call.
                    self.end(call, Outcome::Malformed(error), Metadata::new());
                }
            }
            Err(Dropped::Header(error)) => {
                self.report(Anomaly::Header(error));
                return false;
            }
            Err(Dropped::DuplicateRequest) => self.report(Anomaly::DuplicateRequest),
            Err(Dropped::UnknownReply) => self.report(Anomaly::UnknownReply),
            Err(Dropped::UnknownCancel) => self.report(Anomaly::UnknownCancel),
        }
        true
    }

    /// Handles a packet of dialect 2. Records before a malformed one take effect.
    pub(crate) fn handle_packet(&mut self, now: Instant, packet: &bytes::Bytes) -> Result<(), Fatal> {
        let records = wire::records(packet).map_err(|error| self.unreadable(error))?;
        for record in records {
            match record {
                Ok(record) => self.handle_record(now, record, packet.len())?,
                Err(error) => return Err(self.unreadable(error)),
            }
            // Records after a fatal one have no effect.
            if let Some(fatal) = self.fatal {
                return Err(fatal);
            }
        }
        // Once per packet, whichever of its records has completed a body.
        self.time_spares(now);
        Ok(())
    }

    fn unreadable(&mut self, error: DecodeError) -> Fatal {
        self.report(Anomaly::Packet(error));
        Violation::Packet.into()
    }

    /// Handles a record of a frame of `frame` bytes; 0 if its parts can be kept without keeping a frame
    /// alive.
    #[inline(always)]
    fn handle_record(&mut self, now: Instant, record: Record, frame: usize) -> Result<(), Fatal> {
        match record {
            Record::Open { call, method, key, options, piece } => {
                // Before the call can be refused: a refused call has used its number, too.
                self.numbers.take(call)?;
                // our GOODBYE says which calls are not accepted. Dialect 1 has none (K-6), so `arrive`
                // refuses each (K-5).
                if self.draining && !wire::is_dialect_1(call) {
                    return Ok(());
                }
                self.arrive(now, Opened { call, method, key, options, piece, frame });
            }
            Record::Result { call, options, piece } => {
                if let Some(call) = self.numbers.call(call)? {
                    // K-3: a peer that answers a call has read it, and is not stuck.
                    self.peer_reads = true;
                    self.handle_result(call, options, piece, frame);
                }
            }
            Record::Fail { call: number, failure, options } => {
                if let Some(call) = self.numbers.call(number)? {
                    self.peer_reads = true;
                    self.handle_fail(number, call, failure, options, frame);
                }
            }
            Record::Data { call, offset, piece } => self.handle_data(call, offset, piece, frame)?,
            Record::Cancel { call } => match self.known_request(call)? {
                Some(request) => self.cancel(request),
                None => self.cancel_at_gate(call),
            },
            Record::Abort { call } => {
                if let Some(request) = self.known_request(call)? {
                    self.fail_incomplete(StreamId::Request(request), ReadError::Aborted);
                }
            }
            Record::Stop { call } => {
                if let Some(call) = self.numbers.call(call)? {
                    self.stop_sending(StreamId::Call(call));
                }
            }
            Record::Credit { call, consumed, limit } => self.handle_credit(call, consumed, limit)?,
            Record::LinkCredit { limit } => self.flow.raise_peer_limit(limit),
            Record::Goodbye { next } => {
                // A number past the last one refuses no call that was sent, so its side does not matter.
                if !self.numbers.is_ours(next) && next <= MAX_CALL {
                    return Err(Violation::WrongSide.into());
                }
                self.handle_goodbye(next);
            }
        }
        Ok(())
    }

    /// The request with this number; `None` if nothing is left of it.
    fn known_request(&self, number: Number) -> Result<Option<RequestId>, Fatal> {
        self.numbers.check_request(number)?;
        let request = self.request(number);
        Ok(self.table.get(StreamId::Request(request)).map(|_| request))
    }

    /// The call of either side with this number of dialect 2; `None` if nothing is left of it.
    fn known(&self, number: Number) -> Result<Option<StreamId>, Fatal> {
        match self.numbers.is_ours(number) {
            true => Ok(self.numbers.call(number)?.map(StreamId::Call)),
            false => Ok(self.known_request(number)?.map(StreamId::Request)),
        }
    }

    fn handle_result(&mut self, id: CallId, options: Options, piece: Piece, frame: usize) {
        // Always `Sent`: a call is found by its number from when it is sent until it ends.
        let Some(OpenCall { state: State::Sent { number, result, .. }, .. }) =
            self.table.get(StreamId::Call(id))
        else {
            return;
        };
        let ResultState::Awaited(delivery) = *result else {
            return self.end_faulty(id, StreamFault::SecondResult);
        };
        if options.unsupported {
            // an unknown option below 32 may change the meaning of the result.
            return self.retire(id, Outcome::Malformed(DecodeError::OutOfRange("option")));
        }
        let (number, fin, item) = (*number, piece.fin, piece.item);
        let first = match self.first_piece(number, piece) {
            Ok(first) => first,
            Err(error) => return self.retire(id, Outcome::Malformed(error)),
        };
        if fin && options.size.is_some_and(|size| size != first.len() as u64) {
            return self.end_faulty(id, StreamFault::Size);
        }
        let metadata = options.metadata.keep(frame);
        if fin {
            return self.end(id, Outcome::Result(first), metadata);
        }
        let mut half = Box::new(RecvHalf::new(self.config.first_window, options.size));
        if let Err(fault) = half.first(first, item) {
            return self.end_faulty(id, fault);
        }
        half.announce();
        self.begin_result(id, delivery, metadata, half, options.size);
    }

    fn begin_result(
        &mut self,
        call: CallId,
        delivery: Delivery,
        metadata: Metadata,
        half: Box<RecvHalf>,
        size: Option<u64>,
    ) {
        let id = StreamId::Call(call);
        let bytes = reassembly_size(&half, self.config.max_body);
        let Some(OpenCall { state: State::Sent { result, .. }, .. }) = self.table.get_mut(id) else {
            return;
        };
        match delivery {
            Delivery::Stream => {
                *result = ResultState::Begun(Some(half));
                self.events.push_back(Event::Response { call, metadata, size });
            }
            Delivery::Whole => {
                *result = ResultState::Reassembled { metadata, half };
                self.want_memory(id, bytes);
            }
        }
    }

    fn handle_fail(&mut self, number: Number, id: CallId, failure: Failure, options: Options, frame: usize) {
        let (size, limit) = (failure.size(), wire::max_texts(number).min(self.config.max_body));
        if size > limit {
            let what = "the texts of an error";
            return self.retire(id, Outcome::Malformed(DecodeError::TooLarge { what, size, limit }));
        }
        // FAIL may follow RESULT. What has arrived of the result is dropped with the call.
        let outcome = match failure {
            Failure::Failure(info) => Outcome::Failure(info.into()),
            Failure::Error(info) => Outcome::Error(info.into()),
            Failure::Cancelled => Outcome::Cancelled,
        };
        self.end(id, outcome, options.metadata.keep(frame));
    }

    /// Ends a call whose result violates the protocol, and sends a CANCEL.
    fn end_faulty(&mut self, id: CallId, fault: StreamFault) {
        self.report(Anomaly::Stream(fault));
        self.retire(id, Outcome::Fault(fault));
    }

    fn handle_data(&mut self, number: Number, offset: u64, piece: Piece, frame: usize) -> Result<(), Fatal> {
        let known = self.known(number)?;
        // A Snappy block with an impossible declared size costs its own length.
        let size = piece.declared(MAX_CHUNK).unwrap_or(piece.bytes.len());
        let cost = RECORD_COST + size as u64;
        // The connection's credit first: DATA of ended calls uses it, too, and exceeding it is fatal (F-5).
        self.flow.receive(cost).map_err(|_| Violation::Credit)?;
        let Some(id) = known else {
            self.flow.consume(cost);
            return Ok(());
        };
        let Some(half) = self.table.get_mut(id).and_then(OpenCall::receiver) else {
            self.flow.consume(cost);
            self.refuse_data(id);
            return Ok(());
        };
        match half.take(offset, piece, frame) {
            Ok(freed) => {
                let dropped = half.has_failed();
                self.flow.consume(freed);
                // A CREDIT may be due: empty pieces, and those that go into a body, are consumed at once.
                self.credits.insert(id);
                if !dropped {
                    self.data_came(id);
                }
            }
            Err(fault) => {
                // Faulty pieces must not use up the credit that other streams need.
                self.flow.consume(cost);
                match id {
                    StreamId::Call(call) => self.end_faulty(call, fault),
                    StreamId::Request(_) => {
                        self.report(Anomaly::Stream(fault));
                        self.fail_stream(id, ReadError::Fault(fault));
                    }
                }
            }
        }
        Ok(())
    }

    /// DATA of a stream that has not begun, or is complete.
    fn refuse_data(&mut self, id: StreamId) {
        match (id, self.table.get(id).map(|call| &call.state)) {
            (StreamId::Call(call), Some(State::Sent { result: ResultState::Awaited(_), .. })) => {
                self.end_faulty(call, StreamFault::NotBegun);
            }
            _ => self.report(Anomaly::Stream(StreamFault::PastEnd)),
        }
    }

    /// A stream has received more bytes, or its end.
    fn data_came(&mut self, id: StreamId) {
        let Some(half) = self.table.get_mut(id).and_then(OpenCall::receiver) else { return };
        let complete = half.is_complete();
        if half.is_reassembled() {
            if !half.awaits_memory() {
                self.end_reassembly_if_done(id);
            } else if complete && !half.has_declared_size() {
                // F-7: it waits for memory of the largest body, but is already here as a whole, in its
                // window.
                self.reassemble_now(id);
            }
        } else if half.announce() {
            self.events.push_back(Event::Readable(id));
        }
        // the end of a result may end its call, whether the host has read it or not.
        if let (true, StreamId::Call(call)) = (complete, id) {
            self.end_if_complete(call);
        }
    }

    fn handle_credit(&mut self, number: Number, consumed: u64, limit: u64) -> Result<(), Fatal> {
        let Some(id) = self.known(number)? else { return Ok(()) };
        // The writer was stopped or has ended since: the CREDIT is late, not wrong.
        let Some(half) = self.table.get_mut(id).and_then(OpenCall::sender) else { return Ok(()) };
        let before = half.acknowledged();
        // F-6: fatal, because the two sides disagree about what was sent.
        if !half.credit(consumed, limit) {
            return Err(Violation::Acknowledgement.into());
        }
        self.peer_reads |= half.acknowledged() > before;
        if std::mem::take(&mut half.awaits_credit) {
            self.events.push_back(Event::Writable(id));
        }
        self.schedule(id);
        Ok(())
    }
}
