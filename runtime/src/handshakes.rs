//! Unfinished handshakes: their limit, and which is evicted when it is exceeded.
//!
//! Not responsible for how long a handshake may take, nor for closing the connection of an evicted one: its owner does, in the
//! closure that it has given.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

use crate::lock::{Mutex, drop_caught};
use crate::waiters::caught;

/// Limits unfinished handshakes, for what accepts connections from anybody. Cheap to clone; all clones are the same.
///
/// For a new connection past the limit, the oldest handshake of the source with the most is evicted. A source is an IPv4
/// address, or an IPv6 network of 64 bits. So a source that opens too many evicts its own. Many sources reduce each
/// other source to as many handshakes as each of them has, and at least to one.
#[derive(Clone, Debug)]
pub struct Handshakes {
    max: usize,
    places: Arc<Mutex<Places>>,
}

impl Handshakes {
    /// None yet, and at most `max` at a time.
    pub fn new(max: usize) -> Self {
        Self { max, places: Arc::default() }
    }

    /// Counts a handshake until the result is dropped. `address` is the client's, as
    /// [`Listener::accept`](crate::rt::Listener::accept) gives it: every address that is not `tcp://` with an IP address
    /// is a source of its own.
    ///
    /// `evict` is called at most once, without a lock, if the handshake is evicted: end the connection then, and drop the
    /// result. If it panics, that is logged.
    ///
    /// `None` if there is no place, because none is allowed, or as many as are allowed were evicted and are not dropped
    /// yet. Close the connection then.
    pub fn begin(&self, address: &str, evict: impl Fn() + Send + Sync + 'static) -> Option<HandshakeSlot> {
        let mut places = self.places.lock();
        let evicted = places.make_room(self.max)?;
        let name = places.name(Source::of(address));
        let place: Arc<Place> = Arc::new(Place { name, evicted: AtomicBool::new(false), evict });
        places.opening.insert(&place.name, place.clone());
        drop(places);
        let slot = HandshakeSlot { places: self.places.clone(), place };
        if let Some(evicted) = evicted {
            evicted.evicted.store(true, Release);
            caught(|| (evicted.evict)());
            // It may be the last reference to what the application is told with.
            drop_caught("what evicts a handshake", evicted);
        }
        Some(slot)
    }
}

/// A connection's place among the [`Handshakes`] that are not complete. Dropping it makes room.
pub struct HandshakeSlot {
    places: Arc<Mutex<Places>>,
    place: Arc<Place>,
}

/// While its slot exists, so does another `Arc` of it: removing it from the table runs no code of the application.
struct Place<F: ?Sized = dyn Fn() + Send + Sync> {
    name: Name,
    evicted: AtomicBool,
    evict: F,
}

impl HandshakeSlot {
    /// The peer has completed its part of the handshake, which now waits for the authenticator.
    pub(crate) fn asks_for_admission(&self) {
        self.places.lock().asks_for_admission(&self.place.name);
    }

    /// Whether it was evicted for a new connection.
    pub fn is_evicted(&self) -> bool {
        self.place.evicted.load(Acquire)
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        self.places.lock().leave(&self.place.name);
    }
}

impl fmt::Debug for HandshakeSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeSlot").field("is_evicted", &self.is_evicted()).finish_non_exhaustive()
    }
}

/// Where connections come from, as far as one attacker is likely to have it alone: an IPv4 address, or the half of
/// an IPv6 address that names a network (RFC 4291, section 2.5.4). Of others, such as `ipc://`, all that is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    V4(Ipv4Addr),
    V6(u64),
    Other(Arc<str>),
}

impl Source {
    fn of(address: &str) -> Self {
        let socket = address.strip_prefix("tcp://").and_then(|socket| socket.parse::<SocketAddr>().ok());
        match socket.map(|socket| socket.ip().to_canonical()) {
            Some(IpAddr::V4(ip)) => Self::V4(ip),
            Some(IpAddr::V6(ip)) => Self::V6((ip.to_bits() >> 64) as u64),
            None => Self::Other(address.into()),
        }
    }
}

struct Name {
    source: Source,
    /// In the order in which they came.
    number: u64,
}

/// Unfinished handshakes, in two classes: those that wait for the peer, and those that wait for the authenticator, which only
/// an endpoint has. For a new connection past the limit, in the class with more handshakes, the oldest handshake of the
/// source with the most is evicted.
///
/// So a source that opens too many evicts its own. Many sources reduce each other source to as many as each of them
/// has, and at least to one; that one is evicted only after half as many as the limit have begun later in its class.
/// Neither silent peers nor a slow authenticator can occupy all places.
struct Places<T = Arc<Place>> {
    next: u64,
    opening: Waiting<T>,
    deciding: Waiting<T>,
    /// Evicted handshakes whose links have not ended yet.
    leaving: usize,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { next: 0, opening: Waiting::default(), deciding: Waiting::default(), leaving: 0 }
    }
}

impl<T> Places<T> {
    fn name(&mut self, source: Source) -> Name {
        self.next += 1;
        Name { source, number: self.next }
    }

    /// Sees to it that there is room for one more; which one is evicted for it, if one must be. `None` if there is no room.
    fn make_room(&mut self, max: usize) -> Option<Option<T>> {
        if self.opening.len + self.deciding.len < max {
            return Some(None);
        }
        if self.leaving >= max {
            return None;
        }
        let more = match self.opening.len >= self.deciding.len {
            true => &mut self.opening,
            false => &mut self.deciding,
        };
        let evicted = more.evict()?;
        self.leaving += 1;
        Some(Some(evicted))
    }

    fn asks_for_admission(&mut self, name: &Name) {
        // An evicted handshake has no place any more.
        if let Some(place) = self.opening.remove(name) {
            self.deciding.insert(name, place);
        }
    }

    fn leave(&mut self, name: &Name) {
        if self.opening.remove(name).or_else(|| self.deciding.remove(name)).is_none() {
            self.leaving -= 1;
        }
    }
}

/// Handshakes that wait for the same thing.
struct Waiting<T> {
    len: usize,
    by_source: BTreeMap<Source, BTreeMap<u64, T>>,
    /// Every source, by how many it has and how old its oldest is.
    ranks: BTreeSet<(usize, Reverse<u64>, Source)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { len: 0, by_source: BTreeMap::new(), ranks: BTreeSet::new() }
    }
}

impl<T> Waiting<T> {
    fn insert(&mut self, name: &Name, place: T) {
        self.change(&name.source, |places| places.insert(name.number, place));
        self.len += 1;
    }

    fn remove(&mut self, name: &Name) -> Option<T> {
        let place = self.change(&name.source, |places| places.remove(&name.number))?;
        self.len -= 1;
        Some(place)
    }

    /// Removes the oldest handshake of the source that has the most.
    fn evict(&mut self) -> Option<T> {
        let (_, Reverse(number), source) = self.ranks.last()?.clone();
        self.remove(&Name { source, number })
    }

    fn change<R>(&mut self, source: &Source, change: impl FnOnce(&mut BTreeMap<u64, T>) -> R) -> R {
        let places = self.by_source.entry(source.clone()).or_default();
        let rank = |places: &BTreeMap<u64, T>| {
            places.first_key_value().map(|(oldest, _)| (places.len(), Reverse(*oldest), source.clone()))
        };
        let before = rank(places);
        let result = change(places);
        let after = rank(places);
        if after.is_none() {
            self.by_source.remove(source);
        }
        if let Some(rank) = before {
            self.ranks.remove(&rank);
        }
        self.ranks.extend(after);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of four places, each of which holds its name.
    #[derive(Default)]
    struct Four(Places<(Source, u64)>);

    impl Four {
        fn come(&mut self, address: &str) -> (Name, Option<u64>) {
            let evicted = self.0.make_room(4).expect("there is room");
            let name = self.0.name(Source::of(address));
            self.0.opening.insert(&name, (name.source.clone(), name.number));
            self.check();
            (name, evicted.map(|(_, number)| number))
        }

        /// From each address in turn; which was evicted for each.
        fn all<'a>(&mut self, addresses: impl IntoIterator<Item = &'a str>) -> Vec<u64> {
            addresses.into_iter().filter_map(|address| self.come(address).1).collect()
        }

        fn ask(&mut self, source: &str, number: u64) {
            self.0.asks_for_admission(&Name { source: Source::of(source), number });
            self.check();
        }

        fn check(&self) {
            for waiting in [&self.0.opening, &self.0.deciding] {
                assert_eq!(waiting.len, waiting.by_source.values().map(BTreeMap::len).sum::<usize>());
                assert_eq!(waiting.ranks.len(), waiting.by_source.len());
                assert!(waiting.by_source.values().all(|places| !places.is_empty()));
            }
            assert!(self.0.opening.len + self.0.deciding.len <= 4 && self.0.leaving <= 4);
        }
    }

    const ONE: [&str; 3] = ["tcp://192.0.2.1:1", "tcp://192.0.2.1:2", "tcp://[::ffff:192.0.2.1]:3"];
    const OTHER: [&str; 3] =
        ["tcp://[2001:db8::1]:1", "tcp://[2001:db8::2:0:0:1]:1", "tcp://[2001:db8::2]:7"];

    #[test]
    fn sources_are_addresses_and_networks() {
        for same in [ONE, OTHER] {
            assert!(same.iter().all(|address| Source::of(address) == Source::of(same[0])), "{same:?}");
        }
        assert_ne!(Source::of("tcp://192.0.2.1:1"), Source::of("tcp://192.0.2.2:1"));
        assert_ne!(Source::of("tcp://[2001:db8:0:1::1]:1"), Source::of(OTHER[0]));
        assert_ne!(Source::of("ipc:///a"), Source::of("ipc:///b"));
    }

    #[test]
    fn a_source_with_too_many_evicts_its_own() {
        let mut four = Four::default();
        assert!(four.all([OTHER[0], ONE[0], ONE[1], ONE[2]]).is_empty());
        assert_eq!(four.all([ONE[0], ONE[1], ONE[2]]), [2, 3, 4], "the oldest of the source with the most");
    }

    #[test]
    fn the_oldest_is_evicted_among_many_sources() {
        let mut four = Four::default();
        assert!(four.all(["a", "b", "c", "d"]).is_empty());
        assert_eq!(four.all(["e", "f", "a", "b"]), [1, 2, 3, 4]);
    }

    #[test]
    fn neither_kind_takes_all_places() {
        let mut four = Four::default();
        // The peers of all four have done their part, and the authenticator takes its time.
        for source in ["a", "b", "c", "d"] {
            let (Name { number, .. }, _) = four.come(source);
            four.ask(source, number);
        }
        assert_eq!(four.all(["e", "f"]), [1, 2], "those that wait for it are evicted");
        assert_eq!(four.all(["g"]), [5], "and no more than half of them do for peers that say nothing");
        // An evicted handshake has no place to move from.
        four.ask("e", 5);
        four.ask("f", 6);
        assert_eq!((four.0.opening.len, four.0.deciding.len), (1, 3));
    }

    #[test]
    fn places_come_back() {
        let mut four = Four::default();
        let names: Vec<Name> = (0..8).map(|_| four.come("a").0).collect();
        assert!(four.0.make_room(4).is_none(), "as many as are allowed have still to go");
        for name in &names[..2] {
            four.0.leave(name);
        }
        assert_eq!(four.0.leaving, 2);
        four.ask("a", names[7].number);
        for name in &names[2..] {
            four.0.leave(name);
        }
        assert_eq!((four.0.leaving, four.0.opening.len, four.0.deciding.len), (0, 0, 0));
        assert!(Places::<()>::default().make_room(0).is_none(), "none is allowed");
    }

    #[test]
    fn an_evicted_handshake_is_told_without_a_lock_and_may_panic() {
        let handshakes = Handshakes::new(1);
        let told = Arc::new(AtomicBool::new(false));
        let (again, tells) = (handshakes.clone(), told.clone());
        let slot = handshakes.begin("a", move || {
            assert!(again.begin("b", || {}).is_none(), "as many as are allowed have still to go");
            tells.store(true, Release);
            panic!("as it is told");
        });
        let evicted = slot.expect("it is the first");
        let slot = handshakes.begin("c", || {}).expect("another is evicted for it");
        assert!(told.load(Acquire) && evicted.is_evicted() && !slot.is_evicted());
        drop(evicted);
        assert!(handshakes.begin("b", || {}).is_some() && slot.is_evicted());
    }
}
