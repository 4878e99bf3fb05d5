//! What nobody reads holds up nobody else (rule F-9).

use super::host::{Handler, Stage};
use super::{Pace, World};
use callosum_proto::CallId;
use callosum_proto::scheduler::OrderingMode;

impl World<'_> {
    /// Everything is at rest, but for what waits, in the end, for somebody who reads nothing.
    ///
    /// # Panics
    /// If anything waits without such a reason.
    pub(super) fn check_unread(&mut self) {
        assert_eq!(self.pace, Pace::Steady);
        let sides = (0..self.links.len()).flat_map(|link| [(link, 0), (link, 1)]);
        if !sides.into_iter().all(|(link, side)| self.has_room(link, side)) {
            return self.note("more unread than there is room for");
        }
        let mut ignored = 0;
        for link in 0..self.links.len() {
            for side in 0..2 {
                self.check_contents(link, side);
                self.check_calls(link, side);
                let results = &self.links[link].posts[side].results;
                ignored += results.values().filter(|reader| reader.is_ignored()).count();
            }
        }
        for host in &self.hosts {
            ignored += host.handlers.values().filter(|handler| handler.is_ignoring()).count();
        }
        (0..ignored).for_each(|_| self.note("not read until the end"));
    }

    /// Whether the first windows of all that nobody reads take up no more than half of the link's credit.
    fn has_room(&self, link: usize, side: usize) -> bool {
        let post = &self.links[link].posts[side];
        let results = post.results.values().filter(|reader| reader.is_ignored()).count();
        let handlers = self.hosts[Self::host(link, side)].handlers.values();
        let of_post = handlers.filter(|handler| handler.seat == post.seat && !handler.gone);
        let arguments =
            of_post.filter(|handler| handler.argument.as_ref().is_some_and(|reader| !reader.done));
        let windows = (results + arguments.count()) as u64 * post.config.first_window;
        windows <= post.config.link_window / 2
    }

    /// Whoever reads has come to the end.
    fn check_contents(&self, link: usize, side: usize) {
        let post = &self.links[link].posts[side];
        // Those that fail after their last byte, if the handler of that waits for somebody.
        let results = post.results.values().map(|reader| {
            let handler = self.handler(reader.call);
            (reader, handler.is_some_and(|handler| handler.plan.fails() && self.waits(handler)))
        });
        let arguments = self.hosts[Self::host(link, side)].handlers.values().filter_map(|handler| {
            let reads = handler.seat == post.seat && handler.is_at_work() && handler.stopped.is_none();
            handler.argument.as_ref().filter(|_| reads).map(|reader| (reader, false))
        });
        let readers: Vec<_> = results.chain(arguments).collect();
        // Bodies that are put together wait for each other.
        let collects = readers.iter().any(|(reader, excused)| reader.is_collecting() && *excused);
        for (reader, excused) in readers {
            let excused = excused || reader.is_ignored() || (reader.is_collecting() && collects);
            assert!(reader.done || excused, "{reader:?} is held up: {:?}", self.book.0[reader.call]);
        }
    }

    /// Whoever waits for an answer waits for somebody who reads nothing.
    fn check_calls(&self, link: usize, side: usize) {
        let post = &self.links[link].posts[side];
        for (id, number) in &post.calls {
            let call = &self.book.0[*number];
            assert!(call.reached, "{number} has not left: {call:?}");
            let reason = match self.handler(*number) {
                Some(handler) => self.waits(handler),
                // It has been answered.
                None => self.is_unread(link, side, *id) || call.key.is_given(),
            };
            assert!(reason, "{number} is held up: {call:?}, {:?}", self.handler(*number));
        }
    }

    fn handler(&self, number: usize) -> Option<&Handler> {
        let mut handlers = self.hosts.iter().flat_map(|host| host.handlers.values());
        handlers.find(|handler| handler.call == number && !handler.gone && !handler.answered)
    }

    /// Whether there is a reason for a handler not to end.
    fn waits(&self, handler: &Handler) -> bool {
        let seat = handler.seat;
        let host = &self.hosts[Self::host(seat.link, seat.side)];
        let config = host.scheduler.config();
        let keyed = handler.key.is_given() && config.mode != OrderingMode::Unordered;
        match handler.stage {
            Stage::Waiting => {
                let running = host.handlers.values().filter(|other| other.stage == Stage::Running).count();
                keyed || running >= config.max_running
            }
            Stage::Done => keyed,
            Stage::Running | Stage::Leaving => {
                let writes = handler.writer.as_ref().is_some_and(|writer| !writer.done);
                let posts = &self.links[seat.link].posts;
                let call = posts[1 - seat.side].calls.iter().find(|(_, number)| **number == handler.call);
                let unread = call.is_some_and(|(id, _)| self.is_unread(seat.link, 1 - seat.side, *id));
                // A result that has not begun to leave waits for the one before it.
                let queued = call.is_some() && !self.book.0[handler.call].responded;
                handler.is_ignoring() || (writes && (unread || (queued && keyed)))
            }
        }
    }

    /// Whether the result of a call of this side is not being read.
    fn is_unread(&self, link: usize, side: usize, call: CallId) -> bool {
        let reader = self.links[link].posts[side].results.get(&call);
        reader.is_some_and(super::app::Reader::is_ignored)
    }
}
