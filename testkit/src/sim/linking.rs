//! Connections open, close, half-close and are taken over; hosts restart.

use super::driver::Driver;
use super::host::Host;
use super::link_side::LinkSide;
use super::{Link, World, setup};
use callosum_proto::{CallId, CloseCause, Multipart};

impl World<'_> {
    pub(super) fn driver(&mut self, link: usize, side: usize, first_call: CallId) -> Driver {
        self.next_nonce += 1;
        let host = self.host(link, side);
        let at = LinkSide { link, side, connection: self.hosts[host].endpoint.open() };
        let connection = self.setup.connection(at, self.next_nonce, first_call, self.now);
        Driver::new(connection, at, self.setup.config(link, side), &self.setup.config(link, 1 - side))
    }

    /// Replaces a closed connection with a new one.
    fn renew(&mut self, link: usize, side: usize) {
        if self.links[link].drivers[side].connection.is_closed() {
            self.collect(link, side);
            let first_call = self.links[link].drivers[side].connection.next_call();
            self.links[link].drivers[side] = self.driver(link, side, first_call);
        }
    }

    /// Opens a new connection if both sides know that the last one is closed.
    pub(super) fn connect(&mut self, link: usize) -> bool {
        if self.links[link].up != [false; 2] {
            return false;
        }
        (0..2).for_each(|side| self.renew(link, side));
        let transport = self.setup.transport(link, &mut self.chance, self.now);
        let link = &mut self.links[link];
        (link.transport, link.up) = (transport, [true; 2]);
        link.drivers.iter_mut().for_each(|driver| driver.took_over = false);
        if link.transport.is_message_link() {
            link.drivers.iter_mut().for_each(|driver| driver.connection.handle_connected(self.now));
        }
        true
    }

    /// The connection of one side is closed.
    pub(super) fn lose(&mut self, link: usize, side: usize, cause: CloseCause) {
        let Link { transport, drivers, up } = &mut self.links[link];
        if !std::mem::replace(&mut up[side], false) {
            return;
        }
        // On message links the connector that took over keeps using the connection.
        if cause != CloseCause::PeerRestarted || !transport.is_message_link() {
            transport.end(self.now, side);
        }
        let driver = &mut drivers[side];
        if cause == CloseCause::LinkLost && side == 0 {
            self.next_nonce += 1;
            if driver.connection.handle_disconnected(setup::nonce(self.next_nonce)) {
                assert!(driver.open.is_empty(), "a request has come");
                // It waits for the next transport: nothing was exchanged over this one.
                return;
            }
        }
        driver.connection.close(cause);
    }

    /// Half-closes the connection: what the side sends from now on is lost, and the other side reads end of stream.
    pub(super) fn half_close(&mut self, link: usize, side: usize) {
        if self.links[link].up != [true; 2] {
            return;
        }
        // The other side has sent what it has before the half-close reaches it.
        self.transmit(link, 1 - side, 100);
        if self.links[link].transport.half_close(self.now, side) {
            self.note("half-closed");
        }
    }

    /// Restarts a host: its state is lost, its peers' is not.
    pub(super) fn restart(&mut self, host: usize) {
        self.note(if host < self.setup.binders() { "binder restarted" } else { "connector restarted" });
        self.hosts[host] = Host::new(self.setup.endpoint(host));
        for link in 0..self.links.len() {
            let Some(side) = (0..2).find(|side| self.host(link, *side) == host) else { continue };
            let Link { transport, drivers, up } = &mut self.links[link];
            if std::mem::replace(&mut up[side], false) {
                transport.end(self.now, side);
            }
            drivers[side].crash(&mut self.model);
            let driver = self.driver(link, side, CallId::FIRST);
            self.links[link].drivers[side] = driver;
        }
    }

    /// A connector reconnects with the same identity before the binder notices that it was gone. It receives only what the
    /// binder sends from now on.
    pub(super) fn take_over(&mut self, link: usize) {
        let Link { transport, up, .. } = &mut self.links[link];
        if !transport.is_message_link() || *up != [false, true] {
            return;
        }
        transport.take_over(self.chance.one_in(2));
        self.renew(link, 0);
        let link = &mut self.links[link];
        link.up[0] = true;
        link.drivers[0].took_over = true;
        link.drivers[0].connection.handle_connected(self.now);
        self.note("taken over");
    }

    /// A message arrives at a side.
    pub(super) fn receive(&mut self, link: usize, side: usize, message: Multipart) {
        let again = (side == 1 && self.links[link].transport.is_message_link()).then(|| message.clone());
        self.links[link].drivers[side].receive(self.now, message);
        self.collect(link, side);
        self.settle();
        let restarted =
            self.links[link].drivers[side].connection.close_cause() == Some(CloseCause::PeerRestarted);
        if let Some(hello) = again.filter(|_| restarted) {
            self.renew(link, side);
            self.links[link].up[side] = true;
            let driver = &mut self.links[link].drivers[side];
            driver.took_over = true;
            driver.connection.handle_connected(self.now);
            driver.receive(self.now, hello);
            self.settle();
            assert!(
                self.links[link].drivers[side].connection.is_established(),
                "a hello begins a connection"
            );
            let took_over = self.links[link].drivers[0].took_over;
            self.note(if took_over { "takeover admitted" } else { "late hello admitted" });
        }
    }
}
