//! A stream that nobody reads doesn't block other streams (rule F-9).

use super::app::Reader;
use super::host::{Handler, Stage};
use super::{Pace, World};
use callosum_proto::CallId;
use callosum_proto::scheduler::OrderingMode;

impl World<'_> {
    /// Checks that everything still open waits, in the end, for an application that doesn't read.
    ///
    /// # Panics
    /// If anything waits for another reason.
    pub(super) fn check_unread(&mut self) {
        assert_eq!(self.pace, Pace::Steady);
        let sides = (0..self.links.len()).flat_map(|link| [(link, 0), (link, 1)]);
        if !sides.into_iter().all(|(link, side)| self.has_room(link, side)) {
            return self.note("more unread than there is room for");
        }
        let mut ignored = 0;
        for link in 0..self.links.len() {
            for side in 0..2 {
                self.check_readers(link, side);
                self.check_calls(link, side);
                let results = &self.links[link].drivers[side].results;
                ignored += results.values().filter(|reader| reader.is_ignored()).count();
            }
        }
        for host in &self.hosts {
            ignored += host.handlers.values().filter(|handler| handler.is_ignoring()).count();
        }
        (0..ignored).for_each(|_| self.note("not read until the end"));
    }

    /// Whether the first windows of all unread streams take up at most half of the connection window.
    fn has_room(&self, link: usize, side: usize) -> bool {
        let driver = &self.links[link].drivers[side];
        let results = driver.results.values().filter(|reader| reader.is_ignored()).count();
        let handlers = self.hosts[self.host(link, side)].handlers.values();
        let of_post = handlers.filter(|handler| handler.session_id == driver.session_id && !handler.gone);
        let arguments =
            of_post.filter(|handler| handler.argument.as_ref().is_some_and(|reader| !reader.done));
        let windows = (results + arguments.count()) as u64 * driver.config.first_window;
        windows <= driver.config.link_window / 2
    }

    /// Every application that reads has reached the end of its stream.
    fn check_readers(&self, link: usize, side: usize) {
        let driver = &self.links[link].drivers[side];
        let results = driver.results.values().map(|reader| (reader, self.has_no_end(reader)));
        let arguments = self.hosts[self.host(link, side)].handlers.values().filter_map(|handler| {
            let reads =
                handler.session_id == driver.session_id && handler.is_at_work() && handler.stopped.is_none();
            handler.argument.as_ref().filter(|_| reads).map(|reader| (reader, false))
        });
        let readers: Vec<_> = results.chain(arguments).collect();
        let collects = self.is_reassembly_blocked(link, side);
        for (reader, excused) in readers {
            let excused = excused || reader.is_ignored() || (reader.is_collecting() && collects);
            assert!(reader.done || excused, "{reader:?} is blocked: {:?}", self.model.0[reader.call]);
        }
    }

    /// Whether a result ends with a failure, and has no end while its handler waits.
    fn has_no_end(&self, reader: &Reader) -> bool {
        self.handler(reader.call).is_some_and(|handler| handler.plan.fails() && self.waits(handler))
    }

    /// Whether a body without an end is under reassembly. Bodies share one budget, so the others may have to wait for it.
    fn is_reassembly_blocked(&self, link: usize, side: usize) -> bool {
        let mut results = self.links[link].drivers[side].results.values();
        results.any(|reader| reader.is_collecting() && self.has_no_end(reader))
    }

    /// Whether the argument or the result of a call waits for its reassembly.
    fn waits_for_reassembly(&self, link: usize, side: usize, id: CallId, handler: Option<&Handler>) -> bool {
        let result = self.links[link].drivers[side].results.get(&id);
        let argument =
            handler.filter(|handler| handler.is_at_work()).and_then(|handler| handler.argument.as_ref());
        (result.is_some_and(Reader::is_collecting) && self.is_reassembly_blocked(link, side))
            || (argument.is_some_and(Reader::is_collecting) && self.is_reassembly_blocked(link, 1 - side))
    }

    /// Every open call waits for an application that doesn't read, or for a body without an end.
    fn check_calls(&self, link: usize, side: usize) {
        let driver = &self.links[link].drivers[side];
        for (id, number) in &driver.calls {
            let call = &self.model.0[*number];
            assert!(call.reached, "{number} has not left: {call:?}");
            let handler = self.handler(*number);
            let reason = match handler {
                Some(handler) => self.waits(handler),
                // The handler has answered.
                None => self.is_unread(link, side, *id) || call.key.is_given(),
            };
            let reason = reason || self.waits_for_reassembly(link, side, *id, handler);
            assert!(reason, "{number} is blocked: {call:?}, {handler:?}");
        }
    }

    fn handler(&self, number: usize) -> Option<&Handler> {
        let mut handlers = self.hosts.iter().flat_map(|host| host.handlers.values());
        handlers.find(|handler| handler.call == number && !handler.gone && !handler.answered)
    }

    /// Whether a handler has a reason not to end.
    fn waits(&self, handler: &Handler) -> bool {
        let session_id = handler.session_id;
        let host = &self.hosts[self.host(session_id.link, session_id.side)];
        let config = host.scheduler.config();
        let keyed = handler.key.is_given() && config.mode != OrderingMode::Unordered;
        match handler.stage {
            Stage::Waiting => {
                let running = host.handlers.values().filter(|other| other.stage == Stage::Running).count();
                keyed || running >= config.max_running
            }
            Stage::Done => keyed,
            Stage::Running | Stage::Replying => {
                let writes = handler.writer.as_ref().is_some_and(|writer| !writer.done);
                let drivers = &self.links[session_id.link].drivers;
                let call =
                    drivers[1 - session_id.side].calls.iter().find(|(_, number)| **number == handler.call);
                let unread =
                    call.is_some_and(|(id, _)| self.is_unread(session_id.link, 1 - session_id.side, *id));
                // A result that hasn't begun to leave waits for the result before it.
                let queued = call.is_some() && !self.model.0[handler.call].responded;
                handler.is_ignoring() || (writes && (unread || (queued && keyed)))
            }
        }
    }

    /// Whether the application doesn't read the result of this call.
    fn is_unread(&self, link: usize, side: usize, call: CallId) -> bool {
        let reader = self.links[link].drivers[side].results.get(&call);
        reader.is_some_and(Reader::is_ignored)
    }
}
