//! The stacks that are measured.

mod callosum;
mod raw_tcp;
mod tarpc;
mod tonic;

use std::{
    future::Future,
    io::{self, Write as _},
    net::SocketAddr,
    thread,
};

use anyhow::Result;

pub use self::{
    callosum::{Callosum, CallosumCurve},
    raw_tcp::RawTcp,
    tarpc::Tarpc,
    tonic::Tonic,
};
use crate::{
    executor::{AsyncStd, Executor, Tokio},
    load::{self, Case, Client, Sample, Timing},
};

/// The largest message that peers are set to accept, where they have a limit.
const MAX_MESSAGE: usize = 16 << 20;

/// An RPC stack on a runtime: a server that sends bodies back, and the client to it.
pub trait Echo: 'static {
    /// Shown in the results; what `--peer` takes.
    const NAME: &'static str;
    /// Whether it encrypts and authenticates.
    const ENCRYPTED: bool = false;
    /// The runtime of both ends.
    type Runtime: Executor;
    /// One connection to a server.
    type Client: Client;

    /// Listens on a port of 127.0.0.1 that the system chooses, says through `ready` which, and serves for good.
    fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> impl Future<Output = Result<()>> + Send;

    /// Connects to a server.
    fn connect(server: SocketAddr) -> impl Future<Output = Result<Self::Client>> + Send;
}

/// How a peer's processes are made.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// This program, with its subcommands `serve` and `load`.
    Rust {
        /// Serves until stdin ends; prints the port to stdout.
        serve: fn() -> Result<()>,
        /// Connects and measures once.
        load: fn(SocketAddr, Case, Timing) -> Result<Sample>,
    },
    /// A Python script with the same two subcommands.
    Python,
    /// A program in C with the same two subcommands, beside the libzmq of the Python package.
    C,
}

/// An entry of [`ALL`].
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

/// Every peer, in the order in which they take turns.
pub const ALL: &[Peer] = &[
    Peer::of::<RawTcp>(),
    Peer::of::<Tarpc>(),
    Peer::of::<Tonic>(),
    Peer::of::<Callosum<Tokio>>(),
    Peer::of::<Callosum<AsyncStd>>(),
    Peer { name: "python-callosum", runtime: "asyncio", encrypted: false, kind: Kind::Python },
    Peer::of::<CallosumCurve<Tokio>>(),
    Peer::of::<CallosumCurve<AsyncStd>>(),
    Peer { name: "libzmq-curve", runtime: "C", encrypted: true, kind: Kind::C },
];

impl Peer {
    /// The entry of an implementation in Rust.
    pub const fn of<E: Echo>() -> Self {
        let kind = Kind::Rust { serve: serve::<E>, load: connect_and_load::<E> };
        Self { name: E::NAME, runtime: E::Runtime::NAME, encrypted: E::ENCRYPTED, kind }
    }

    /// What the subcommands and messages call this entry: name and runtime.
    pub fn id(&self) -> String {
        format!("{}/{}", self.name, self.runtime)
    }

    /// The entry with this [`Peer::id`].
    pub fn find(id: &str) -> Option<Self> {
        ALL.iter().find(|peer| peer.id() == id).copied()
    }
}

fn serve<E: Echo>() -> Result<()> {
    thread::spawn(|| {
        // Whoever started this process holds the other end: this ends with them, however they end.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    E::Runtime::block_on(E::serve(|address| {
        println!("{}", address.port());
        io::stdout().flush().expect("the process that started this one reads its output");
    }))
}

fn connect_and_load<E: Echo>(server: SocketAddr, case: Case, timing: Timing) -> Result<Sample> {
    E::Runtime::block_on(async move {
        let client = E::connect(server).await?;
        load::run::<E::Runtime>(client, case, timing).await
    })
}
