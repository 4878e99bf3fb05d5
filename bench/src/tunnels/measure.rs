//! What is measured at one tunnel.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    sync::Mutex,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Carried, ECHO_BYTES, SEVERAL,
    start::Ends,
    target::{PIECE, Target, Task},
};
use crate::{
    cases::Case,
    executor::Tokio,
    idle::settle,
    load::{self, Client, Sample, Timing},
};

/// A connection that takes nothing for so long is stalled.
const STALLS_AFTER: Duration = Duration::from_millis(100);

/// The load's side of a measurement, and the target.
pub(super) struct Bench {
    runtime: Runtime,
    target: Target,
}

impl Bench {
    pub(super) fn new() -> Result<Self> {
        let runtime = Runtime::new()?;
        let target = runtime.block_on(Target::start())?;
        Ok(Self { runtime, target })
    }

    /// Where the far end connects to.
    pub(super) fn target(&self) -> SocketAddr {
        self.target.address
    }

    /// Memory of the ends for each of so many connections that have carried a byte each way.
    pub(super) fn idle_kib(&self, ends: &Ends, connections: usize) -> Result<f64> {
        // With one, the ends have paid for all that is needed only once.
        let mut held = vec![self.runtime.block_on(Echo::open(ends.near()))?];
        settle(|| ends.cpu_time())?;
        let before = ends.anonymous_kib()?;
        for _ in 0..connections {
            held.push(self.runtime.block_on(Echo::open(ends.near()))?);
        }
        settle(|| ends.cpu_time())?;
        let grown = ends.anonymous_kib()? as f64 - before as f64;
        drop(held);
        self.runtime.block_on(self.target.settle())?;
        Ok(grown / connections as f64)
    }

    /// Connections that are opened, carry a byte each way, and end.
    pub(super) fn opened(&self, near: SocketAddr, timing: Timing) -> Result<Sample> {
        let opening = Opening { near };
        let sample = self.runtime.block_on(load::run::<Tokio>(&[opening], Case::new(1, SEVERAL), timing))?;
        self.runtime.block_on(self.target.settle())?;
        Ok(sample)
    }

    /// Echoes, one after the other, on one connection.
    pub(super) fn echoes(&self, near: SocketAddr, timing: Timing) -> Result<Sample> {
        let sample = self.runtime.block_on(echoes(near, timing))?;
        self.runtime.block_on(self.target.settle())?;
        Ok(sample)
    }

    /// The same beside a connection that is not read, and one that uploads.
    pub(super) fn echoes_beside(&self, near: SocketAddr, timing: Timing) -> Result<Sample> {
        let sample = self.runtime.block_on(async {
            let _stalled = stalled(near).await?;
            let mut uploading = JoinSet::new();
            uploading.spawn(upload(open(near, Task::Count).await?));
            let before = self.target.received();
            let sample = echoes(near, timing).await?;
            ensure!(self.target.received() > before, "nothing was uploaded");
            ensure!(uploading.try_join_next().is_none(), "the upload ended");
            Ok(sample)
        })?;
        self.runtime.block_on(self.target.settle())?;
        Ok(sample)
    }

    /// What arrives over so many connections together.
    pub(super) fn carried(
        &self,
        ends: &Ends,
        to_target: bool,
        connections: usize,
        timing: Timing,
    ) -> Result<Carried> {
        let near = ends.near();
        let downloaded = Arc::new(AtomicU64::new(0));
        let arrived = || match to_target {
            true => self.target.received(),
            false => downloaded.load(Ordering::Relaxed),
        };
        let carried = self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for _ in 0..connections {
                match to_target {
                    true => running.spawn(upload(open(near, Task::Count).await?)),
                    false => running.spawn(download(open(near, Task::Send).await?, downloaded.clone())),
                };
            }
            sleep(Duration::from_millis(timing.warm_up_ms)).await;
            let (begun, cpu_before, before) = (tokio::time::Instant::now(), ends.cpu_time()?, arrived());
            sleep(Duration::from_millis(timing.window_ms)).await;
            let mib = (arrived() - before) as f64 / f64::from(1 << 20);
            let (seconds, cpu) = (begun.elapsed().as_secs_f64(), ends.cpu_time()? - cpu_before);
            ensure!(running.try_join_next().is_none(), "a connection ended");
            ensure!(mib > 0.0, "nothing arrived");
            Ok(Carried { mib_per_s: mib / seconds, cpu_s_per_gib: cpu.as_secs_f64() / (mib / 1024.0) })
        })?;
        self.runtime.block_on(self.target.settle())?;
        Ok(carried)
    }
}

async fn open(near: SocketAddr, task: Task) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(near).await?;
    stream.set_nodelay(true)?;
    stream.write_u8(task.byte()).await?;
    Ok(stream)
}

/// Until it fails, or is dropped.
async fn upload(mut stream: TcpStream) {
    let piece = load::body(0, PIECE);
    while stream.write_all(&piece).await.is_ok() {}
}

/// Until it ends, or is dropped.
async fn download(mut stream: TcpStream, arrived: Arc<AtomicU64>) {
    let mut piece = vec![0; PIECE];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        arrived.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// A connection that accepts no more bytes, as its other end does not read.
async fn stalled(near: SocketAddr) -> Result<TcpStream> {
    let mut stream = open(near, Task::Stall).await?;
    let piece = load::body(1, PIECE);
    while let Ok(written) = timeout(STALLS_AFTER, stream.write(&piece)).await {
        written?;
    }
    Ok(stream)
}

async fn echoes(near: SocketAddr, timing: Timing) -> Result<Sample> {
    load::run::<Tokio>(&[Echo::open(near).await?], Case::new(ECHO_BYTES, 1), timing).await
}

/// A connection whose target sends back what comes.
#[derive(Clone)]
struct Echo(Arc<Mutex<TcpStream>>);

impl Echo {
    /// After a byte has gone each way.
    async fn open(near: SocketAddr) -> Result<Self> {
        let mut stream = open(near, Task::Echo).await?;
        stream.write_u8(0).await?;
        stream.read_u8().await?;
        Ok(Self(Arc::new(Mutex::new(stream))))
    }
}

impl Client for Echo {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let mut stream = self.0.lock().await;
        stream.write_all(&body).await?;
        let mut echoed = vec![0; body.len()];
        stream.read_exact(&mut echoed).await?;
        Ok(echoed.into())
    }
}

/// Opens a connection for each body.
#[derive(Clone)]
struct Opening {
    near: SocketAddr,
}

impl Client for Opening {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let mut stream = open(self.near, Task::Echo).await?;
        stream.write_all(&body).await?;
        let mut echoed = vec![0; body.len()];
        stream.read_exact(&mut echoed).await?;
        Ok(echoed.into())
    }
}
