//! Tests of the scheduler, by subject. Here is what they share: a scheduler that is audited after each step.

mod closing;
mod endings;
mod floods;
mod limits;
mod modes;
mod nesting;
mod pausing;
mod shares;
mod streaming;
mod unready;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use super::*;
use crate::OrderingKey;

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);
const C: ConnectionId = ConnectionId(3);

const MODES: [OrderingMode; 3] =
    [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized];

/// An action, with the number of its request, which is unique in each test.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Did {
    Start(u64),
    Release(u64),
    MayReply(u64),
}

/// A scheduler, and the connection of each request number.
struct Tested {
    order: KeyOrder,
    origins: BTreeMap<u64, ConnectionId>,
    audits: Cell<usize>,
}

impl Deref for Tested {
    type Target = KeyOrder;

    fn deref(&self) -> &KeyOrder {
        &self.order
    }
}

impl DerefMut for Tested {
    fn deref_mut(&mut self) -> &mut KeyOrder {
        &mut self.order
    }
}

impl Tested {
    fn id(&self, number: u64) -> RequestId {
        RequestId::new(self.origins.get(&number).copied().unwrap_or(A), number)
    }

    fn offer(
        &mut self,
        connection: ConnectionId,
        number: u64,
        key: OrderingKey,
        bytes: usize,
        ready: bool,
    ) -> Result<(), Busy> {
        self.origins.insert(number, connection);
        let arrived = self.order.arrive(&Arrival { request: self.id(number), key, bytes, ready });
        self.audit();
        arrived
    }

    fn next(&mut self) -> Option<Did> {
        let action = self.order.poll();
        self.audit();
        action.map(|action| match action {
            Action::Start(request) => Did::Start(request.number()),
            Action::Release(request) => Did::Release(request.number()),
            Action::MayReply(request) => Did::MayReply(request.number()),
        })
    }

    fn audit(&self) {
        self.audits.set(self.audits.get() + 1);
        // Audits would be quadratic for floods.
        if self.audits.get() < 1_000 && self.order.requests < 100 {
            self.order.audit();
        }
    }

    fn ready(&mut self, number: u64) {
        self.complete(number, 0).unwrap();
    }

    /// The argument of a request is complete, with this many bytes.
    fn complete(&mut self, number: u64, bytes: usize) -> Result<(), Busy> {
        let id = self.id(number);
        let ready = self.order.ready(id, bytes);
        self.audit();
        ready
    }

    fn suspend(&mut self, number: u64) {
        let id = self.id(number);
        self.order.suspend(id);
    }

    fn resume(&mut self, number: u64) {
        let id = self.id(number);
        self.order.resume(id);
    }

    fn want_to_reply(&mut self, number: u64) {
        let id = self.id(number);
        assert!(!self.order.want_to_reply(id), "the answer is an action");
        self.audit();
    }
}

fn with(change: impl FnOnce(&mut OrderingConfig)) -> Tested {
    let mut config = OrderingConfig::default();
    change(&mut config);
    Tested { order: KeyOrder::new(config), origins: BTreeMap::new(), audits: Cell::default() }
}

fn scheduler(mode: OrderingMode) -> Tested {
    with(|config| config.mode = mode)
}

fn limited(mode: OrderingMode, running: usize) -> Tested {
    with(|config| (config.mode, config.max_running) = (mode, running))
}

/// An empty text means no key.
fn key(text: &str) -> OrderingKey {
    if text.is_empty() { OrderingKey::none() } else { OrderingKey::text(text) }
}

fn offer(
    on: &mut Tested,
    connection: ConnectionId,
    number: u64,
    text: &str,
    bytes: usize,
) -> Result<(), Busy> {
    on.offer(connection, number, key(text), bytes, true)
}

#[track_caller]
fn arrive(on: &mut Tested, connection: ConnectionId, number: u64, text: &str) {
    offer(on, connection, number, text, 0).unwrap();
}

#[track_caller]
fn arrive_unready(on: &mut Tested, connection: ConnectionId, number: u64, text: &str) {
    on.offer(connection, number, key(text), 0, false).unwrap();
}

#[track_caller]
fn refused(result: Result<(), Busy>, reason: Busy) {
    assert_eq!(result, Err(reason));
}

fn starts(numbers: impl IntoIterator<Item = u64>) -> Vec<Did> {
    numbers.into_iter().map(Did::Start).collect()
}

fn releases(numbers: impl IntoIterator<Item = u64>) -> Vec<Did> {
    numbers.into_iter().map(Did::Release).collect()
}

fn drain(on: &mut Tested) -> Vec<Did> {
    std::iter::from_fn(|| on.next()).collect()
}

fn finish(on: &mut Tested, number: u64) -> Vec<Did> {
    let id = on.id(number);
    on.finish(id);
    Tested::audit(on);
    drain(on)
}

/// The state of a request when it is withdrawn.
#[derive(Debug, PartialEq)]
enum Withdrawn {
    Forgotten,
    Running,
    Unknown,
}

fn withdraw(on: &mut Tested, number: u64) -> Withdrawn {
    let id = on.id(number);
    let withdrawn = match on.order.get_mut(id).map(|request| request.state) {
        None => Withdrawn::Unknown,
        Some(State::Running { .. } | State::Abandoned { .. }) => Withdrawn::Running,
        Some(State::Waiting { .. } | State::Finished) => Withdrawn::Forgotten,
    };
    on.order.withdraw(id);
    assert_eq!(on.order.get_mut(id).is_some(), withdrawn == Withdrawn::Running);
    Tested::audit(on);
    withdrawn
}

#[test]
fn can_be_a_trait_object_of_another_thread() {
    let boxed: Box<dyn Scheduler> = Box::new(KeyOrder::new(OrderingConfig::default()));
    assert!(std::thread::spawn(move || boxed.is_idle()).join().unwrap());
}
