//! Virtual time: it advances to the next arrival or timer, or by a random amount.

use std::time::{Duration, Instant};

use super::World;
use callosum_proto::CloseCause;

/// Timers that fire one after the other before the others fire together.
const MOST_TICKS: usize = 20;

impl World<'_> {
    /// Advances to the next arrival or timer, by up to 4 s, or by minutes.
    pub(super) fn pass(&mut self) {
        if self.chance.one_in(25) && !self.setup.is_stable() {
            return self.pass_minutes();
        }
        let at = match self.chance.below(12) {
            which if which < 4 || self.setup.is_stable() => self.next_arrival().unwrap_or(self.now),
            4 => self.next_due().unwrap_or(self.now),
            _ => self.now + Duration::from_millis(self.chance.size(4_000) as u64),
        };
        self.go_to(at);
    }

    /// Advances by minutes in which applications do nothing. Timers fire one after the other, or all at the end, as on a
    /// machine that was suspended.
    fn pass_minutes(&mut self) {
        if self.chance.one_in(2) {
            self.links.iter_mut().for_each(|link| link.transport.stall(self.chance.below(2), true));
        }
        let at = self.now + Duration::from_secs(60 + self.chance.size(600) as u64);
        self.note("minutes passed");
        if self.links.iter().any(|link| link.up == [true; 2] && link.transport.is_stalled()) {
            self.note("minutes passed on a stalled link");
        }
        let ticks = if self.chance.one_in(2) { MOST_TICKS } else { 0 };
        for _ in 0..ticks {
            let Some(due) = self.next_due().filter(|due| *due < at) else { break };
            self.go_to(due);
            self.act();
        }
        self.go_to(at);
    }

    /// Advances the time and fires the timers that are due.
    pub(super) fn go_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.do_what_is_due();
    }

    /// When the next message or bytes arrive.
    fn next_arrival(&self) -> Option<Instant> {
        let sides = self.links.iter().flat_map(|link| [0, 1].map(|side| (link, side)));
        let receiving = sides.filter(|(link, side)| link.up[*side]);
        let due = receiving.filter_map(|(link, side)| link.transport.next_arrival(side));
        due.filter(|at| *at > self.now).min()
    }

    /// When the next arrival or timer is due.
    fn next_due(&self) -> Option<Instant> {
        let sides = self.links.iter().flat_map(|link| [0, 1].map(|side| (link, side)));
        let due = sides.flat_map(|(link, side)| {
            let connection = link.drivers[side].connection.poll_timeout();
            [connection, link.transport.poll_timeout(side).filter(|_| link.up[side])]
        });
        due.flatten().chain(self.next_arrival()).filter(|at| *at > self.now).min()
    }

    fn do_what_is_due(&mut self) {
        for link in 0..self.links.len() {
            for side in 0..2 {
                self.links[link].drivers[side].handle_timeout(self.now);
                if self.links[link].up[side] && self.links[link].transport.handle_timeout(self.now, side) {
                    self.lose(link, side, CloseCause::LinkLost);
                }
            }
        }
    }
}
