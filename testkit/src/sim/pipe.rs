//! One direction of a connection: a queue in order, with a delay, that can stall, block and end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use callosum_proto::Multipart;

/// Messages, or bytes, from one side to the other, in order.
#[derive(Default)]
pub(super) struct Pipe {
    /// With each message's time of arrival.
    messages: VecDeque<(Instant, Multipart)>,
    bytes: BytesMut,
    /// Times of arrival, and how many of the bytes arrive then.
    parts: VecDeque<(Instant, usize)>,
    /// Latency of what is pushed from now on.
    delay: Duration,
    /// When the last item that was pushed arrives.
    last: Option<Instant>,
    /// When the receiver reads end of stream. What is pushed after the end is lost.
    ended: Option<Instant>,
    /// Nothing arrives, for now.
    stalled: bool,
    /// The pipe accepts nothing, for now.
    blocked: bool,
    /// Something was pushed.
    begun: bool,
}

impl Pipe {
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// A pipe that has ended.
    pub(super) fn ended(now: Instant) -> Self {
        Self { ended: Some(now), ..Self::default() }
    }

    /// Messages, or bytes, in flight.
    pub(super) fn len(&self) -> usize {
        self.messages.len() + self.bytes.len()
    }

    /// How many messages, or bytes, the pipe accepts if `capacity` may be in flight.
    pub(super) fn room(&self, capacity: usize) -> usize {
        if self.blocked { 0 } else { capacity.saturating_sub(self.len()) }
    }

    /// The time of arrival of what is pushed now: not before what was pushed earlier.
    fn arrival(&mut self, now: Instant) -> Instant {
        self.begun = true;
        let at = (now + self.delay).max(self.last.unwrap_or(now));
        self.last = Some(at);
        at
    }

    pub(super) fn push_message(&mut self, now: Instant, message: Multipart) {
        if self.ended.is_none() {
            let at = self.arrival(now);
            self.messages.push_back((at, message));
        }
    }

    pub(super) fn push_bytes(&mut self, now: Instant, bytes: &[u8]) {
        if self.ended.is_some() {
            return;
        }
        let at = self.arrival(now);
        self.bytes.extend_from_slice(bytes);
        match self.parts.back_mut().filter(|(last, _)| *last == at) {
            Some((_, len)) => *len += bytes.len(),
            None => self.parts.push_back((at, bytes.len())),
        }
    }

    /// The next message that has arrived.
    pub(super) fn pop_message(&mut self, now: Instant) -> Option<Multipart> {
        let (at, _) = self.messages.front()?;
        if self.stalled || *at > now {
            return None;
        }
        self.messages.pop_front().map(|(_, message)| message)
    }

    /// How many bytes have arrived.
    pub(super) fn arrived(&self, now: Instant) -> usize {
        if self.stalled {
            return 0;
        }
        self.parts.iter().take_while(|(at, _)| *at <= now).map(|(_, len)| len).sum()
    }

    pub(super) fn take_bytes(&mut self, len: usize) -> Bytes {
        let mut left = len;
        while let Some((_, part)) = self.parts.front_mut().filter(|_| left > 0) {
            let taken = left.min(*part);
            (*part, left) = (*part - taken, left - taken);
            if *part == 0 {
                self.parts.pop_front();
            }
        }
        self.bytes.split_to(len).freeze()
    }

    /// When the next message, bytes or end of stream arrives.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let message = self.messages.front().map(|(at, _)| *at);
        message.or(self.parts.front().map(|(at, _)| *at)).or(self.ended).filter(|_| !self.stalled)
    }

    /// Ends the pipe: what is in flight still arrives.
    pub(super) fn end(&mut self, now: Instant) {
        if self.ended.is_none() {
            self.ended = Some(self.arrival(now));
        }
    }

    /// An empty pipe with the same latency.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.delay)
    }

    /// The same pipe without its end.
    pub(super) fn reopened(self) -> Self {
        Self { ended: None, ..self }
    }

    /// Whether everything has arrived, including the end of stream.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        !self.stalled && self.len() == 0 && self.ended.is_some_and(|at| at <= now)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Stops or resumes all arrivals.
    pub(super) fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// Stops or resumes accepting.
    pub(super) fn block(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Whether the pipe is blocked after it has accepted something.
    pub(super) fn is_blocked_midway(&self) -> bool {
        self.blocked && self.begun
    }

    pub(super) fn takes_time(&self) -> bool {
        !self.delay.is_zero()
    }

    /// Whether something is in flight and doesn't arrive.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled && self.len() > 0
    }

    /// Sets the latency of what is pushed from now on.
    pub(super) fn delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Removes latency, stall and block: everything in flight arrives now.
    pub(super) fn deliver_now(&mut self, now: Instant) {
        (self.stalled, self.blocked) = (false, false);
        (self.delay, self.last) = (Duration::ZERO, None);
        self.messages.iter_mut().for_each(|(at, _)| *at = now);
        if !self.bytes.is_empty() {
            self.parts = VecDeque::from([(now, self.bytes.len())]);
        }
        if let Some(at) = &mut self.ended {
            *at = now;
        }
    }
}
