//! What tunnels lead to: a listener whose connections do what their first byte says.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep},
};

/// Bytes that are read or written at once.
pub(super) const PIECE: usize = 64 << 10;

/// How long connections may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What the target does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// It sends back what comes.
    Echo,
    /// It counts what comes.
    Count,
    /// It sends without end.
    Send,
    /// It reads nothing until [`Target::settle`].
    Stall,
}

impl Task {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Echo => b'e',
            Self::Count => b'c',
            Self::Send => b's',
            Self::Stall => b'n',
        }
    }

    fn of(byte: u8) -> Result<Self> {
        let all = [Self::Echo, Self::Count, Self::Send, Self::Stall];
        match all.into_iter().find(|task| task.byte() == byte) {
            Some(task) => Ok(task),
            None => bail!("no task has the byte {byte}"),
        }
    }
}

/// Dropping it ends all.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

#[derive(Default)]
struct State {
    received: AtomicU64,
    open: AtomicUsize,
    release: Notify,
}

impl Target {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, state.clone()));
        Ok(Self { address, state, _accepting: accepting })
    }

    /// Bytes that have come to be counted.
    pub(super) fn received(&self) -> u64 {
        self.state.received.load(Ordering::Relaxed)
    }

    /// Ends the connections that stall, and waits until none is open.
    pub(super) async fn settle(&self) -> Result<()> {
        let begun = Instant::now();
        while self.state.open.load(Ordering::Acquire) > 0 {
            self.state.release.notify_waiters();
            ensure!(begun.elapsed() < ENDS_WITHIN, "connections to the target did not end");
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut serving = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        state.open.fetch_add(1, Ordering::AcqRel);
        serving.spawn(async move {
            // Who measures ends most connections in the middle, and sees itself what goes wrong before.
            let _ = serve(stream, &state).await;
            state.open.fetch_sub(1, Ordering::AcqRel);
        });
        while serving.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, state: &State) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut piece = vec![0; PIECE];
    match Task::of(stream.read_u8().await?)? {
        Task::Echo => loop {
            let read = stream.read(&mut piece[..super::ECHO_BYTES]).await?;
            if read == 0 {
                return Ok(());
            }
            stream.write_all(&piece[..read]).await?;
        },
        Task::Count => loop {
            let read = stream.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            state.received.fetch_add(read as u64, Ordering::Relaxed);
        },
        Task::Send => loop {
            stream.write_all(&piece).await?;
        },
        Task::Stall => {
            state.release.notified().await;
            Ok(())
        }
    }
}
