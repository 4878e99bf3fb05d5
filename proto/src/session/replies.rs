//! Answers of this side: how they are put in the queue.

use std::time::Instant;

use bytes::Bytes;

use super::exchange::{Exchange, Sending};
use super::outbox::{Answer, Entry, Place};
use super::requests::{Name, Open};
use super::{ExchangeId, IncomingId, Refusal, ReplyError, Session, Timer};
use crate::message::{ErrorInfo, Payload};
use crate::wire::dialect2::{MAX_FIRST, MAX_TEXTS};
use crate::{Metadata, Text, Urgency};

/// With more bytes than this waiting, the names of replies get buffers of their own: those that they came in may be
/// larger than what is counted.
const DETACH_FROM: usize = 1024 * 1024;

/// The answer to a request of the peer. Its size has the limit of [`Call::body`](super::Call::body).
#[derive(Clone, Debug)]
pub enum Reply {
    /// The handler's result.
    Result {
        /// The result, as the application's serializer wrote it.
        body: Bytes,
        /// Compress the body with Snappy; in dialect 2, where that makes it shorter.
        compressed: bool,
        /// What travels besides, in dialect 2 only.
        metadata: Metadata,
    },
    /// The result that [`Session::begin_reply`] began is complete with what was written.
    End,
    /// The handler's error. Over the limit, it loses its traceback.
    Failure(ErrorInfo),
    /// Callosum's own error, such as a [`Refusal`].
    Error(ErrorInfo),
    /// The same for a request that no handler was to see, such as one for which there was no room: it leaves at once,
    /// whatever other replies with its key wait for. A peer that does not read is cut off at 4 MiB of these.
    Refusal(ErrorInfo),
    /// The handler was stopped because of a cancellation, or never started.
    Cancelled,
}

impl Reply {
    /// Whether it is one record.
    fn is_short(&self) -> bool {
        match self {
            Self::Result { body, .. } => body.len() <= MAX_FIRST,
            Self::End => false,
            _ => true,
        }
    }

    /// A result without anything besides.
    pub fn result(body: impl Into<Bytes>) -> Self {
        Self::Result { body: body.into(), compressed: false, metadata: Metadata::new() }
    }
}

impl Session {
    /// A handler starts to run for this request, and must have ended by `deadline`.
    ///
    /// [`Event::ExecutionTimedOut`](super::Event::ExecutionTimedOut) reports if it has not. Ignored for a request that is not open, or has an earlier
    /// deadline of its requester's.
    pub fn started(&mut self, id: IncomingId, deadline: Instant) {
        let Some(open) = self.requests.get_mut(id) else { return };
        if open.deadline.is_none_or(|earlier| deadline < earlier) {
            let earlier = open.deadline.replace(deadline);
            if earlier.is_some() {
                self.timers.stop(Timer::Execution(id), earlier);
            }
            self.timers.set(Timer::Execution(id), deadline);
        }
    }

    /// Begins a result that is [written](super::Contents::write) bit by bit, and ends with [`Reply::End`]. It may fail
    /// at any time.
    ///
    /// `compressed` as in [`Reply::Result`]; `size` is that of the whole, if it is known.
    ///
    /// # Errors
    /// See [`ReplyError`]. A request of dialect 1 is answered with an ERROR instead.
    pub fn begin_reply(
        &mut self,
        id: IncomingId,
        compressed: bool,
        metadata: Metadata,
        size: Option<u64>,
    ) -> Result<(), ReplyError> {
        let open = self.requests.get_mut(id).ok_or(ReplyError::NotOpen)?;
        if open.begun {
            return Err(ReplyError::AlreadyBegun);
        }
        let Name::Two(wire, key) = open.name.clone() else {
            let detail = "the result is streamed, and this link speaks dialect 1";
            self.reply(id, Reply::Error(Refusal::Unsupported.to_error(detail)))?;
            return Err(ReplyError::NeedsDialect2);
        };
        open.begun = true;
        let (urgency, cancelled) = (open.urgency, open.cancelled);
        let limit = self.stream_limit();
        let exchange = self.exchanges.insert(ExchangeId::Theirs(id), Exchange::new(Some(wire), urgency));
        // Of one that is cancelled nothing is sent, but its end has its turn.
        exchange.stopped = cancelled;
        exchange.send = (!cancelled).then(|| Sending::new(limit, compressed));
        exchange.size = size;
        let mut answer = Answer::new(Name::Two(wire, key.clone()), Payload::Result(Bytes::new()));
        (answer.metadata, answer.streamed) = (metadata, true);
        let place = self.outbox.push(Entry::Reply(answer), &key, urgency);
        if let Some(exchange) = self.exchanges.get_mut(ExchangeId::Theirs(id)) {
            exchange.queued = Some(place);
        }
        Ok(())
    }

    /// Answers a request. Replies leave in the order in which they are given, if their urgency is the same.
    ///
    /// While the session [is backlogged](Self::is_backlogged), errors and cancellations of 4 MiB in all may join the
    /// queue; past that the peer is cut off as one that does not read.
    ///
    /// # Errors
    /// See [`ReplyError`]. The request is answered all the same, unless it was not open.
    pub fn reply(&mut self, id: IncomingId, reply: Reply) -> Result<(), ReplyError> {
        let mut open = self.requests.remove(id).ok_or(ReplyError::NotOpen)?;
        self.timers.stop(Timer::Execution(id), open.deadline);
        if self.outbox.bytes() > DETACH_FROM {
            open.name = open.name.detached();
        }
        let is_two = matches!(open.name, Name::Two(..));
        match (open.begun, reply) {
            // Nobody gives credit for it any more.
            (_, reply) if open.cancelled && is_two && !reply.is_short() => {
                self.answer(id, open, Reply::Cancelled)
            }
            (_, Reply::Refusal(info)) => {
                if let Name::Two(wire, _) = open.name {
                    self.drop_exchange(ExchangeId::Theirs(id));
                    self.exchanges.theirs.remove(&wire);
                }
                self.push_refusal(Answer::new(open.name.detached(), Payload::Error(info)), open.urgency);
                Ok(())
            }
            (true, Reply::End) => {
                self.end_reply(id);
                Ok(())
            }
            (true, Reply::Result { .. }) => {
                let error = ErrorInfo::new("Error", ReplyError::AlreadyBegun.to_string());
                self.answer(id, open, Reply::Error(error))?;
                Err(ReplyError::AlreadyBegun)
            }
            (false, Reply::End) => self.answer(id, open, Reply::result("")),
            (_, reply) => self.answer(id, open, reply),
        }
    }

    /// All of a streamed result has been written.
    fn end_reply(&mut self, id: IncomingId) {
        let id = ExchangeId::Theirs(id);
        self.contents().stop(id);
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.over = true;
        match &mut exchange.send {
            Some(send) if !send.fin_sent() => {
                send.finish();
                // Without a handler that is bounded itself, what is left counts like a body.
                exchange.whole_body = true;
                self.exchanges.body_bytes += send.queued();
                self.exchanges.schedule(id);
            }
            _ => self.drop_exchange(id),
        }
    }

    fn answer(&mut self, id: IncomingId, open: Open, reply: Reply) -> Result<(), ReplyError> {
        let limit = self.sendable();
        let is_two = matches!(open.name, Name::Two(..));
        let mut answer = Answer::new(open.name, Payload::Cancelled);
        let mut fitted = Ok(());
        match reply {
            Reply::Result { body, compressed, metadata } => {
                (answer.payload, answer.compressed) = (Payload::Result(body), compressed);
                if is_two {
                    answer.metadata = metadata;
                } else if !metadata.is_empty() {
                    fitted = Err(ReplyError::NeedsDialect2);
                }
            }
            Reply::Failure(info) => answer.payload = Payload::Failure(info),
            Reply::Error(info) => answer.payload = Payload::Error(info),
            Reply::Cancelled | Reply::End | Reply::Refusal(_) => {}
        }
        fitted = fitted.and(fit(&mut answer, limit, is_two));
        let exchange = ExchangeId::Theirs(id);
        let mut place = None;
        let long = is_two && matches!(&answer.payload, Payload::Result(body) if body.len() > MAX_FIRST);
        if long && let Name::Two(wire, _) = answer.name {
            let limit = self.stream_limit();
            self.contents().stop(exchange);
            let open = self.exchanges.insert(exchange, Exchange::new(Some(wire), open.urgency));
            open.send = Some(Sending::new(limit, answer.compressed));
            (open.whole_body, open.over) = (true, true);
        } else if let Name::Two(wire, _) = answer.name {
            // In place of a result that has begun, or is about to: later ones of its key follow it.
            if let Some(begun) = self.exchanges.get_mut(exchange) {
                (place, answer.is_end) = (begun.queued, begun.leaving.take().is_some());
            }
            self.drop_exchange(exchange);
            self.exchanges.theirs.remove(&wire);
        }
        self.queue_answer(answer, open.urgency, place);
        fitted
    }

    fn queue_answer(&mut self, mut answer: Answer, urgency: Urgency, place: Option<Place>) {
        // A peer can cause any number of these without a handler having run: by calls that find no place to wait, or
        // that it cancels. Past the backlog they are bounded like what this session refuses by itself.
        if self.is_backlogged() && matches!(answer.payload, Payload::Error(_) | Payload::Cancelled) {
            answer = match self.outbox.count_refusal(answer) {
                Ok(counted) => counted,
                Err(_) => return self.close(super::CloseCause::PeerNotReading),
            };
        }
        match place {
            Some(place) => self.outbox.replace(place, answer),
            None => {
                let key = answer.name.key().clone();
                self.outbox.push(Entry::Reply(answer), &key, urgency);
            }
        }
    }

    /// Refuses a request that no handler has seen.
    pub(super) fn refuse(&mut self, name: Name, refusal: Refusal, detail: &str) {
        let payload = Payload::Error(refusal.to_error(detail));
        self.push_refusal(Answer::new(name.detached(), payload), Urgency::DEFAULT);
    }

    fn push_refusal(&mut self, mut answer: Answer, urgency: Urgency) {
        answer.out_of_turn = true;
        if self.outbox.push_refusal(answer, urgency).is_err() {
            self.close(super::CloseCause::PeerNotReading);
        }
    }
}

/// Makes a reply one that the peer takes: an error gives up its traceback, and what is still too large becomes an
/// ERROR that says so.
pub(super) fn fit(answer: &mut Answer, limit: usize, is_two: bool) -> Result<(), ReplyError> {
    if let Payload::Failure(info) | Payload::Error(info) = &mut answer.payload
        && info.size() > if is_two { limit.min(MAX_TEXTS) } else { limit }
    {
        info.traceback = Text::default();
    }
    let size = answer.payload.size();
    let limit = match &answer.payload {
        Payload::Failure(_) | Payload::Error(_) if is_two => limit.min(MAX_TEXTS),
        _ => limit,
    };
    if size <= limit {
        return Ok(());
    }
    let error = ReplyError::TooLarge { size, limit };
    answer.payload = Payload::Error(Refusal::ReplyTooLarge.to_error(&error.to_string()));
    answer.compressed = false;
    Err(error)
}
