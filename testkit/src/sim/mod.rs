//! A seeded simulation of binders and connectors that call each other over a faulty network, on virtual time.
//!
//! A schedule is a sequence of random steps: an application calls, reads or writes, a connection carries messages, breaks or
//! stalls, time passes, a host restarts. After each step every connection and every endpoint is compared with a reference model. At the end the
//! network becomes perfect and every application reads; then every call must have ended and every connection and every endpoint must be idle.

mod app;
mod carrying;
mod chance;
mod driver;
mod handling;
mod host;
mod link_side;
mod linking;
mod model;
mod monitor;
mod passing;
mod payload;
mod pipe;
mod requests;
mod setup;
mod transport;
mod unread;

use std::collections::BTreeMap;
use std::time::Instant;

use self::app::ReadMode;
use self::chance::Chance;
use self::driver::Driver;
use self::host::Host;
use self::model::Model;
use self::payload::Direction;
use self::setup::Setup;
use self::transport::{Arrival, Transport};
use callosum_proto::{CloseCause, RequestId, internals};

/// Most steps of a seed's schedule.
const STEPS: usize = 330;

/// Rounds after which a simulation that has not come to rest counts as endless.
const ROUNDS: usize = 2_000;

/// How often each situation occurred, by name.
pub type Tally = BTreeMap<String, u64>;

/// Runs the schedule of a seed, and adds to the tally what occurred. `start` is the start of virtual time.
///
/// # Panics
/// If a guarantee is broken.
pub fn run_seed(seed: u64, start: Instant, tally: &mut Tally) {
    let mut chance = Chance::Seed(seed);
    let steps = 20 + chance.below(STEPS - 20);
    for (what, count) in World::new(chance, start).run(steps) {
        *tally.entry(what).or_default() += count;
    }
}

/// Runs the schedule that a fuzzer's bytes decide.
///
/// # Panics
/// If a guarantee is broken.
pub fn run_bytes(data: &[u8], start: Instant) {
    World::new(Chance::Bytes(data), start).run(4 * STEPS);
}

struct World<'a> {
    chance: Chance<'a>,
    now: Instant,
    setup: Setup,
    /// The binders, then the connectors.
    hosts: Vec<Host>,
    links: Vec<Link>,
    model: Model,
    next_nonce: u64,
    pace: Pace,
    tally: Tally,
}

/// How fast applications and the network act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// By random decisions.
    Random,
    /// Everything they can; applications that don't read still don't.
    Steady,
    /// Everything they can, and every application reads.
    Final,
}

struct Link {
    transport: Transport,
    /// The connector, then the binder.
    drivers: [Driver; 2],
    /// Which of them have a transport.
    up: [bool; 2],
}

impl<'a> World<'a> {
    fn new(mut chance: Chance<'a>, now: Instant) -> Self {
        let setup = Setup::new(&mut chance);
        let hosts = (0..setup.hosts()).map(|host| Host::new(setup.endpoint(host))).collect();
        let mut world = Self {
            chance,
            now,
            setup,
            hosts,
            links: Vec::new(),
            model: Model::default(),
            next_nonce: 0,
            pace: Pace::Random,
            tally: Tally::new(),
        };
        if world.setup.binders() > 1 {
            world.note("several binders");
        }
        if world.setup.has_shared_connector() {
            world.note("connector of several binders");
        }
        for link in 0..world.setup.links() {
            let drivers =
                [0, 1].map(|side| world.driver(link, side, internals::call_id(u64::from(u32::MAX) - 5)));
            let transport = world.setup.transport(link, &mut world.chance, now);
            world.links.push(Link { transport, drivers, up: [false; 2] });
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
    fn host(&self, link: usize, side: usize) -> usize {
        self.setup.host(link, side)
    }

    fn step(&mut self) {
        let (link, side) = (self.chance.below(self.links.len()), self.chance.below(2));
        let kinds = if self.setup.is_stable() { 37 } else { 40 };
        match self.chance.below(kinds) {
            0..8 => self.links[link].drivers[side].invoke(self.now, &mut self.model, &mut self.chance),
            8..10 => {
                let which = self.chance.below(16);
                self.links[link].drivers[side].abandon(which, &mut self.model);
            }
            10..18 => {
                self.work(link, side);
                self.handle(self.host(link, side));
            }
            18..28 => {
                let count = 1 + self.chance.size(30);
                self.transmit(link, side, count);
                self.deliver(link, 1 - side, count);
            }
            28..32 => {
                while self.transmit(link, side, 100) | self.deliver(link, 1 - side, 100) {}
                if let Some(at) = self.links[link].transport.next_arrival(1 - side) {
                    self.go_to(at);
                }
            }
            32..34 => self.pass(),
            34..37 => {
                self.connect(link);
            }
            37 => self.drain_or_ping(link, side),
            38 => self.hinder(link, side),
            _ => self.end(link, side),
        }
    }

    fn drain_or_ping(&mut self, link: usize, side: usize) {
        match self.chance.below(6) {
            0 if self.chance.one_in(8) => self.hosts[self.setup.host(link, side)].endpoint.drain(),
            0 => {
                self.links[link].drivers[side].connection.drain();
                self.links[link].drivers[side].draining = true;
            }
            1 => drop(self.links[link].drivers[side].connection.ping()),
            _ => {}
        }
    }

    /// Makes the network slow or stuck, or lets it go on.
    fn hinder(&mut self, link: usize, side: usize) {
        match self.chance.below(6) {
            0 => self.links[link].transport.delay(side, setup::delay(&mut self.chance)),
            1 => self.links[link].transport.stall(side, true),
            2 => self.links[link].transport.block(side, true),
            _ => {
                self.links[link].transport.stall(side, false);
                self.links[link].transport.block(side, false);
            }
        }
    }

    /// Ends a connection, or one direction of it, or restarts a host.
    fn end(&mut self, link: usize, side: usize) {
        match self.chance.below(20) {
            0 => {
                self.links[link].transport.reset(self.now);
                self.lose(link, side, CloseCause::LinkLost);
            }
            1 => self.lose(link, side, CloseCause::Local),
            2..5 => self.half_close(link, side),
            5 | 6 => {
                self.restart(self.host(link, side));
                self.take_over(link);
            }
            7 | 8 => {
                let cause = self.chance.pick(&[CloseCause::LinkLost, CloseCause::Local]);
                self.lose(link, 0, cause);
                self.act();
                self.take_over(link);
            }
            _ => {}
        }
    }

    /// Sends up to `count` messages; returns whether anything moved.
    fn transmit(&mut self, link: usize, side: usize, count: usize) -> bool {
        let Link { transport, drivers, up, .. } = &mut self.links[link];
        if !up[side] {
            return false;
        }
        let most = if self.pace != Pace::Random { usize::MAX } else { 1 << self.chance.below(18) };
        let (mut moved, mut taken) = (false, transport.flush(self.now, side, most));
        for _ in 0..count {
            if !transport.takes(side) {
                break;
            }
            let Some(message) = drivers[side].transmit(self.now) else { break };
            transport.send(side, message);
            taken += transport.flush(self.now, side, most);
            moved = true;
        }
        if taken > 0 || !transport.is_blocked(side) {
            drivers[side].connection.handle_write_progress();
        }
        if transport.is_blocked(side) {
            drivers[side].connection.handle_write_blocked(self.now);
        }
        if drivers[side].monitor.has_followed_long_reply() {
            self.note("answered after a long result of the key");
        }
        moved || taken > 0
    }

    /// Delivers up to `count` arrivals; returns whether there were any.
    fn deliver(&mut self, link: usize, side: usize, count: usize) -> bool {
        let mut moved = false;
        for _ in 0..count {
            if !self.links[link].up[side] {
                break;
            }
            let Some(arrived) = self.links[link].transport.deliver(self.now, side, &mut self.chance) else {
                break;
            };
            moved = true;
            if self.links[link].transport.takes_time(1 - side) {
                self.note("arrived after a time");
            }
            for arrival in arrived {
                match arrival {
                    Arrival::Connected => {
                        self.links[link].drivers[side].connection.handle_connected(self.now)
                    }
                    Arrival::Message(message) => self.receive(link, side, message),
                    Arrival::Acknowledged(messages) => {
                        self.links[link].drivers[side].connection.handle_acknowledged(messages);
                        self.note("acknowledged by ZMTP");
                    }
                    Arrival::Lost => self.lose(link, side, CloseCause::LinkLost),
                }
            }
        }
        moved
    }

    /// Handles all events of connections, and compares every connection with the model.
    fn settle(&mut self) {
        while self.take_events() {}
        for driver in self.links.iter_mut().flat_map(|link| &mut link.drivers) {
            driver.check(self.now);
        }
    }

    /// Handles the events that are there; returns whether there were any.
    fn take_events(&mut self) -> bool {
        let mut any = false;
        for link in 0..self.links.len() {
            for side in 0..2 {
                self.links[link].drivers[side].handle_timeout(self.now);
                while let Some(event) = self.links[link].drivers[side].connection.poll_event() {
                    self.take(link, side, event);
                    any = true;
                }
            }
        }
        any
    }

    /// Carries events between endpoints and connections, and handles their effects; returns whether there were any.
    fn act(&mut self) -> bool {
        let mut carried = false;
        for host in 0..self.hosts.len() {
            carried |= self.carry(host);
        }
        self.settle();
        carried
    }

    /// Runs everything to its end without advancing the time, and checks that it ends.
    fn finish(mut self) -> Tally {
        self.rest(Pace::Steady);
        let has_room = self.check_unread();
        self.rest(Pace::Final);
        if !has_room {
            // If unread streams take all credit of a link, the other streams may stall (F-9). The simulation ends all links then.
            (0..self.links.len()).for_each(|link| {
                [0, 1].into_iter().for_each(|side| self.lose(link, side, CloseCause::LinkLost))
            });
            self.settle();
            self.rest(Pace::Final);
        }
        self.check_end();
        self.tally
    }

    /// Runs until nothing changes any more.
    fn rest(&mut self, pace: Pace) {
        self.pace = pace;
        for round in 0.. {
            let mut worked = Vec::new();
            for link in 0..self.links.len() {
                self.links[link].transport.lift_limits(self.now);
                let mut note = |what, did: bool| worked.extend(did.then_some((link, what)));
                note("connects", self.connect(link));
                for side in 0..2 {
                    note("sends", self.transmit(link, side, 1_000));
                    note("receives", self.deliver(link, 1 - side, 1_000));
                    note("reads and writes", self.work(link, side));
                    note("handles", self.handle(self.host(link, side)));
                }
            }
            if self.act() {
                worked.push((0, "carries"));
            }
            if worked.is_empty() {
                break;
            }
            assert!(round < ROUNDS, "it does not come to rest: {worked:?}");
        }
    }

    fn check_end(&self) {
        if self.model.0.iter().any(model::Call::is_open) {
            let drivers = self.links.iter().flat_map(|link| &link.drivers);
            let sides = drivers.map(|driver| (&driver.connection, &driver.results, &driver.arguments));
            let handlers = self.hosts.iter().map(|host| (&host.requests, &host.handlers));
            let (sides, handlers) = (sides.collect::<Vec<_>>(), handlers.collect::<Vec<_>>());
            panic!("a call has not ended: {:?}, {sides:?}, {handlers:?}", self.model.first_open());
        }
        self.model.check_end();
        for link in &self.links {
            for driver in &link.drivers {
                let connection = &driver.connection;
                assert!(connection.is_idle(), "something is left: {connection:?}");
                assert_eq!((connection.queued_bytes(), connection.held_bytes()), (0, 0), "{connection:?}");
                internals::audit_idle(connection);
                assert!(driver.results.is_empty() && driver.arguments.is_empty(), "{:?}", driver.results);
            }
        }
        for (number, host) in self.hosts.iter().enumerate() {
            assert!(host.endpoint.audit_empty() && host.mail.is_empty(), "{:?}", host.endpoint);
            assert!(host.handlers.is_empty(), "{:?}", host.handlers);
            let sides = (0..self.links.len()).flat_map(|link| [(link, 0), (link, 1)]);
            let sides = sides.filter(|&(link, side)| self.host(link, side) == number);
            assert_eq!(host.endpoint.connections(), sides.count(), "a connection is left behind");
        }
    }

    /// How an application reads a stream.
    fn read_mode(&mut self, direction: Direction) -> ReadMode {
        if self.chance.one_in(if self.setup.is_stable() { 2 } else { 5 }) {
            return self.chance.pick(&[ReadMode::Never, ReadMode::Pause]);
        }
        match direction {
            Direction::Argument => self.chance.pick(&[
                ReadMode::Read,
                ReadMode::Reassemble,
                ReadMode::Reassemble,
                ReadMode::Stop,
            ]),
            Direction::Result => self.chance.pick(&[ReadMode::Read, ReadMode::Reassemble]),
        }
    }

    /// Runs a step of a side's applications; returns whether anything changed.
    fn work(&mut self, link: usize, side: usize) -> bool {
        let driver = &mut self.links[link].drivers[side];
        let worked = driver.work(self.now, &mut self.model, &mut self.chance, self.pace);
        self.settle();
        worked
    }

    fn note(&mut self, what: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
    }

    fn running(&self, host: usize) -> Vec<RequestId> {
        self.hosts[host].handlers.keys().copied().collect()
    }
}

/// Whether a connection between honest peers may close for this cause.
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
