//! What a stack is to the measurements, and what can be measured of it.

use std::{future::Future, net::SocketAddr};

use anyhow::Result;

use crate::{
    cases::{Case, MOST_IN_FLIGHT, Order},
    executor::Executor,
    load::{Sample, Timing},
    upload::{Beside, Length, Upload},
};

/// The largest message that peers are set to accept, where they have a limit.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// How many calls may be at work or wait at once where peers have a limit: more than any case has in flight, so that it is
/// the path of a call that is measured and not a queue.
pub(super) const AT_ONCE: usize = 2 * MOST_IN_FLIGHT;

/// The most calls in flight that Python is measured with. It makes some 7,000 a second: 8,192 at once would each take longer than
/// the window of a quick run.
const PYTHON_IN_FLIGHT: usize = 1_024;

/// A stack on a runtime: a server that sends bodies back or takes uploads, and the client to it, which is a
/// [`load::Client`](crate::load::Client) or an [`upload::Client`](crate::upload::Client) or both.
pub trait Stack: 'static {
    /// Shown in the results; what `--peer` takes.
    const NAME: &'static str;
    /// Whether it encrypts and authenticates.
    const ENCRYPTED: bool = false;
    /// The runtime of both ends.
    type Runtime: Executor;
    /// One connection to a server.
    type Client: Send + Sync + 'static;

    /// Listens on a port of 127.0.0.1 that the system chooses, says through `ready` which, and serves for good.
    fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> impl Future<Output = Result<()>> + Send;

    /// Connects to a server.
    fn connect(server: SocketAddr) -> impl Future<Output = Result<Self::Client>> + Send;
}

/// A stack whose server can order calls in several ways.
pub trait Orders: Stack {
    /// As [`Stack::serve`], ordering calls so.
    fn serve_in(
        order: Order,
        ready: impl FnOnce(SocketAddr) + Send + 'static,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Connects and measures calls.
pub type Load = fn(SocketAddr, Case, Timing) -> Result<Sample>;

/// Serves with calls ordered so, until stdin ends; prints the port to stdout.
pub type ServeIn = fn(Order) -> Result<()>;

/// Connects and measures calls of so many bytes beside an upload.
pub type LoadBeside = fn(SocketAddr, usize, Length, Timing) -> Result<Beside>;

/// What an implementation in Rust does, in processes of its own.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// Serves until stdin ends; prints the port to stdout.
    pub serve: fn() -> Result<()>,
    /// Connects and measures calls once, if it makes any.
    pub load: Option<Load>,
    /// Connects and measures an upload, if it makes any.
    pub upload: Option<fn(SocketAddr, Length) -> Result<Upload>>,
    /// Connects and measures calls of so many bytes beside an upload, if it makes both.
    pub beside: Option<LoadBeside>,
    /// Serves with calls ordered in a way of choice, and measures calls with keys, if it has any.
    pub ordered: Option<(ServeIn, Load)>,
    /// Connects and measures calls once, if it is a layer above calls, or is compared with those.
    pub layer: Option<Load>,
    /// Opens and holds connections as told through stdin, if idle ones are measured.
    pub hold: Option<fn(SocketAddr) -> Result<()>>,
}

impl Roles {
    /// What loads a server with `case`, if anything does.
    pub fn load_for(&self, case: Case) -> Option<Load> {
        match (case.order, self.ordered) {
            (None, _) => self.load.or(self.layer),
            (Some(_), None) => None,
            (Some(order), Some((_, keyed))) => {
                if order.keyed() {
                    Some(keyed)
                } else {
                    self.load
                }
            }
        }
    }
}

/// How a peer's processes are made.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// This program, with its subcommands.
    Rust(Roles),
    /// A Python script with the subcommands `serve` and `load`.
    Python,
    /// A program in C with the same two subcommands, beside the libzmq of the Python package.
    C,
    /// What carries connections, and makes no calls.
    Tunnel(Way),
}

/// What carries connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Each connection is one of its own on either hop, and bytes are copied.
    Relay,
    /// `ssh -L` and `sshd` of OpenSSH.
    OpenSsh,
    /// rathole: a connection of its own for each, encrypted by Noise or not at all.
    Rathole {
        /// Whether it encrypts.
        noise: bool,
    },
    /// A local forward of Callosum.
    Callosum {
        /// Whether it encrypts.
        curve: bool,
    },
}

/// An entry of [`ALL`](super::ALL).
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The name of the stack.
    pub name: &'static str,
    /// The name of the runtime of both ends.
    pub runtime: &'static str,
    /// Whether it encrypts and authenticates.
    pub encrypted: bool,
    /// How its processes are made.
    pub kind: Kind,
}

impl Peer {
    fn roles(&self) -> Option<&Roles> {
        match &self.kind {
            Kind::Rust(roles) => Some(roles),
            Kind::Python | Kind::C | Kind::Tunnel(_) => None,
        }
    }

    /// Whether calls can be measured.
    pub fn makes_calls(&self) -> bool {
        match self.kind {
            Kind::Rust(roles) => roles.load.is_some(),
            Kind::Python | Kind::C => true,
            Kind::Tunnel(_) => false,
        }
    }

    /// Whether calls can be measured in `case`.
    pub fn carries(&self, case: Case) -> bool {
        match self.kind {
            Kind::Rust(roles) => roles.load_for(case).is_some(),
            Kind::Python => case.order.is_none() && case.in_flight <= PYTHON_IN_FLIGHT,
            Kind::C => case.order.is_none(),
            Kind::Tunnel(_) => false,
        }
    }

    /// Whether it takes part in the measurement of layers.
    pub fn is_layer(&self) -> bool {
        self.roles().is_some_and(|roles| roles.layer.is_some())
    }

    /// Whether uploads can be measured.
    pub fn makes_uploads(&self) -> bool {
        self.roles().is_some_and(|roles| roles.upload.is_some())
    }

    /// Whether calls beside an upload can be measured.
    pub fn makes_both(&self) -> bool {
        self.roles().is_some_and(|roles| roles.beside.is_some())
    }

    /// Whether idle connections can be measured.
    pub fn holds_connections(&self) -> bool {
        self.roles().is_some_and(|roles| roles.hold.is_some())
    }

    /// What carries connections, if this does.
    pub fn tunnel(&self) -> Option<Way> {
        match self.kind {
            Kind::Tunnel(way) => Some(way),
            Kind::Rust(_) | Kind::Python | Kind::C => None,
        }
    }

    /// What the subcommands and messages call this entry: name and runtime.
    pub fn id(&self) -> String {
        format!("{}/{}", self.name, self.runtime)
    }
}
