//! One direction of a connection: what is under way, and what keeps it from arriving.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use callosum_proto::Multipart;

/// From one side to the other, in order.
#[derive(Default)]
pub(super) struct Lane {
    /// With the time at which each arrives.
    messages: VecDeque<(Instant, Multipart)>,
    bytes: BytesMut,
    /// How many of the bytes arrive when.
    parts: VecDeque<(Instant, usize)>,
    /// How long the way takes.
    delay: Duration,
    /// When the last of what was sent arrives.
    last: Option<Instant>,
    /// Nothing follows, which is heard then: what is sent after it is lost.
    ended: Option<Instant>,
    /// Nothing arrives, for now.
    stuck: bool,
    /// Nothing more is taken, for now.
    stopped: bool,
    /// It has taken something.
    begun: bool,
}

impl Lane {
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// One that is over.
    pub(super) fn ended(now: Instant) -> Self {
        Self { ended: Some(now), ..Self::default() }
    }

    /// Messages, or bytes, that are under way.
    pub(super) fn len(&self) -> usize {
        self.messages.len() + self.bytes.len()
    }

    /// What is taken of what is sent, where `capacity` may be under way.
    pub(super) fn room(&self, capacity: usize) -> usize {
        if self.stopped { 0 } else { capacity.saturating_sub(self.len()) }
    }

    /// When what is sent now arrives: not before what was sent before.
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
        if self.stuck {
            return None;
        }
        Some(self.messages.pop_front_if(|(at, _)| *at <= now)?.1)
    }

    /// Bytes that have arrived.
    pub(super) fn arrived(&self, now: Instant) -> usize {
        if self.stuck {
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

    /// When the next of what is under way arrives.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let message = self.messages.front().map(|(at, _)| *at);
        message.or(self.parts.front().map(|(at, _)| *at)).or(self.ended).filter(|_| !self.stuck)
    }

    /// Nothing follows what was sent.
    pub(super) fn end(&mut self, now: Instant) {
        if self.ended.is_none() {
            self.ended = Some(self.arrival(now));
        }
    }

    /// Another one that is as long.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.delay)
    }

    /// The same, and more follows.
    pub(super) fn reopened(self) -> Self {
        Self { ended: None, ..self }
    }

    /// Whether all of it has arrived, and its end.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        !self.stuck && self.len() == 0 && self.ended.is_some_and(|at| at <= now)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Nothing arrives, or all does again.
    pub(super) fn stick(&mut self, stuck: bool) {
        self.stuck = stuck;
    }

    /// Nothing more is taken, or all is again.
    pub(super) fn stop(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

    /// Whether it takes no more of what it has begun to take.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped && self.begun
    }

    pub(super) fn takes_time(&self) -> bool {
        !self.delay.is_zero()
    }

    /// Whether something is under way that does not arrive.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck && self.len() > 0
    }

    /// What is sent from now on takes so long.
    pub(super) fn delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// All arrives now, and nothing takes any time.
    pub(super) fn hurry(&mut self, now: Instant) {
        (self.stuck, self.stopped) = (false, false);
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
