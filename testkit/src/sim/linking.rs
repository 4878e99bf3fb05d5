//! Connections come and go, and so do the hosts at their ends.

use super::host::{Host, Seat};
use super::post::Post;
use super::{Connection, World, setup};
use callosum_proto::session::CloseCause;
use callosum_proto::{CallId, Multipart, PeerId};

impl World<'_> {
    pub(super) fn post(&mut self, link: usize, side: usize, first_call: CallId) -> Post {
        self.next_peer += 1;
        let seat = Seat { link, side, peer: PeerId(self.next_peer) };
        let session = self.setup.session(seat, first_call, self.now);
        Post::new(session, seat, self.setup.config(link, side), &self.setup.config(link, 1 - side))
    }

    /// A side whose session is over gets a new one.
    fn renew(&mut self, link: usize, side: usize) {
        if self.links[link].posts[side].session.is_closed() {
            let first_call = self.links[link].posts[side].session.next_call();
            self.links[link].posts[side] = self.post(link, side, first_call);
        }
    }

    /// A new connection, if both sides know that the last is gone.
    pub(super) fn connect(&mut self, link: usize) -> bool {
        if self.links[link].up != [false; 2] {
            return false;
        }
        (0..2).for_each(|side| self.renew(link, side));
        let wire = self.setup.wire(link, &mut self.chance, self.now);
        let connection = &mut self.links[link];
        (connection.wire, connection.up) = (wire, [true; 2]);
        connection.posts.iter_mut().for_each(|post| post.is_newcomer = false);
        if connection.wire.is_message_link() {
            connection.posts.iter_mut().for_each(|post| post.session.handle_connected(self.now));
        }
        true
    }

    /// A side has no link any more.
    pub(super) fn lose(&mut self, link: usize, side: usize, cause: CloseCause) {
        let connection = &mut self.links[link];
        if !std::mem::replace(&mut connection.up[side], false) {
            return;
        }
        // Who comes with the name of another takes over the other's link.
        if cause != CloseCause::PeerRestarted || !connection.wire.is_message_link() {
            connection.wire.end(self.now, side);
        }
        let post = &mut connection.posts[side];
        if cause == CloseCause::LinkLost && side == 0 {
            self.next_peer += 1;
            if post.session.handle_disconnected(setup::nonce(self.next_peer)) {
                assert!(post.requests == 0, "a request has come");
                // It knows nothing of the next connection's peer either.
                return;
            }
        }
        post.session.close(cause);
    }

    /// What a side sends from now on is lost, and the other hears that nothing follows.
    pub(super) fn half_close(&mut self, link: usize, side: usize) {
        if self.links[link].up != [true; 2] {
            return;
        }
        // What the other has to say is under way already.
        self.transmit(link, 1 - side, 100);
        if self.links[link].wire.half_close(self.now, side) {
            self.note("half-closed");
        }
    }

    /// A host goes down with all that it knows, and comes up again knowing nothing.
    pub(super) fn restart(&mut self, host: usize) {
        self.note(if host == 0 { "binder restarted" } else { "connector restarted" });
        for link in 0..self.links.len() {
            let Some(side) = (0..2).find(|side| Self::host(link, *side) == host) else { continue };
            let connection = &mut self.links[link];
            if std::mem::replace(&mut connection.up[side], false) {
                connection.wire.end(self.now, side);
            }
            connection.posts[side].die(&mut self.book);
            let post = self.post(link, side, CallId(0));
            self.links[link].posts[side] = post;
        }
        self.hosts[host] = Host::new(self.setup.scheduler(host));
    }

    /// A connector comes again, under the same name, to a binder that has not heard that it was gone. Only what the binder
    /// sends from now on comes to it.
    pub(super) fn take_over(&mut self, link: usize) {
        let Connection { wire, up, .. } = &mut self.links[link];
        if !wire.is_message_link() || *up != [false, true] {
            return;
        }
        wire.take_over(self.chance.one_in(2));
        self.renew(link, 0);
        let connection = &mut self.links[link];
        connection.up[0] = true;
        connection.posts[0].is_newcomer = true;
        connection.posts[0].session.handle_connected(self.now);
        self.note("taken over");
    }

    /// A message has come to a side.
    pub(super) fn hear(&mut self, link: usize, side: usize, message: Multipart) {
        let again = (side == 1 && self.links[link].wire.is_message_link()).then(|| message.clone());
        self.links[link].posts[side].receive(self.now, message);
        self.settle();
        let restarted = self.links[link].posts[side].session.close_cause() == Some(CloseCause::PeerRestarted);
        if let Some(hello) = again.filter(|_| restarted) {
            self.renew(link, side);
            self.links[link].up[side] = true;
            let post = &mut self.links[link].posts[side];
            post.is_newcomer = true;
            post.session.handle_connected(self.now);
            post.receive(self.now, hello);
            self.settle();
            assert!(self.links[link].posts[side].session.is_established(), "a hello begins a session");
            let is_newcomer = self.links[link].posts[0].is_newcomer;
            self.note(if is_newcomer { "newcomer admitted" } else { "late hello admitted" });
        }
    }
}
