//! The stacks that are measured.

mod callosum;
mod raw_copy;
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
    callosum::{Callosum, CallosumCurve, DialectOne},
    raw_copy::RawCopy,
    raw_tcp::RawTcp,
    tarpc::Tarpc,
    tonic::{Tonic, TonicWindows},
};
use crate::{
    executor::{AsyncStd, Executor, Tokio},
    load::{self, Case, Sample, Timing},
    upload::{self, Beside, LARGEST_PIECE, Length, Upload},
};

/// The largest message that peers are set to accept, where they have a limit.
const MAX_MESSAGE: usize = 16 << 20;

/// How many calls may be at work or wait at once where peers have a limit: more than any case has in flight, so that it is
/// the path of a call that is measured and not a queue.
const AT_ONCE: usize = 256;

/// A stack on a runtime: a server that sends bodies back or takes uploads, and the client to it, which is a
/// [`load::Client`] or an [`upload::Client`] or both.
pub trait Stack: 'static {
    /// Shown in the results; what `--peer` takes.
    const NAME: &'static str;
    /// Whether it encrypts and authenticates.
    const ENCRYPTED: bool = false;
    /// The runtime of both ends.
    type Runtime: Executor;
    /// One connection to a server.
    type Client: Send + 'static;

    /// Listens on a port of 127.0.0.1 that the system chooses, says through `ready` which, and serves for good.
    fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> impl Future<Output = Result<()>> + Send;

    /// Connects to a server.
    fn connect(server: SocketAddr) -> impl Future<Output = Result<Self::Client>> + Send;
}

/// Connects and measures calls.
pub type Load = fn(SocketAddr, Case, Timing) -> Result<Sample>;

/// Connects and measures calls of so many bytes beside an upload.
pub type LoadBeside = fn(SocketAddr, usize, Length, Timing) -> Result<Beside>;

/// How a peer's processes are made.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// This program, with its subcommands `serve` and `load`.
    Rust {
        /// Serves until stdin ends; prints the port to stdout.
        serve: fn() -> Result<()>,
        /// Connects and measures calls once, if it makes any.
        load: Option<Load>,
        /// Connects and measures an upload, if it makes any.
        upload: Option<fn(SocketAddr, Length) -> Result<Upload>>,
        /// Connects and measures calls of so many bytes beside an upload, if it makes both.
        beside: Option<LoadBeside>,
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
    Peer::calls::<RawTcp>(),
    Peer::uploads::<RawCopy<Tokio>>(),
    Peer::uploads::<RawCopy<AsyncStd>>(),
    Peer::uploads::<RawCopy<Tokio, LARGEST_PIECE>>(),
    Peer::uploads::<RawCopy<AsyncStd, LARGEST_PIECE>>(),
    Peer::calls::<Tarpc>(),
    Peer::both::<Tonic>(),
    Peer::beside::<TonicWindows>(),
    Peer::both::<Callosum<Tokio>>(),
    Peer::both::<Callosum<AsyncStd>>(),
    Peer::calls::<Callosum<Tokio, DialectOne>>(),
    Peer::calls::<Callosum<AsyncStd, DialectOne>>(),
    Peer { name: "python-callosum", runtime: "asyncio", encrypted: false, kind: Kind::Python },
    Peer::both::<CallosumCurve<Tokio>>(),
    Peer::both::<CallosumCurve<AsyncStd>>(),
    Peer::calls::<CallosumCurve<Tokio, DialectOne>>(),
    Peer::calls::<CallosumCurve<AsyncStd, DialectOne>>(),
    Peer { name: "libzmq-curve", runtime: "C", encrypted: true, kind: Kind::C },
];

impl Peer {
    const fn of<S: Stack>(kind: Kind) -> Self {
        Self { name: S::NAME, runtime: S::Runtime::NAME, encrypted: S::ENCRYPTED, kind }
    }

    /// The entry of an implementation in Rust that makes calls.
    pub const fn calls<S: Stack>() -> Self
    where
        S::Client: load::Client,
    {
        let (load, upload, beside) = (Some(connect_and_load::<S> as fn(_, _, _) -> _), None, None);
        Self::of::<S>(Kind::Rust { serve: serve::<S>, load, upload, beside })
    }

    /// The entry of one that makes uploads.
    pub const fn uploads<S: Stack>() -> Self
    where
        S::Client: upload::Client,
    {
        let (load, upload, beside) = (None, Some(connect_and_upload::<S> as fn(_, _) -> _), None);
        Self::of::<S>(Kind::Rust { serve: serve::<S>, load, upload, beside })
    }

    /// The entry of one that makes both, also at the same time.
    pub const fn both<S: Stack>() -> Self
    where
        S::Client: load::Client + upload::Client,
    {
        Self::sharing::<S>(Some(connect_and_load::<S> as fn(_, _, _) -> _))
    }

    /// The entry of one whose uploads, and calls beside them, are measured, and no calls by themselves.
    pub const fn beside<S: Stack>() -> Self
    where
        S::Client: load::Client + upload::Client,
    {
        Self::sharing::<S>(None)
    }

    const fn sharing<S: Stack>(load: Option<Load>) -> Self
    where
        S::Client: load::Client + upload::Client,
    {
        let upload = Some(connect_and_upload::<S> as fn(_, _) -> _);
        let beside = Some(connect_and_do_both::<S> as fn(_, _, _, _) -> _);
        Self::of::<S>(Kind::Rust { serve: serve::<S>, load, upload, beside })
    }

    /// Whether calls can be measured.
    pub fn makes_calls(&self) -> bool {
        !matches!(self.kind, Kind::Rust { load: None, .. })
    }

    /// Whether uploads can be measured.
    pub fn makes_uploads(&self) -> bool {
        matches!(self.kind, Kind::Rust { upload: Some(_), .. })
    }

    /// Whether calls beside an upload can be measured.
    pub fn makes_both(&self) -> bool {
        matches!(self.kind, Kind::Rust { beside: Some(_), .. })
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

fn serve<S: Stack>() -> Result<()> {
    thread::spawn(|| {
        // Whoever started this process holds the other end: this ends with them, however they end.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    S::Runtime::block_on(S::serve(|address| {
        println!("{}", address.port());
        io::stdout().flush().expect("the process that started this one reads its output");
    }))
}

fn connect_and_load<S: Stack>(server: SocketAddr, case: Case, timing: Timing) -> Result<Sample>
where
    S::Client: load::Client,
{
    S::Runtime::block_on(async move {
        let client = S::connect(server).await?;
        load::run::<S::Runtime>(client, case, timing).await
    })
}

fn connect_and_upload<S: Stack>(server: SocketAddr, length: Length) -> Result<Upload>
where
    S::Client: upload::Client,
{
    S::Runtime::block_on(async move {
        let client = S::connect(server).await?;
        upload::run(client, length).await
    })
}

fn connect_and_do_both<S: Stack>(
    server: SocketAddr,
    body_bytes: usize,
    length: Length,
    timing: Timing,
) -> Result<Beside>
where
    S::Client: load::Client + upload::Client,
{
    S::Runtime::block_on(async move {
        let client = S::connect(server).await?;
        upload::run_beside::<S::Runtime>(client, body_bytes, length, timing).await
    })
}
