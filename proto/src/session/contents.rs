//! Arguments and results that are read and written bit by bit.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::exchange::{Next, Sending};
use super::outbox::Control;
use super::{Chunk, ContentError, Event, ExchangeId, Outcome, Session, Timer, WriteError};
use crate::wire::DecodeError;
use crate::wire::dialect2::Record;

/// How long a body may take to be complete, however small it is.
const COLLECT_TIME: Duration = Duration::from_secs(30);

/// For each so many bytes of it, it may take a second more.
const SLOWEST: u64 = 64 * 1024;

/// The contents of a session: see [`Session::contents`].
#[derive(Debug)]
pub struct Contents<'a> {
    session: &'a mut Session,
}

/// What a read yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// More of the content.
    Chunk(Chunk),
    /// There is nothing more.
    End,
    /// There is nothing more yet; [`Event::Readable`] tells when there is.
    Pending,
}

/// How far a writer and its reader have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Bytes that were written.
    pub written: u64,
    /// Bytes that the other side's application has taken.
    pub consumed: u64,
}

impl Session {
    /// The arguments and results that are more than one record, in dialect 2.
    ///
    /// A call of ours with [`Call::streamed`](super::Call::streamed) is written to, and so is a request of theirs after
    /// [`begin_reply`](Self::begin_reply); a request whose body is [`Body::Streamed`](super::Body::Streamed) is read
    /// from, and so is a call of ours after [`Event::Response`].
    pub fn contents(&mut self) -> Contents<'_> {
        Contents { session: self }
    }
}

impl Contents<'_> {
    /// Takes the next part of a content. That gives the peer credit for more.
    ///
    /// # Errors
    /// If there is no such content, or it can't be read to its end. What was not read is lost.
    pub fn read(&mut self, now: Instant, id: ExchangeId) -> Result<Read, ContentError> {
        let session = &mut *self.session;
        let exchange = session.exchanges.get_mut(id).ok_or(ContentError::NotOpen)?;
        let over = exchange.over;
        let receive = exchange.receive.as_mut().ok_or(ContentError::NotOpen)?;
        if receive.is_gathering() {
            return Err(ContentError::NotOpen);
        }
        let next = receive.next()?;
        session.exchanges.open_window(id, session.config.stream_window);
        match next {
            Next::Chunk(chunk, cost) => {
                session.exchanges.consume(cost);
                session.exchanges.owe_credit(id);
                Ok(Read::Chunk(chunk))
            }
            Next::End => {
                session.acknowledge_end(id);
                match id {
                    ExchangeId::Ours(_) if over => session.drop_exchange(id),
                    // Its argument is still being written.
                    ExchangeId::Ours(_) => session.exchanges.take_receive(id),
                    ExchangeId::Theirs(_) => {}
                }
                session.start_collect_timers(now);
                Ok(Read::End)
            }
            Next::Pending => Ok(Read::Pending),
        }
    }

    /// Puts what is left of a content together to one body, of at most
    /// [`max_body`](super::SessionConfig::max_body) bytes; [`Event::Collected`] brings it. It has 30 s to be complete, and a
    /// second more for every 64 KiB.
    ///
    /// Bodies that would hold more than [`max_reassembly`](super::SessionConfig::max_reassembly) together wait for each
    /// other. If it fails, and the call is one of ours, the call ends.
    ///
    /// # Errors
    /// [`ContentError::NotOpen`] if there is no such content, it was [stopped](Self::stop), or it is being put together.
    pub fn collect(&mut self, now: Instant, id: ExchangeId) -> Result<(), ContentError> {
        let session = &mut *self.session;
        if session.is_collecting(id) {
            return Err(ContentError::NotOpen);
        }
        let limit = session.config.max_body;
        let receive = session.exchanges.get_mut(id).and_then(|exchange| exchange.receive.as_mut());
        let receive = receive.ok_or(ContentError::NotOpen)?;
        let size = receive.remaining();
        let mut failure = receive.failure();
        if failure == Some(ContentError::NotOpen) {
            // It was stopped.
            return Err(ContentError::NotOpen);
        }
        if let Some(size) = size.filter(|size| *size > limit as u64) {
            failure.get_or_insert(ContentError::TooLarge { size, limit });
        }
        let room = size.map_or(limit, |size| size as usize);
        session.exchanges.gather_queue.push_back((id, room));
        match failure {
            Some(error) => session.end_collecting(id, Err(error)),
            None => session.start_gathering(),
        }
        session.start_collect_timers(now);
        Ok(())
    }

    /// What is left of a content is not wanted: the writer is told. Ignored if there is none.
    ///
    /// A result that is not wanted, and has not come as a whole, must be [abandoned](Session::abandon) with its call instead,
    /// which does not end otherwise.
    pub fn stop(&mut self, id: ExchangeId) {
        let session = &mut *self.session;
        let Some(exchange) = session.exchanges.get_mut(id) else { return };
        let Some(receive) = &mut exchange.receive else { return };
        // The writer of one that failed on this side knows nothing of it.
        let ended = matches!(receive.failure(), Some(ContentError::Aborted | ContentError::NotOpen));
        let (wire, unread) = (exchange.wire, !receive.is_complete() && !ended);
        let over = exchange.over;
        let freed = receive.stop();
        session.exchanges.consume(freed);
        session.stop_collect_timer(id);
        session.exchanges.end_gathering(id);
        match (id, wire) {
            (ExchangeId::Theirs(_), Some(wire)) if unread => session.say_stop(wire),
            (ExchangeId::Ours(_), wire) if over => {
                session.drop_exchange(id);
                // Whoever wrote it may wait for it to be read.
                if let Some(call) = wire.filter(|_| !session.is_closed()) {
                    session.outbox.push_control(Control::Record(Record::Cancel { call }));
                }
            }
            _ => {}
        }
        session.start_gathering();
    }

    /// Bytes that may be written now; 0 until [`Event::Writable`] where there is no room.
    ///
    /// # Errors
    /// If no more can be written.
    pub fn room(&mut self, id: ExchangeId) -> Result<usize, WriteError> {
        let session = &mut *self.session;
        let exchange = session.exchanges.get_mut(id).ok_or(WriteError::NotOpen)?;
        if exchange.stopped {
            return Err(WriteError::Stopped);
        }
        let send = exchange.send.as_mut().ok_or(WriteError::NotOpen)?;
        if send.is_finished() {
            return Err(WriteError::Finished);
        }
        let room = session.config.stream_buffer.max(1).saturating_sub(send.queued());
        send.awaits_room |= room == 0;
        Ok(room)
    }

    /// Adds to a content. An item ends with these bytes if `end_of_item`.
    ///
    /// # Errors
    /// [`WriteError::Full`] if there is no [room](Self::room) at all; where there is some, any number of bytes is
    /// taken.
    pub fn write(&mut self, id: ExchangeId, bytes: Bytes, end_of_item: bool) -> Result<(), WriteError> {
        if self.room(id)? == 0 {
            return Err(WriteError::Full);
        }
        let exchanges = &mut self.session.exchanges;
        if let Some(send) = exchanges.get_mut(id).and_then(|exchange| exchange.send.as_mut()) {
            send.push(bytes, end_of_item);
        }
        exchanges.schedule(id);
        Ok(())
    }

    /// Nothing more will be written. Of a request of theirs, the result is complete with this, and its argument can still
    /// be read: the request is answered only by [`Reply::End`](super::Reply::End).
    ///
    /// # Errors
    /// If no more can be written anyway.
    pub fn finish(&mut self, id: ExchangeId) -> Result<(), WriteError> {
        self.room(id)?;
        let exchanges = &mut self.session.exchanges;
        if let Some(send) = exchanges.get_mut(id).and_then(|exchange| exchange.send.as_mut()) {
            send.finish();
        }
        exchanges.schedule(id);
        Ok(())
    }

    /// The argument of a call of ours can't be completed; its reader is told. Ignored for any other, and after
    /// [`finish`](Self::finish).
    pub fn abort(&mut self, call: crate::CallId) {
        let session = &mut *self.session;
        let id = ExchangeId::Ours(call);
        let Some(exchange) = session.exchanges.get_mut(id) else { return };
        if exchange.send.as_ref().is_none_or(Sending::is_finished) {
            return;
        }
        let wire = exchange.wire;
        session.exchanges.take_send(id);
        if let Some(wire) = wire {
            session.outbox.push_control(Control::Record(Record::Abort { call: wire }));
        }
        session.argument_ended(id);
    }

    /// How far writer and reader have come. [`Event::Writable`] tells when the reader has come further.
    ///
    /// # Errors
    /// If the reader reads no more, or the call has ended.
    pub fn acknowledged(&mut self, id: ExchangeId) -> Result<Acknowledged, WriteError> {
        let exchange = self.session.exchanges.get_mut(id).ok_or(WriteError::NotOpen)?;
        if exchange.stopped {
            return Err(WriteError::Stopped);
        }
        let send = exchange.send.as_mut().ok_or(WriteError::NotOpen)?;
        let written = send.written();
        let consumed = send.acknowledged();
        send.awaits_credit |= consumed < written;
        Ok(Acknowledged { written, consumed })
    }
}

impl Session {
    /// Whether a body is being put together, or waits for that.
    pub(super) fn is_collecting(&self, id: ExchangeId) -> bool {
        self.exchanges.gathering.contains_key(&id)
            || self.exchanges.gather_queue.iter().any(|(waiting, _)| *waiting == id)
    }

    /// The last acknowledgement of a content, unless it has been given, or nobody is there to take it.
    fn acknowledge_end(&mut self, id: ExchangeId) {
        if self.is_closed() {
            return;
        }
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let (Some(call), Some(receive)) = (exchange.wire, &mut exchange.receive) else { return };
        if let Some((consumed, limit)) = receive.last_credit() {
            self.outbox.push_control(Control::Record(Record::Credit { call, consumed, limit }));
        }
    }

    /// Puts together what there is room for.
    pub(super) fn start_gathering(&mut self) {
        // One that is complete already makes room for the next: the first to be here goes on with it.
        if std::mem::replace(&mut self.exchanges.is_starting, true) {
            return;
        }
        while let Some((id, size)) = self.exchanges.next_gathering() {
            self.gather(id, size);
        }
        self.exchanges.is_starting = false;
    }

    fn gather(&mut self, id: ExchangeId, size: usize) {
        let limit = self.config.max_body;
        let Some(exchange) = self.exchanges.get_mut(id) else { return self.exchanges.end_gathering(id) };
        let Some(receive) = &mut exchange.receive else { return self.exchanges.end_gathering(id) };
        receive.gather(limit);
        let time = COLLECT_TIME + Duration::from_secs(size as u64 / SLOWEST);
        self.untimed.push((id, time));
        self.exchanges.open_wholly(id, self.config.stream_window);
        self.advance_gathering(id);
    }

    /// Starts the timers of the bodies whose reassembly has begun. Some begin with a command that does not say the time,
    /// and the time of the last input may be long past by then.
    pub(super) fn start_collect_timers(&mut self, now: Instant) {
        for (id, time) in std::mem::take(&mut self.untimed) {
            let is_begun = self.exchanges.gathering.contains_key(&id);
            let exchange = self.exchanges.get_mut(id).filter(|_| is_begun);
            if let (Some(exchange), Some(at)) = (exchange, now.checked_add(time)) {
                exchange.collect_deadline = Some(at);
                self.timers.set(Timer::Collect(id), at);
            }
        }
    }

    /// Moves what has come to the body.
    pub(super) fn advance_gathering(&mut self, id: ExchangeId) {
        let Some(receive) = self.exchanges.get_mut(id).and_then(|exchange| exchange.receive.as_mut()) else {
            return;
        };
        let (freed, done) = receive.advance_gathering();
        self.exchanges.consume(freed);
        self.exchanges.owe_credit(id);
        if let Some(body) = done {
            self.acknowledge_end(id);
            self.end_collecting(id, body);
        }
    }

    /// A body is complete, or never will be.
    pub(super) fn end_collecting(&mut self, id: ExchangeId, body: Result<Bytes, ContentError>) {
        self.stop_collect_timer(id);
        self.exchanges.end_gathering(id);
        let failure = body.as_ref().err().copied();
        self.events.push_back(Event::Collected { exchange: id, body });
        if let Some(exchange) = self.exchanges.get_mut(id) {
            let over = exchange.over;
            match (failure, &mut exchange.receive) {
                (Some(error), Some(receive)) => {
                    let freed = receive.fail(error);
                    self.exchanges.consume(freed);
                }
                (None, _) => self.exchanges.take_receive(id),
                _ => {}
            }
            if over && matches!(id, ExchangeId::Ours(_)) {
                self.drop_exchange(id);
            }
        }
        if let (None, ExchangeId::Ours(call)) = (failure, id) {
            self.complete(call);
        }
        if let (Some(error), ExchangeId::Ours(call)) = (failure, id)
            && self.retire(call).is_some()
        {
            let outcome = match error {
                ContentError::TooLarge { size, limit } => {
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    Outcome::Malformed(DecodeError::TooLarge { what: "a body", size, limit })
                }
                ContentError::Fault(fault) => Outcome::Fault(fault),
                // Only an argument is aborted, and what was stopped is not put together: this is a timeout.
                ContentError::TimedOut | ContentError::Aborted | ContentError::NotOpen => {
                    Outcome::TimedOut { sent: true }
                }
            };
            self.end(call, outcome);
        }
        self.start_gathering();
    }

    pub(super) fn collect_timed_out(&mut self, id: ExchangeId) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.collect_deadline = None;
            if self.is_collecting(id) {
                self.end_collecting(id, Err(ContentError::TimedOut));
            }
        }
    }

    pub(super) fn stop_collect_timer(&mut self, id: ExchangeId) {
        let deadline = self.exchanges.get_mut(id).and_then(|exchange| exchange.collect_deadline.take());
        if deadline.is_some() {
            self.timers.stop(Timer::Collect(id), deadline);
        }
    }
}
