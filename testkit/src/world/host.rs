//! A host: the runtime of the programs on it, its sockets, and its end.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use callosum_runtime::rt::{BoxSocket, Listener, Runtime, Socket, Timer, unsupported};
use callosum_runtime::{Builder, Endpoint, SocketOptions};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::future::BoxFuture;

use super::clock::Clock;
use super::network::{End, Network, Place};
use super::{HostId, sleep_until};

/// The runtime of the programs on one host, until the host crashes.
pub(super) struct HostRuntime {
    pub(super) clock: Arc<Clock>,
    pub(super) network: Arc<Network>,
    pub(super) host: HostId,
    pub(super) generation: u64,
}

impl fmt::Debug for HostRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostRuntime").field("host", &self.network.name(self.host)).finish_non_exhaustive()
    }
}

impl HostRuntime {
    fn is_alive(&self) -> bool {
        self.network.generation(self.host) == self.generation
    }

    /// # Errors
    /// If the host has crashed since.
    fn check(&self) -> io::Result<()> {
        match self.is_alive() {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::NetworkDown, "this host has crashed")),
        }
    }

    /// The endpoint by which others reach this host if it binds to `name`.
    fn bound_name(&self, name: &str) -> io::Result<String> {
        let own = self.network.name(self.host);
        if name == own {
            return Ok(own);
        }
        match name.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => Ok(address.to_string()),
            Ok(address) if !address.is_unspecified() => Err(io::ErrorKind::AddrNotAvailable.into()),
            Err(_) if name == "localhost" => Ok(name.to_owned()),
            Err(_) if name != "*" => Err(io::ErrorKind::AddrNotAvailable.into()),
            Ok(_) | Err(_) => Ok(own),
        }
    }

    fn host_named(&self, name: &str) -> io::Result<HostId> {
        let is_loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if name == "localhost" || is_loopback {
            return Ok(self.host);
        }
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no host is named {name}"));
        self.network.find(name).ok_or_else(unknown)
    }

    async fn reach(&self, to: HostId, place: Place) -> io::Result<BoxSocket> {
        self.check()?;
        let (clock, network) = (&self.clock, &self.network);
        // SYN there, SYN-ACK back.
        for _ in 0..2 {
            let latency = network.latency(self.host, to);
            sleep_until(clock, clock.now() + latency).await;
            while network.is_partitioned(self.host, to) {
                // It is sent again and again.
                sleep_until(clock, clock.now() + RETRY).await;
            }
        }
        self.check()?;
        let end = network.connect(self.host, to, place)?;
        Ok(Box::new(Stream { network: network.clone(), end, reset: false }))
    }
}

/// How often a host tries to reach another that does not answer. TCP's first retransmission is after a second (RFC 6298).
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

impl Runtime for HostRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if self.is_alive() {
            self.clock.spawn(self.host, task);
        }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.clock.random(|random| random.fill(bytes));
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        Box::pin(self.clock.timer(at))
    }

    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        _: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxSocket>> {
        Box::pin(async move {
            match endpoint {
                Endpoint::Tcp { host, port } => self.reach(self.host_named(host)?, Place::Port(*port)).await,
                Endpoint::Ipc(path) => self.reach(self.host, Place::Path(path.clone())).await,
                other => Err(unsupported(other)),
            }
        })
    }

    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        _: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            self.check()?;
            let (name, place) = match endpoint {
                Endpoint::Tcp { host, port } => {
                    (self.bound_name(host)?, (*port != 0).then_some(Place::Port(*port)))
                }
                Endpoint::Ipc(path) => (String::new(), Some(Place::Path(path.clone()))),
                other => return Err(unsupported(other)),
            };
            let (place, id) = self.network.listen(self.host, place)?;
            let listening = Listening { network: self.network.clone(), host: self.host, name, place, id };
            Ok(Box::new(listening) as Box<dyn Listener>)
        })
    }
}

struct Listening {
    network: Arc<Network>,
    host: HostId,
    /// The name by which other hosts reach it.
    name: String,
    place: Place,
    id: u64,
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxSocket, String)>> {
        Box::pin(async {
            let accept = |cx: &mut Context<'_>| self.network.accept(self.host, &self.place, self.id, cx);
            let (end, from) = std::future::poll_fn(accept).await?;
            let stream = Stream { network: self.network.clone(), end, reset: false };
            let address = match &self.place {
                Place::Port(_) => format!("tcp://{}", self.network.name(from)),
                Place::Path(path) => Endpoint::Ipc(path.clone()).to_string(),
            };
            Ok((Box::new(stream) as BoxSocket, address))
        })
    }

    fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(match &self.place {
            Place::Port(port) => Endpoint::Tcp { host: self.name.clone(), port: *port },
            Place::Path(path) => Endpoint::Ipc(path.clone()),
        })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.network.unlisten(self.host, &self.place, self.id);
    }
}

struct Stream {
    network: Arc<Network>,
    end: End,
    /// Whether dropping it resets the connection.
    reset: bool,
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.network.poll_read(self.end, cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.network.poll_write(self.end, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.close(self.end);
        Poll::Ready(Ok(()))
    }
}

impl Socket for Stream {
    fn reset_on_drop(&mut self) {
        self.reset = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        match self.reset {
            true => self.network.reset_end(self.end),
            false => self.network.drop_end(self.end),
        }
    }
}

/// A host of a [`World`](super::World), which has programs of its own.
///
/// Its name is how others reach it: `tcp://NAME:PORT`. To itself it is also `localhost`. A host has one interface: other hosts reach
/// a listener on loopback too.
#[derive(Clone, Debug)]
pub struct Host {
    pub(super) clock: Arc<Clock>,
    pub(super) network: Arc<Network>,
    pub(super) id: HostId,
}

impl Host {
    /// The name that it was given.
    pub fn name(&self) -> String {
        self.network.name(self.id)
    }

    /// The runtime of programs that start now. It is of no more use once the host has crashed.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        let generation = self.network.generation(self.id);
        Arc::new(HostRuntime {
            clock: self.clock.clone(),
            network: self.network.clone(),
            host: self.id,
            generation,
        })
    }

    /// Starts to build an endpoint on this host. It may bind any address without authentication, for nothing leaves the process.
    pub fn builder(&self) -> Builder {
        Builder::new(self.runtime()).allow_plaintext()
    }

    /// Runs a task on this host, until the host crashes.
    ///
    /// # Panics
    /// If the task does, [`World::run`](super::World::run) panics.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.clock.spawn(self.id, Box::pin(task));
    }

    /// Stops everything on this host, like killing its processes: tasks are dropped, listeners are closed, and other
    /// hosts learn after the link's latency that their connections are reset. Start programs again to restart it.
    ///
    /// Don't call it from a task of this host.
    pub fn crash(&self) {
        self.network.crash(self.id);
        self.clock.kill(self.id);
    }
}
