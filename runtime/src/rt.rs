//! The interface of an executor: tasks, timers and byte streams.
//!
//! It also has what others may need that are built on endpoints: [`Waiters`] and [`Broadcast`], which wake the application's tasks,
//! and the limits [`RateLimit`] and [`Handshakes`].

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use futures_util::future::BoxFuture;

use crate::os::HAS_IPC;
pub use crate::os::{AsSystemSocket, SocketFile, SystemSocket};
use crate::{Endpoint, SocketOptions};

mod sockets;

#[cfg(all(unix, not(callosum_portable)))]
pub(crate) use sockets::BACKLOG;
pub use sockets::{Sockets, ipc_listener, tcp_listener};

pub use crate::broadcast::{Broadcast, Subscription};
pub use crate::handshakes::{HandshakeSlot, Handshakes};
pub use crate::rate_limit::RateLimit;
pub use crate::waiters::{Change, Waiters};

/// An executor, as Callosum sees it. Implement it to run peers on an executor of your own.
///
/// [`now`](Self::now), [`fill_random`](Self::fill_random) and [`timer`](Self::timer) may be called while an endpoint holds a lock:
/// they must not call into the endpoint.
pub trait Runtime: Debug + Send + Sync + 'static {
    /// Runs a task to its end. It must not poll the task before it returns.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Wakes the task of `cx` once other tasks have run and, where tasks learn only from the executor that a
    /// socket has something for them, it has looked.
    fn yield_now(&self, cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }

    /// The time. Every deadline, timeout and [timer](Self::timer) is measured by this clock and no other, so that it may be
    /// virtual: the clock of a simulation, or tokio's while it is paused.
    ///
    /// It never goes back. It is read several times in a poll, so reading it must be cheap.
    fn now(&self) -> Instant;

    /// Fills `bytes` with random ones. Nonces of connections, the seed of each link's CURVE keys, the jitter of reconnecting and the
    /// ids of [traces](crate::layer::Tracing) come from here, and nothing else is random.
    ///
    /// The default asks the operating system, which is what production needs: an attacker who can guess what this gives can read and
    /// forge what CURVE protects. Override it to make runs reproducible in tests: with the same bytes, a clock of its own and
    /// tasks in a fixed order, an endpoint sends the same bytes at the same times.
    ///
    /// # Panics
    /// The default, if the operating system has no randomness.
    #[expect(clippy::disallowed_methods, reason = "this is where randomness comes from")]
    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system provides randomness");
    }

    /// A timer that goes off once [`now`](Self::now) has reached `at`.
    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>>;

    /// Opens a socket to a `tcp://` or `ipc://` endpoint, [set up](set_up_tcp) with these options if it is TCP.
    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxSocket>>;

    /// Listens on a `tcp://` or `ipc://` endpoint. The sockets that are accepted are set up in the same way.
    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Sets up a TCP socket: Nagle's algorithm is off, and, on Linux, the kernel holds at most 128 KiB of unsent bytes.
/// Otherwise the kernel would accept megabytes, behind which urgent messages wait, and with a slow peer accept nothing
/// for so long that the write timeout would close the connection. Also applies the endpoint's `options`.
///
/// # Errors
/// As the system's, for a connection that is gone.
pub fn set_up_tcp(socket: &impl AsSystemSocket, options: &SocketOptions) -> io::Result<()> {
    options.apply(&socket.as_system_socket().0)
}

/// A timer that can be set again, before or after it went off.
pub trait Timer: Send {
    /// Sets it to go off at `at`.
    fn reset(self: Pin<&mut Self>, at: Instant);

    /// Ready from its time on, until it is reset.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

/// Accepts connections.
pub trait Listener: Send {
    /// The next connection, and the remote address for people to read. Dropping the future loses no connection: whatever it
    /// has accepted, it returns in the same poll. [`tcp_listener`] and [`ipc_listener`] make listeners that do.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxSocket, String)>>;

    /// Where it really listens: with the port that the system chose.
    ///
    /// # Errors
    /// If the system can't tell.
    fn endpoint(&self) -> io::Result<Endpoint>;
}

/// Anything that ZMTP can run over: bytes in both directions, in order and without loss. TCP, TLS, a pipe to a child process, a
/// `BufWriter` around any of them.
///
/// # Contract
/// Every `AsyncRead` and `AsyncWrite` that keeps to the documentation of `futures_io` will do. A link relies on the following:
///
/// - **Reading** gives any number of bytes, from 1; `Ok(0)` is the end of the stream, and ends the link.
/// - **Writing** takes any number of bytes, from 1; `Ok(0)` ends the link. The stream may keep what it takes, until it is flushed. A
///   stream that is full passes on by itself what it must to make room: `poll_write` that is pending wakes the task once more can
///   be written, without being flushed.
/// - **Flushing** passes on everything that was taken. `poll_flush` is called once for a batch of writes, when there is
///   nothing more to write for now, and, while it is pending, again at each wake-up at which there is nothing more to write, until it
///   is ready. More may be written, and the stream read, before it is. A stream that keeps nothing is ready at once.
/// - **Closing** ends this direction, and only this one: the other side reads all that was written, then `Ok(0)`. `poll_close` is
///   called after `poll_flush` was ready, at a shutdown that has drained. Meanwhile, and afterwards, the stream is read, and what
///   comes is discarded, until the other side closes too: each of the two may take 1 s, then the stream is dropped. If
///   `poll_close` only flushes, as that of async-std's `TcpStream` does, each shutdown waits for that second.
/// - **Dropping** a stream that is not closed ends both directions for the other side, with `Ok(0)` or an error. Bytes
///   that were not flushed may be lost. Links that end with an error are dropped: before that, why they end is written and flushed
///   as far as it can be at once.
/// - **Wakers**: a link waits for reading and for one of writing, flushing and closing at the same time. A stream keeps a
///   waker for each of the two directions, the one of the latest call, and wakes it after every `Pending`. Calls may come from
///   another thread each time.
/// - **Errors**, except while closing, end the link with [`DisconnectCause::Io`](crate::DisconnectCause::Io).
///
/// # Limits
/// [`Limits::write_timeout`](crate::Limits::write_timeout) and the urgency of calls apply to what the stream has not taken yet. A
/// stream that keeps much hides from the link that its peer does not read; only the [keepalive](crate::Builder::keepalive)
/// finds out then.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// A byte stream of any kind.
pub type BoxStream = Box<dyn ByteStream>;

/// A byte stream that an executor has opened or accepted. Besides being closed, it can be reset.
///
/// Links only close. What forwards other protocols' connections also has to pass on that one of them was reset, because a peer would
/// take the end of the stream for the end of the data.
pub trait Socket: ByteStream {
    /// From now on, dropping it resets the connection: the other side gets an error instead of the end of the stream, and what has
    /// not been sent is lost. It can't be undone.
    ///
    /// For [whatever has a socket of the system](AsSystemSocket) this sets `SO_LINGER` to zero, which makes TCP send RST (RFC 9293,
    /// section 3.10.5). Unix domain sockets have no reset, and are closed all the same. Default: does nothing, for streams that know no
    /// reset.
    fn reset_on_drop(&mut self) {}
}

impl<S: ByteStream + AsSystemSocket> Socket for S {
    fn reset_on_drop(&mut self) {
        // Fails for a connection that the peer has reset already.
        let _ = self.as_system_socket().0.set_linger(Some(Duration::ZERO));
    }
}

/// A socket of any kind.
pub type BoxSocket = Box<dyn Socket>;

/// What an executor answers for an endpoint of a transport that it, or the system, does not have: an error of the kind
/// [`Unsupported`](io::ErrorKind::Unsupported).
pub fn unsupported(endpoint: &Endpoint) -> io::Error {
    let reason = match endpoint {
        Endpoint::Ipc(_) if !HAS_IPC => format!("{endpoint}: ipc:// endpoints need Unix"),
        _ => format!("this runtime has no transport for {endpoint}"),
    };
    io::Error::new(io::ErrorKind::Unsupported, reason)
}

/// The time in so long, by the clock of a runtime: for [`sleep_until`], [`until`] and [`Runtime::timer`]. As good as never where the clock
/// can't say when.
pub fn from_now(runtime: &dyn Runtime, wait: Duration) -> Instant {
    let now = runtime.now();
    now.checked_add(wait).unwrap_or(now + Duration::from_secs(1 << 30))
}

/// Waits until `at`, by the clock of a runtime.
///
/// Cancel safe: dropped, it has only waited for less.
pub async fn sleep_until(runtime: &dyn Runtime, at: Instant) {
    let mut timer = runtime.timer(at);
    std::future::poll_fn(|cx| timer.as_mut().poll(cx)).await;
}

/// Yields to other tasks.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The output of `future`, or `None` at the time `at` by the clock of a runtime. The future is dropped then.
///
/// As cancel safe as the future.
pub async fn until<F: Future>(runtime: &dyn Runtime, at: Instant, future: F) -> Option<F::Output> {
    let mut timer = runtime.timer(at);
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}
