//! A stream that is not read doesn't block other streams (rule F-9).

use super::app::Reader;
use super::driver::Driver;
use super::host::{Handler, Stage};
use super::{Pace, World};
use callosum_proto::ordering::OrderingMode;
use callosum_proto::{CallId, Delivery};

impl World<'_> {
    /// Checks that everything still open waits, in the end, for an application that doesn't read. Returns `false` if more is unread than
    /// there is room for, so that anything may wait for anything.
    ///
    /// # Panics
    /// If anything waits for another reason.
    pub(super) fn check_unread(&mut self) -> bool {
        assert_eq!(self.pace, Pace::Steady);
        let sides = (0..self.links.len()).flat_map(|link| [(link, 0), (link, 1)]);
        if !sides.into_iter().all(|(link, side)| self.has_room(link, side)) {
            self.note("more unread than there is room for");
            return false;
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
        true
    }

    /// Whether the first windows of all streams that may be unread take up at most half of the connection window.
    fn has_room(&self, link: usize, side: usize) -> bool {
        let driver = &self.links[link].drivers[side];
        let host = &self.hosts[self.host(link, side)];
        let results = driver.results.values().filter(|reader| reader.is_ignored()).count();
        let whole = driver.calls.values().filter(|number| self.is_whole(**number)).count();
        let incomplete = driver.open.values().filter(|number| host.requests.is_incomplete(**number)).count();
        let of_driver = host.handlers.values().filter(|handler| handler.at == driver.at && !handler.gone);
        let arguments =
            of_driver.filter(|handler| handler.argument.as_ref().is_some_and(|reader| !reader.done));
        let windows = (results + whole + incomplete + arguments.count()) as u64 * driver.config.first_window;
        windows <= driver.config.connection_window / 2
    }

    fn is_whole(&self, call: usize) -> bool {
        self.model.0[call].delivery == Delivery::Whole
    }

    /// Every application that reads has reached the end of its stream.
    fn check_readers(&self, link: usize, side: usize) {
        let driver = &self.links[link].drivers[side];
        let results = driver.results.values().map(|reader| (reader, self.has_no_end(reader.call)));
        let arguments = self.hosts[self.host(link, side)].handlers.values().filter_map(|handler| {
            let reads = handler.at == driver.at && handler.is_at_work() && !handler.stopped;
            handler.argument.as_ref().filter(|_| reads).map(|reader| (reader, false))
        });
        let readers: Vec<_> = results.chain(arguments).collect();
        let blocked = self.is_reassembly_blocked(self.host(link, side));
        for (reader, excused) in readers {
            let excused = excused || reader.is_ignored() || (reader.is_reassembling() && blocked);
            assert!(reader.done || excused, "{reader:?} is blocked: {:?}", self.model.0[reader.call]);
        }
    }

    /// Whether a result ends with a failure, and has no end while its handler waits.
    fn has_no_end(&self, call: usize) -> bool {
        self.handler(call).is_some_and(|handler| handler.plan.fails() && self.waits(handler))
    }

    /// Whether a body without an end may be under reassembly. Bodies of a host share a budget, so the others may have to wait for it.
    fn is_reassembly_blocked(&self, host: usize) -> bool {
        let sides = (0..self.links.len()).flat_map(|link| [(link, 0), (link, 1)]);
        let mut drivers = sides.filter(|&(link, side)| self.host(link, side) == host);
        drivers.any(|(link, side)| self.reassembles_without_end(&self.links[link].drivers[side]))
    }

    fn reassembles_without_end(&self, driver: &Driver) -> bool {
        let streams =
            driver.results.values().filter(|reader| reader.is_reassembling()).map(|reader| reader.call);
        let whole = driver.calls.values().copied().filter(|number| self.is_whole(*number));
        streams.chain(whole).any(|call| self.has_no_end(call))
    }

    /// Whether the argument or the result of a call waits for its reassembly.
    fn waits_for_reassembly(&self, link: usize, side: usize, id: CallId, number: usize) -> bool {
        let result = self.links[link].drivers[side].results.get(&id);
        let argument = self.handler(number).and_then(|handler| handler.argument.as_ref());
        let result = result.is_some_and(Reader::is_reassembling) || self.is_whole(number);
        let other = self.host(link, 1 - side);
        let argument =
            argument.is_some_and(Reader::is_reassembling) || self.hosts[other].requests.is_incomplete(number);
        (result && self.is_reassembly_blocked(self.host(link, side)))
            || (argument && self.is_reassembly_blocked(other))
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
                None if self.hosts[self.host(link, 1 - side)].requests.waits(*number) => {
                    self.may_not_start(link, 1 - side, *number)
                }
                // The handler has answered.
                None => self.is_unread(link, side, *id) || call.key.is_given(),
            };
            let reason = reason || self.waits_for_reassembly(link, side, *id, *number);
            assert!(reason, "{number} is blocked: {call:?}, {handler:?}");
        }
    }

    /// Whether a request has a reason not to start, besides an argument that is not complete.
    fn may_not_start(&self, link: usize, side: usize, number: usize) -> bool {
        let (host, connection) =
            (&self.hosts[self.host(link, side)], &self.links[link].drivers[side].connection);
        host.requests.waits_for_order(number)
            || host.requests.running() >= host.ordering().max_running
            || host.requests.running_of(connection.id()) >= host.ordering().max_running_per_connection()
            || connection.is_backlogged()
    }

    fn handler(&self, number: usize) -> Option<&Handler> {
        let mut handlers = self.hosts.iter().flat_map(|host| host.handlers.values());
        handlers.find(|handler| handler.call == number && handler.is_at_work())
    }

    /// Whether a handler has a reason not to end.
    fn waits(&self, handler: &Handler) -> bool {
        let at = handler.at;
        let host = &self.hosts[self.host(at.link, at.side)];
        let keyed = handler.key.is_given() && host.ordering().mode != OrderingMode::Unordered;
        if handler.stage == Stage::Beginning {
            return keyed;
        }
        let writes = handler.writer.as_ref().is_some_and(|writer| !writer.done);
        let mut calls = self.links[at.link].drivers[1 - at.side].calls.iter();
        let call = calls.find(|(_, number)| **number == handler.call);
        let unread = call.is_some_and(|(id, _)| self.is_unread(at.link, 1 - at.side, *id));
        // A result that hasn't begun to leave waits for the result before it.
        let queued = call.is_some() && !self.model.0[handler.call].responded;
        handler.is_ignoring() || (writes && (unread || (queued && keyed)))
    }

    /// Whether the application doesn't read the result of this call.
    fn is_unread(&self, link: usize, side: usize, call: CallId) -> bool {
        let reader = self.links[link].drivers[side].results.get(&call);
        reader.is_some_and(Reader::is_ignored)
    }
}
