//! Tasks, timers and sockets of smol.

use std::future::Future;
use std::io;
use std::net;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use callosum_runtime::rt::{BoxSocket, Listener, Runtime, Sockets, Timer, tcp_listener};
use callosum_runtime::{Endpoint, SocketOptions};
use futures_util::future::BoxFuture;
use smol::net::{TcpListener, TcpStream};
use smol::{Async, Executor};

use crate::accept::poll_accept;
use crate::socket::Stream;

/// smol's global executor, or one of your own.
///
/// smol runs its global executor, that of `smol::spawn`, on one thread, or on as many as the environment variable
/// `SMOL_THREADS` says.
#[derive(Clone, Debug, Default)]
pub struct SmolRuntime {
    executor: Option<Arc<Executor<'static>>>,
}

impl SmolRuntime {
    /// Runs tasks on smol's global executor, as the default does.
    pub const fn global() -> Self {
        Self { executor: None }
    }

    /// Runs tasks on `executor`. You have to run it: its tasks make no progress otherwise.
    pub fn on(executor: Arc<Executor<'static>>) -> Self {
        Self { executor: Some(executor) }
    }
}

impl Runtime for SmolRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        match &self.executor {
            Some(executor) => executor.spawn(task).detach(),
            None => smol::spawn(task).detach(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        Box::pin(SmolTimer { timer: smol::Timer::at(at), over: false })
    }

    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxSocket>> {
        SmolSockets::open(endpoint, options)
    }

    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        SmolSockets::listen(endpoint, options)
    }
}

struct SmolSockets;

impl Sockets for SmolSockets {
    type Tcp = Stream<TcpStream, net::TcpStream>;

    async fn connect_tcp(address: (&str, u16)) -> io::Result<Self::Tcp> {
        TcpStream::connect(address).await.map(Stream::from)
    }

    async fn listen_tcp(address: (&str, u16), options: SocketOptions) -> io::Result<Box<dyn Listener>> {
        let socket = Arc::<Async<net::TcpListener>>::from(TcpListener::bind(address).await?);
        tcp_listener(socket, options, |socket, cx| {
            let (stream, peer) = ready!(poll_accept(socket, cx, |socket| socket.accept()))?;
            Poll::Ready(Ok((Stream::from(TcpStream::try_from(stream)?), peer)))
        })
    }

    #[cfg(all(unix, not(callosum_portable)))]
    async fn connect_ipc(path: &std::path::Path) -> io::Result<BoxSocket> {
        crate::ipc::connect(path).await
    }

    #[cfg(all(unix, not(callosum_portable)))]
    fn listen_ipc(path: &std::path::Path, options: SocketOptions) -> io::Result<Box<dyn Listener>> {
        crate::ipc::listen(path, &options)
    }
}

/// smol's timer goes off once, and is pending for ever after that.
struct SmolTimer {
    timer: smol::Timer,
    over: bool,
}

impl Timer for SmolTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.over = false;
        self.timer.set_at(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.over {
            ready!(Pin::new(&mut self.timer).poll(cx));
            self.over = true;
        }
        Poll::Ready(())
    }
}
