//! Connections open, close, half-close and are taken over; hosts restart.

use super::driver::Driver;
use super::host::{Host, SessionId};
use super::{Connection, World, setup};
use callosum_proto::session::CloseCause;
use callosum_proto::{CallId, Multipart, PeerId};

impl World<'_> {
    pub(super) fn driver(&mut self, link: usize, side: usize, first_call: CallId) -> Driver {
        self.next_peer += 1;
        let session_id = SessionId { link, side, peer: PeerId(self.next_peer) };
        let session = self.setup.session(session_id, first_call, self.now);
        Driver::new(session, session_id, self.setup.config(link, side), &self.setup.config(link, 1 - side))
    }

    /// Replaces a closed session with a new one.
    fn renew(&mut self, link: usize, side: usize) {
        if self.links[link].drivers[side].session.is_closed() {
            let first_call = self.links[link].drivers[side].session.next_call();
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
        let connection = &mut self.links[link];
        (connection.transport, connection.up) = (transport, [true; 2]);
        connection.drivers.iter_mut().for_each(|driver| driver.took_over = false);
        if connection.transport.is_message_link() {
            connection.drivers.iter_mut().for_each(|driver| driver.session.handle_connected(self.now));
        }
        true
    }

    /// The connection of one side is closed.
    pub(super) fn lose(&mut self, link: usize, side: usize, cause: CloseCause) {
        let connection = &mut self.links[link];
        if !std::mem::replace(&mut connection.up[side], false) {
            return;
        }
        // On message links the connector that took over keeps using the connection.
        if cause != CloseCause::PeerRestarted || !connection.transport.is_message_link() {
            connection.transport.end(self.now, side);
        }
        let driver = &mut connection.drivers[side];
        if cause == CloseCause::LinkLost && side == 0 {
            self.next_peer += 1;
            if driver.session.handle_disconnected(setup::nonce(self.next_peer)) {
                assert!(driver.requests == 0, "a request has come");
                // The session waits for the next connection: nothing was exchanged on this one.
                return;
            }
        }
        driver.session.close(cause);
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
        for link in 0..self.links.len() {
            let Some(side) = (0..2).find(|side| self.host(link, *side) == host) else { continue };
            let connection = &mut self.links[link];
            if std::mem::replace(&mut connection.up[side], false) {
                connection.transport.end(self.now, side);
            }
            connection.drivers[side].crash(&mut self.model);
            let driver = self.driver(link, side, CallId(0));
            self.links[link].drivers[side] = driver;
        }
        self.hosts[host] = Host::new(self.setup.scheduler(host));
    }

    /// A connector reconnects with the same identity before the binder notices that it was gone. It receives only what the
    /// binder sends from now on.
    pub(super) fn take_over(&mut self, link: usize) {
        let Connection { transport, up, .. } = &mut self.links[link];
        if !transport.is_message_link() || *up != [false, true] {
            return;
        }
        transport.take_over(self.chance.one_in(2));
        self.renew(link, 0);
        let connection = &mut self.links[link];
        connection.up[0] = true;
        connection.drivers[0].took_over = true;
        connection.drivers[0].session.handle_connected(self.now);
        self.note("taken over");
    }

    /// A message arrives at a side.
    pub(super) fn receive(&mut self, link: usize, side: usize, message: Multipart) {
        let again = (side == 1 && self.links[link].transport.is_message_link()).then(|| message.clone());
        self.links[link].drivers[side].receive(self.now, message);
        self.settle();
        let restarted =
            self.links[link].drivers[side].session.close_cause() == Some(CloseCause::PeerRestarted);
        if let Some(hello) = again.filter(|_| restarted) {
            self.renew(link, side);
            self.links[link].up[side] = true;
            let driver = &mut self.links[link].drivers[side];
            driver.took_over = true;
            driver.session.handle_connected(self.now);
            driver.receive(self.now, hello);
            self.settle();
            assert!(self.links[link].drivers[side].session.is_established(), "a hello begins a session");
            let took_over = self.links[link].drivers[0].took_over;
            self.note(if took_over { "takeover admitted" } else { "late hello admitted" });
        }
    }
}
