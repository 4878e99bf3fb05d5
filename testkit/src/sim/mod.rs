//! A seeded simulation: a binder and its connectors, the network between them, and a model of what they promise.

mod app;
mod book;
mod chance;
mod content;
mod handling;
mod host;
mod lane;
mod linking;
mod passing;
mod post;
mod setup;
mod tap;
mod unread;
mod wire;

use std::collections::BTreeMap;
use std::time::Instant;

use self::app::Manner;
use self::book::Book;
use self::chance::Chance;
use self::content::Way;
use self::host::Host;
use self::post::Post;
use self::setup::Setup;
use self::wire::{Arrival, Wire};
use callosum_proto::Ticket;
use callosum_proto::scheduler::Scheduler;
use callosum_proto::session::CloseCause;

/// Steps of a schedule that a seed makes, at the most.
const STEPS: usize = 330;

/// Rounds without an end after which it counts as endless.
const ROUNDS: usize = 2_000;

/// How often what happened, by name.
pub type Tally = BTreeMap<String, u64>;

/// Runs the schedule of a seed, and adds to the tally. `start` is the start of virtual time.
///
/// # Panics
/// If a promise is broken.
pub fn run_seed(seed: u64, start: Instant, tally: &mut Tally) {
    let mut chance = Chance::Seed(seed);
    let steps = 20 + chance.below(STEPS - 20);
    for (what, count) in World::new(chance, start).run(steps) {
        *tally.entry(what).or_default() += count;
    }
}

/// The same with the decisions of a fuzzer.
///
/// # Panics
/// If a promise is broken.
pub fn run_bytes(data: &[u8], start: Instant) {
    World::new(Chance::Bytes(data), start).run(4 * STEPS);
}

struct World<'a> {
    chance: Chance<'a>,
    now: Instant,
    setup: Setup,
    /// The binder, then the connectors, in the order of the connections.
    hosts: Vec<Host>,
    links: Vec<Connection>,
    book: Book,
    next_peer: u64,
    pace: Pace,
    tally: Tally,
}

/// What applications and the network do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// What comes to their minds.
    Leisurely,
    /// What they can; but who reads nothing goes on reading nothing.
    Steady,
    /// What they can.
    Final,
}

struct Connection {
    wire: Wire,
    /// The connector, then the binder.
    posts: [Post; 2],
    /// Which of them have a link.
    up: [bool; 2],
}

impl<'a> World<'a> {
    fn new(mut chance: Chance<'a>, now: Instant) -> Self {
        let setup = Setup::new(&mut chance);
        let hosts = (0..=setup.connectors()).map(|host| Host::new(setup.scheduler(host))).collect();
        let mut world = Self {
            chance,
            now,
            setup,
            hosts,
            links: Vec::new(),
            book: Book::default(),
            next_peer: 0,
            pace: Pace::Leisurely,
            tally: Tally::new(),
        };
        for link in 0..world.setup.connectors() {
            let posts =
                [0, 1].map(|side| world.post(link, side, callosum_proto::CallId(u64::from(u32::MAX) - 5)));
            let wire = world.setup.wire(link, &mut world.chance, now);
            world.links.push(Connection { wire, posts, up: [false; 2] });
        }
        world
    }

    fn run(mut self, steps: usize) -> Tally {
        for _ in 0..steps {
            if self.chance.is_used_up() {
                break;
            }
            self.step();
            self.act();
        }
        self.finish()
    }

    /// Which host a side of a connection belongs to.
    fn host(link: usize, side: usize) -> usize {
        if side == 1 { 0 } else { 1 + link }
    }

    fn step(&mut self) {
        let (link, side) = (self.chance.below(self.links.len()), self.chance.below(2));
        let kinds = if self.setup.is_lasting() { 37 } else { 40 };
        match self.chance.below(kinds) {
            0..8 => self.links[link].posts[side].invoke(self.now, &mut self.book, &mut self.chance),
            8..10 => {
                let which = self.chance.below(16);
                self.links[link].posts[side].abandon(which, &mut self.book);
            }
            10..18 => {
                self.work(link, side);
                self.handle(Self::host(link, side));
            }
            18..28 => {
                let count = 1 + self.chance.size(30);
                self.transmit(link, side, count);
                self.deliver(link, 1 - side, count);
            }
            28..32 => {
                while self.transmit(link, side, 100) | self.deliver(link, 1 - side, 100) {}
                if let Some(at) = self.links[link].wire.next_arrival(1 - side) {
                    self.go_to(at);
                }
            }
            32..34 => self.pass(),
            34..37 => {
                self.connect(link);
            }
            37 => match self.chance.below(6) {
                0 => {
                    self.links[link].posts[side].session.drain();
                    self.links[link].posts[side].draining = true;
                }
                1 => drop(self.links[link].posts[side].session.ping()),
                _ => {}
            },
            38 => match self.chance.below(6) {
                0 => self.links[link].wire.delay(side, setup::delay(&mut self.chance)),
                1 => self.links[link].wire.stick(side, true),
                2 => self.links[link].wire.stop(side, true),
                _ => {
                    self.links[link].wire.stick(side, false);
                    self.links[link].wire.stop(side, false);
                }
            },
            _ => match self.chance.below(20) {
                0 => {
                    self.links[link].wire.cut(self.now);
                    self.lose(link, side, CloseCause::LinkLost);
                }
                1 => self.lose(link, side, CloseCause::Local),
                2..5 => self.half_close(link, side),
                5 | 6 => {
                    self.restart(Self::host(link, side));
                    self.take_over(link);
                }
                7 | 8 => {
                    let cause = self.chance.pick(&[CloseCause::LinkLost, CloseCause::Local]);
                    self.lose(link, 0, cause);
                    self.act();
                    self.take_over(link);
                }
                _ => {}
            },
        }
    }

    /// Whether anything was sent.
    fn transmit(&mut self, link: usize, side: usize, count: usize) -> bool {
        let Connection { wire, posts, up, .. } = &mut self.links[link];
        if !up[side] {
            return false;
        }
        let most = if self.pace != Pace::Leisurely { usize::MAX } else { 1 << self.chance.below(18) };
        let (mut moved, mut taken) = (false, wire.flush(self.now, side, most));
        for _ in 0..count {
            if !wire.takes(side) {
                break;
            }
            let Some(message) = posts[side].transmit(self.now) else { break };
            wire.send(side, message);
            taken += wire.flush(self.now, side, most);
            moved = true;
        }
        if taken > 0 || !wire.is_blocked(side) {
            posts[side].session.handle_write_progress();
        }
        if wire.is_blocked(side) {
            posts[side].session.handle_write_blocked(self.now);
        }
        if posts[side].tap.has_taken_turns() {
            self.note("answered after a long result of the key");
        }
        moved || taken > 0
    }

    /// Whether anything arrived.
    fn deliver(&mut self, link: usize, side: usize, count: usize) -> bool {
        let mut moved = false;
        for _ in 0..count {
            if !self.links[link].up[side] {
                break;
            }
            let Some(arrived) = self.links[link].wire.deliver(self.now, side, &mut self.chance) else {
                break;
            };
            moved = true;
            if self.links[link].wire.takes_time(1 - side) {
                self.note("arrived after a time");
            }
            for arrival in arrived {
                match arrival {
                    Arrival::Connected => self.links[link].posts[side].session.handle_connected(self.now),
                    Arrival::Message(message) => self.hear(link, side, message),
                    Arrival::Lost => self.lose(link, side, CloseCause::LinkLost),
                }
            }
        }
        moved
    }

    /// Takes all events, does what they ask for, and compares with the model.
    fn settle(&mut self) {
        while self.take_events() {
            (0..self.hosts.len()).for_each(|host| self.schedule(host));
        }
        for post in self.links.iter().flat_map(|connection| &connection.posts) {
            post.check(self.now);
        }
    }

    /// Whether there were any.
    fn take_events(&mut self) -> bool {
        let mut any = false;
        for link in 0..self.links.len() {
            for side in 0..2 {
                self.links[link].posts[side].session.handle_timeout(self.now);
                while let Some(event) = self.links[link].posts[side].session.poll_event() {
                    self.take(link, side, event);
                    any = true;
                }
            }
        }
        any
    }

    fn act(&mut self) {
        (0..self.hosts.len()).for_each(|host| self.schedule(host));
        self.settle();
    }

    /// Lets everything come to its end, and checks that it does, without any time passing.
    fn finish(mut self) -> Tally {
        self.rest(Pace::Steady);
        self.check_unread();
        self.rest(Pace::Final);
        self.check_end();
        self.tally
    }

    /// Goes on until nothing happens any more.
    fn rest(&mut self, pace: Pace) {
        self.pace = pace;
        for round in 0.. {
            let mut worked = Vec::new();
            for link in 0..self.links.len() {
                self.links[link].wire.widen(self.now);
                let mut note = |what, did: bool| worked.extend(did.then_some((link, what)));
                note("connects", self.connect(link));
                for side in 0..2 {
                    note("sends", self.transmit(link, side, 1_000));
                    note("hears", self.deliver(link, 1 - side, 1_000));
                    note("reads and writes", self.work(link, side));
                    note("handles", self.handle(Self::host(link, side)));
                }
            }
            self.act();
            if worked.is_empty() {
                break;
            }
            assert!(round < ROUNDS, "it does not come to rest: {worked:?}");
        }
    }

    fn check_end(&self) {
        if self.book.0.iter().any(book::Call::is_open) {
            let posts = self.links.iter().flat_map(|link| &link.posts);
            let sessions = posts.map(|post| (&post.session, &post.results, &post.arguments));
            let handlers = self.hosts.iter().map(|host| &host.handlers);
            let (sessions, handlers) = (sessions.collect::<Vec<_>>(), handlers.collect::<Vec<_>>());
            panic!("a call has not ended: {:?}, {sessions:#?}, {handlers:#?}", self.book.first_open());
        }
        self.book.check_end();
        for connection in &self.links {
            for post in &connection.posts {
                let session = &post.session;
                assert!(session.is_idle(), "something is left: {session:?}");
                assert_eq!((session.queued_bytes(), session.held_bytes()), (0, 0), "{session:?}");
                callosum_proto::internals::audit_idle(session);
                assert!(post.results.is_empty() && post.arguments.is_empty(), "{:?}", post.results);
            }
        }
        for host in &self.hosts {
            assert!(host.scheduler.is_idle() && host.handlers.is_empty(), "{:?}", host.handlers);
        }
    }

    /// What becomes of a content that is read, or put together, or stopped.
    fn manner(&mut self, way: Way) -> Manner {
        if self.chance.one_in(if self.setup.is_lasting() { 2 } else { 5 }) {
            return self.chance.pick(&[Manner::Never, Manner::Pause]);
        }
        match way {
            Way::Argument => {
                self.chance.pick(&[Manner::Read, Manner::Collect, Manner::Collect, Manner::Stop])
            }
            Way::Result => self.chance.pick(&[Manner::Read, Manner::Collect]),
        }
    }

    /// Applications of a side read and write; whether anything changed.
    fn work(&mut self, link: usize, side: usize) -> bool {
        let post = &mut self.links[link].posts[side];
        let worked = post.work(self.now, &mut self.book, &mut self.chance, self.pace);
        self.settle();
        worked
    }

    fn note(&mut self, what: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
    }

    fn tickets(&self, host: usize) -> Vec<Ticket> {
        self.hosts[host].handlers.keys().copied().collect()
    }
}

/// Whether a session may end so between honest peers.
fn is_honest(cause: CloseCause) -> bool {
    matches!(
        cause,
        CloseCause::Local
            | CloseCause::LinkLost
            | CloseCause::HandshakeTimedOut
            | CloseCause::KeepaliveTimedOut
            | CloseCause::PeerNotReading
    )
}
