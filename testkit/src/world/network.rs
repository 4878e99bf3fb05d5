//! Hosts, listeners, connections, and the links between hosts with their faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::HostId;
use super::clock::{Clock, Waiting};
use super::pipe::{NEVER, Pipe, Travel, Wakes};

/// Connections that may wait to be accepted by one listener, as in an operating system.
const BACKLOG: usize = 128;

/// The first port that is chosen where none is given (RFC 6335, section 6).
const FIRST_DYNAMIC_PORT: u16 = 49_152;

/// The properties of the path between two hosts, the same in both directions.
///
/// Default: 1 ms, no limit of bandwidth, 64 KiB, in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// How long bytes are under way.
    pub latency: Duration,
    /// Random extra latency of each write, at most this. Bytes do not overtake each other.
    pub jitter: Duration,
    /// Bytes per second in each direction of each connection; `None` for no limit.
    pub bandwidth: Option<u64>,
    /// Bytes that may be under way or unread in each direction of a connection, at least 1; a writer waits then.
    pub buffer: usize,
    /// Whether a read gives a random part of what has arrived, as readers must expect.
    pub fragments: bool,
}

impl Default for Link {
    fn default() -> Self {
        let latency = Duration::from_millis(1);
        Self { latency, jitter: Duration::ZERO, bandwidth: None, buffer: 64 << 10, fragments: true }
    }
}

impl Link {
    /// Sets [`latency`](Self::latency).
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets [`jitter`](Self::jitter).
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets [`bandwidth`](Self::bandwidth), in bytes per second.
    pub fn bandwidth(mut self, bandwidth: u64) -> Self {
        self.bandwidth = Some(bandwidth);
        self
    }

    /// Sets [`buffer`](Self::buffer), in bytes.
    pub fn buffer(mut self, buffer: usize) -> Self {
        self.buffer = buffer;
        self
    }

    /// Sets [`fragments`](Self::fragments).
    pub fn fragments(mut self, fragments: bool) -> Self {
        self.fragments = fragments;
        self
    }
}

/// The address of a listener on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Port(u16),
    Path(PathBuf),
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    connection: u64,
    /// 0 for the side that connected.
    side: usize,
}

/// All hosts, and what is between them. Locked before the clock, never after.
#[derive(Debug)]
pub(super) struct Network {
    clock: Arc<Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hosts: BTreeMap<HostId, HostState>,
    default_link: Link,
    links: BTreeMap<(HostId, HostId), Link>,
    partitions: BTreeSet<(HostId, HostId)>,
    /// After how many more bytes from the first host to the second their connection is reset.
    resets: BTreeMap<(HostId, HostId), u64>,
    connections: BTreeMap<u64, Connection>,
    listeners: BTreeMap<(HostId, Place), Listening>,
    next: u64,
}

#[derive(Debug)]
struct HostState {
    name: String,
    generation: u64,
    next_port: u16,
}

#[derive(Debug, Default)]
struct Listening {
    id: u64,
    arrivals: Waiting<(End, HostId)>,
}

#[derive(Debug)]
struct Connection {
    hosts: [HostId; 2],
    /// The pipe that each side writes to.
    pipes: [Pipe; 2],
    open: [bool; 2],
}

fn pair(a: HostId, b: HostId) -> (HostId, HostId) {
    (a.min(b), a.max(b))
}

impl State {
    fn link(&self, a: HostId, b: HostId) -> Link {
        self.links.get(&pair(a, b)).copied().unwrap_or(self.default_link)
    }

    /// The next dynamic port without a listener.
    fn free_port(&mut self, host: HostId) -> Option<u16> {
        let next = self.hosts.get(&host).expect("hosts stay").next_port;
        let is_free = |port: &u16| !self.listeners.contains_key(&(host, Place::Port(*port)));
        let port = (next..=u16::MAX).chain(FIRST_DYNAMIC_PORT..next).find(is_free)?;
        let host = self.hosts.get_mut(&host).expect("hosts stay");
        host.next_port = port.checked_add(1).unwrap_or(FIRST_DYNAMIC_PORT);
        Some(port)
    }

    /// When one of the hosts learns what happens at the other: not before they are connected again.
    fn delay(&self, a: HostId, b: HostId) -> Duration {
        if self.partitions.contains(&pair(a, b)) { NEVER } else { self.link(a, b).latency }
    }

    fn between(&mut self, a: HostId, b: HostId) -> impl Iterator<Item = &mut Connection> {
        self.connections
            .values_mut()
            .filter(move |connection| pair(connection.hosts[0], connection.hosts[1]) == pair(a, b))
    }
}

impl Connection {
    /// Resets both directions; each side learns of it after its delay.
    fn reset(&mut self, now: Instant, [first, second]: [Duration; 2]) -> Wakes {
        let [from_first, from_second] = &mut self.pipes;
        let mut wakes = from_first.reset(now, now + second, now + first);
        wakes.0.extend(from_second.reset(now, now + first, now + second).0);
        wakes
    }
}

impl Network {
    pub(super) fn new(clock: Arc<Clock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, wakes: Wakes) {
        let now = self.clock.now();
        for (at, waker) in wakes.0 {
            match at.filter(|at| *at > now) {
                Some(at) => self.clock.wake_at(at, waker),
                None => waker.wake(),
            }
        }
    }

    pub(super) fn add_host(&self, name: &str) -> HostId {
        let mut state = self.lock();
        assert!(state.hosts.values().all(|host| host.name != name), "there is a host named {name} already");
        let id = HostId(state.hosts.len() as u64);
        let host = HostState { name: name.to_owned(), generation: 0, next_port: FIRST_DYNAMIC_PORT };
        state.hosts.insert(id, host);
        id
    }

    pub(super) fn name(&self, host: HostId) -> String {
        self.lock().hosts[&host].name.clone()
    }

    pub(super) fn generation(&self, host: HostId) -> u64 {
        self.lock().hosts[&host].generation
    }

    pub(super) fn set_default_link(&self, link: Link) {
        self.lock().default_link = link;
    }

    pub(super) fn set_link(&self, a: HostId, b: HostId, link: Link) {
        self.lock().links.insert(pair(a, b), link);
    }

    pub(super) fn partition(&self, a: HostId, b: HostId) {
        let (mut state, now) = (self.lock(), self.clock.now());
        state.partitions.insert(pair(a, b));
        state.between(a, b).flat_map(|connection| &mut connection.pipes).for_each(|pipe| pipe.freeze(now));
    }

    pub(super) fn heal(&self, a: HostId, b: HostId) {
        let (mut state, now) = (self.lock(), self.clock.now());
        if !state.partitions.remove(&pair(a, b)) {
            return;
        }
        let at = now + state.link(a, b).latency;
        let pipes = state.between(a, b).flat_map(|connection| &mut connection.pipes);
        let wakes = pipes.flat_map(|pipe| pipe.thaw(now, at).0).collect();
        drop(state);
        self.wake(Wakes(wakes));
    }

    pub(super) fn is_partitioned(&self, a: HostId, b: HostId) -> bool {
        self.lock().partitions.contains(&pair(a, b))
    }

    pub(super) fn reset(&self, a: HostId, b: HostId) {
        let (mut state, now) = (self.lock(), self.clock.now());
        let resets = state.between(a, b).flat_map(|connection| connection.reset(now, [Duration::ZERO; 2]).0);
        let wakes = resets.collect();
        drop(state);
        self.wake(Wakes(wakes));
    }

    pub(super) fn reset_after(&self, from: HostId, to: HostId, bytes: u64) {
        self.lock().resets.insert((from, to), bytes);
    }

    pub(super) fn close_one_way(&self, from: HostId, to: HostId) {
        let (mut state, now) = (self.lock(), self.clock.now());
        let latency = state.link(from, to).latency;
        let mut wakes = Wakes::default();
        for connection in state.between(from, to) {
            let sides = (0..2).filter(|side| connection.hosts[*side] == from);
            for side in sides.collect::<Vec<_>>() {
                wakes.0.extend(connection.pipes[side].close(now, latency).0);
            }
        }
        drop(state);
        self.wake(wakes);
    }

    /// Removes a host: its listeners are closed, and its connections are reset.
    pub(super) fn crash(&self, host: HostId) {
        let (mut state, now) = (self.lock(), self.clock.now());
        if let Some(state) = state.hosts.get_mut(&host) {
            state.generation += 1;
        }
        let dead: Vec<_> = state.listeners.keys().filter(|(at, _)| *at == host).cloned().collect();
        let (mut refused, mut wakes) = (Vec::new(), Wakes::default());
        for key in dead {
            let Some(listening) = state.listeners.remove(&key) else { continue };
            let (arrivals, accepting) = listening.arrivals.into_parts();
            refused.extend(arrivals);
            wakes.0.extend(accepting.map(|waker| (None, waker)));
        }
        let others: BTreeMap<_, _> = state.hosts.keys().map(|at| (*at, state.delay(host, *at))).collect();
        let connections = state.connections.values_mut();
        for connection in connections.filter(|connection| connection.hosts.contains(&host)) {
            let delays = connection.hosts.map(|at| if at == host { Duration::ZERO } else { others[&at] });
            wakes.0.extend(connection.reset(now, delays).0);
        }
        drop(state);
        self.wake(wakes);
        refused.into_iter().for_each(|(end, _)| self.drop_end(end));
    }

    /// # Errors
    /// If the place has a listener already, or every port that could be chosen has one.
    pub(super) fn listen(&self, host: HostId, place: Option<Place>) -> io::Result<(Place, u64)> {
        let mut state = self.lock();
        state.next += 1;
        let id = state.next;
        let place = match place {
            Some(place) => place,
            None => Place::Port(state.free_port(host).ok_or(io::ErrorKind::AddrInUse)?),
        };
        let key = (host, place.clone());
        if state.listeners.contains_key(&key) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(key, Listening { id, arrivals: Waiting::default() });
        Ok((place, id))
    }

    pub(super) fn unlisten(&self, host: HostId, place: &Place, id: u64) {
        let mut state = self.lock();
        let key = (host, place.clone());
        if state.listeners.get(&key).is_none_or(|listening| listening.id != id) {
            return;
        }
        let left = state.listeners.remove(&key).map(|listening| listening.arrivals.into_parts().0);
        drop(state);
        left.into_iter().flatten().for_each(|(end, _)| self.drop_end(end));
    }

    /// The next connection, and from where.
    pub(super) fn accept(
        &self,
        host: HostId,
        place: &Place,
        id: u64,
        cx: &Context<'_>,
    ) -> Poll<io::Result<(End, HostId)>> {
        let mut state = self.lock();
        match state.listeners.get_mut(&(host, place.clone())).filter(|listening| listening.id == id) {
            Some(listening) => listening.arrivals.poll(cx).map(Ok),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<HostId> {
        self.lock().hosts.iter().find(|(_, host)| host.name == name).map(|(id, _)| *id)
    }

    pub(super) fn latency(&self, a: HostId, b: HostId) -> Duration {
        self.lock().link(a, b).latency
    }

    /// Opens a connection to the listener there.
    ///
    /// # Errors
    /// If the place has no listener, or too many connections wait for it to accept them; of a path, this is `WouldBlock`, as on Linux.
    pub(super) fn connect(&self, from: HostId, to: HostId, place: Place) -> io::Result<End> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let is_path = matches!(place, Place::Path(_));
        let listening = match state.listeners.get_mut(&(to, place)) {
            Some(listening) if listening.arrivals.len() < BACKLOG => listening,
            Some(_) if is_path => return Err(io::ErrorKind::WouldBlock.into()),
            _ => return Err(io::ErrorKind::ConnectionRefused.into()),
        };
        state.next += 1;
        let connection = state.next;
        let pipes = [Pipe::new(is_path), Pipe::new(is_path)];
        let open = Connection { hosts: [from, to], pipes, open: [true; 2] };
        state.connections.insert(connection, open);
        let waker = listening.arrivals.push((End { connection, side: 1 }, from));
        drop(guard);
        waker.into_iter().for_each(std::task::Waker::wake);
        Ok(End { connection, side: 0 })
    }

    pub(super) fn poll_write(&self, end: End, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (mut guard, now) = (self.lock(), self.clock.now());
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(&end.connection) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let (from, to) = (connection.hosts[end.side], connection.hosts[1 - end.side]);
        let link = state.links.get(&pair(from, to)).copied().unwrap_or(state.default_link);
        let reset = state.resets.get_mut(&(from, to));
        let most = reset
            .as_ref()
            .map_or(bytes.len(), |left| bytes.len().min(usize::try_from(**left).unwrap_or(usize::MAX)));
        let jitter = self.clock.random(|random| link.jitter.mul_f64(random.f64()));
        let travel = Travel {
            latency: link.latency + jitter,
            bandwidth: link.bandwidth,
            capacity: link.buffer.max(1),
        };
        let pipe = &mut connection.pipes[end.side];
        if most == 0 && !bytes.is_empty() {
            state.resets.remove(&(from, to));
            let wakes = connection.reset(now, [Duration::ZERO; 2]);
            drop(guard);
            self.wake(wakes);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let (written, wakes) = pipe.write(now, cx, travel, &bytes[..most]);
        if let Poll::Ready(Ok(size)) = written {
            reset.into_iter().for_each(|left| *left -= size as u64);
            let event = end.connection << 32 | (end.side as u64) << 31 | size as u64;
            self.clock.note(event, &bytes[..size]);
        }
        drop(guard);
        self.wake(wakes);
        written
    }

    pub(super) fn poll_read(&self, end: End, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let (mut guard, now) = (self.lock(), self.clock.now());
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(&end.connection) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let [a, b] = connection.hosts;
        let link = state.links.get(&pair(a, b)).unwrap_or(&state.default_link);
        let fragment = |most: usize| match link.fragments && most > 1 {
            // Mostly all of it.
            true => {
                self.clock.random(|random| if random.u8(..4) > 0 { most } else { random.usize(1..=most) })
            }
            false => most,
        };
        let (read, wakes) = connection.pipes[1 - end.side].read(now, cx, buffer, fragment);
        drop(guard);
        self.wake(wakes);
        read
    }

    pub(super) fn close(&self, end: End) {
        let (mut state, now) = (self.lock(), self.clock.now());
        let Some(connection) = state.connections.get(&end.connection) else { return };
        let [a, b] = connection.hosts;
        let latency = state.link(a, b).latency;
        let wakes = match state.connections.get_mut(&end.connection) {
            Some(connection) => connection.pipes[end.side].close(now, latency),
            None => return,
        };
        drop(state);
        self.wake(wakes);
    }

    /// This end was dropped. The other side gets a reset, even if everything was closed before.
    pub(super) fn reset_end(&self, end: End) {
        let (mut state, now) = (self.lock(), self.clock.now());
        let Some(connection) = state.connections.get(&end.connection) else { return };
        let [a, b] = connection.hosts;
        let mut delays = [state.delay(a, b); 2];
        delays[end.side] = Duration::ZERO;
        let mut wakes = Wakes::default();
        if let Some(connection) = state.connections.get_mut(&end.connection) {
            wakes = connection.reset(now, delays);
        }
        drop(state);
        self.wake(wakes);
        self.drop_end(end);
    }

    /// This end was dropped: bytes that it has written still arrive; writing to it fails.
    pub(super) fn drop_end(&self, end: End) {
        self.close(end);
        let (mut state, now) = (self.lock(), self.clock.now());
        let Some(connection) = state.connections.get(&end.connection) else { return };
        let [a, b] = connection.hosts;
        let delay = state.delay(a, b);
        let mut wakes = Wakes::default();
        if let Some(connection) = state.connections.get_mut(&end.connection) {
            connection.open[end.side] = false;
            wakes = connection.pipes[1 - end.side].abandon(now, now + delay);
            if connection.open == [false; 2] {
                state.connections.remove(&end.connection);
            }
        }
        drop(state);
        self.wake(wakes);
    }
}
