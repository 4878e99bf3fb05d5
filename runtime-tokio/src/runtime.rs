//! Tasks, timers and sockets of tokio.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Instant;

use callosum_runtime::rt::{BoxSocket, Listener, Runtime, Sockets, Timer, tcp_listener};
use callosum_runtime::{Endpoint, SocketOptions};
use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::socket::Stream;

/// The tokio runtime that is current when an endpoint's driver first runs.
///
/// From then on it is the endpoint's, whichever thread calls of the endpoint are polled on.
///
/// Time is tokio's. Where its clock is [paused](https://docs.rs/tokio/1/tokio/time/fn.pause.html), timeouts, keepalive and reconnecting happen in virtual
/// time. Use in-process endpoints or [`duplex`](callosum_runtime::duplex) there: a paused clock jumps to the next timer
/// whenever all tasks wait, also while they wait for a socket.
///
/// # Panics
/// The first use panics outside of a tokio runtime with I/O and time enabled.
#[derive(Clone, Debug, Default)]
pub struct TokioRuntime {
    handle: OnceLock<Handle>,
}

impl TokioRuntime {
    fn handle(&self) -> &Handle {
        self.handle.get_or_init(Handle::current)
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.handle().spawn(task);
    }

    fn yield_now(&self, cx: &mut Context<'_>) {
        // All that it does is done by its first poll: the worker wakes the task when it has looked at the sockets.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
    }

    fn now(&self) -> Instant {
        // A clock that is paused is its runtime's: outside of its tasks, tokio would tell the system's time.
        let elsewhere = self.handle.get().filter(|_| tokio::task::try_id().is_none());
        let _context = elsewhere.map(Handle::enter);
        tokio::time::Instant::now().into_std()
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        let _context = self.handle().enter();
        Box::pin(TokioTimer(Box::pin(tokio::time::sleep_until(at.into()))))
    }

    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxSocket>> {
        TokioSockets::open(endpoint, options)
    }

    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        TokioSockets::listen(endpoint, options)
    }
}

struct TokioSockets;

impl Sockets for TokioSockets {
    type Tcp = Stream<TcpStream>;

    async fn connect_tcp(address: (&str, u16)) -> io::Result<Self::Tcp> {
        TcpStream::connect(address).await.map(Stream)
    }

    async fn listen_tcp(address: (&str, u16), options: SocketOptions) -> io::Result<Box<dyn Listener>> {
        let listener = TcpListener::bind(address).await?;
        tcp_listener(listener, options, |listener, cx| {
            listener.poll_accept(cx).map_ok(|(stream, peer)| (Stream(stream), peer))
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

struct TokioTimer(Pin<Box<Sleep>>);

impl Timer for TokioTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.as_mut().reset(at.into());
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A task that yields sees received bytes, however seldom the runtime polls its reactor by itself.
    #[test]
    fn who_yields_sees_what_came() {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .event_interval(u32::MAX)
            .enable_all()
            .build()
            .expect("the system has threads");
        // As a task, for which the runtime does not look each time.
        let task = tokio.spawn(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
            let mut theirs = std::net::TcpStream::connect(listener.local_addr().expect("it has one"))
                .expect("somebody listens");
            let (ours, _) = listener.accept().expect("somebody connects");
            ours.set_nonblocking(true).expect("it can be");
            let ours = TcpStream::from_std(ours).expect("the runtime has I/O");
            // From now on it waits to be told.
            ours.try_read(&mut [0]).expect_err("nothing has come");
            theirs.write_all(b"!").expect("there is room");
            let runtime = TokioRuntime::default();
            let mut yielded = false;
            std::future::poll_fn(|cx| {
                if std::mem::replace(&mut yielded, true) {
                    return Poll::Ready(());
                }
                runtime.yield_now(cx);
                Poll::Pending
            })
            .await;
            assert_eq!(ours.try_read(&mut [0]).expect("it has come"), 1);
        });
        tokio.block_on(task).expect("it saw it");
    }
}
