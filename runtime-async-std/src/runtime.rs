//! Tasks, timers and sockets of async-std.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use async_std::net::{TcpListener, TcpStream};
use async_std::os::unix::net::{UnixListener, UnixStream};
use callosum_runtime::rt::{BoxStream, Listener, Runtime, SocketFile, Timer, set_up_tcp, unsupported};
use callosum_runtime::{Endpoint, SocketOptions};
use futures_util::future::BoxFuture;

use crate::socket::Stream;

/// The global executor of async-std.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStdRuntime;

impl Runtime for AsyncStdRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        async_std::task::spawn(task);
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        Box::pin(AsyncStdTimer { at, sleep: sleep_until(at) })
    }

    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            match endpoint {
                Endpoint::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    set_up_tcp(&stream, &options)?;
                    Ok(Box::new(Stream(stream)) as BoxStream)
                }
                Endpoint::Ipc(path) => Ok(Box::new(Stream(UnixStream::connect(path).await?)) as BoxStream),
                other => Err(unsupported(other)),
            }
        })
    }

    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            match endpoint {
                Endpoint::Tcp { host, port } => {
                    let listener = TcpListener::bind((host.as_str(), *port)).await?;
                    Ok(Box::new(Tcp { listener, options }) as Box<dyn Listener>)
                }
                Endpoint::Ipc(path) => {
                    let (listener, file) = SocketFile::listen(path)?;
                    Ok(Box::new(Ipc { listener: listener.into(), file }) as Box<dyn Listener>)
                }
                other => Err(unsupported(other)),
            }
        })
    }
}

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// async-std has no timer that can be reset, so a new one is made, at the latest when the old one is over.
struct AsyncStdTimer {
    at: Instant,
    sleep: Sleep,
}

fn sleep_until(at: Instant) -> Sleep {
    Box::pin(async_std::task::sleep(at.saturating_duration_since(AsyncStdRuntime.now())))
}

impl Timer for AsyncStdTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.at = at;
        self.sleep = sleep_until(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= AsyncStdRuntime.now() {
            return Poll::Ready(());
        }
        self.sleep.as_mut().poll(cx)
    }
}

struct Tcp {
    listener: TcpListener,
    options: SocketOptions,
}

impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async {
            let (stream, address) = self.listener.accept().await?;
            // Fails for one that has been reset already, which says nothing of the next.
            let _ = set_up_tcp(&stream, &self.options);
            Ok((Box::new(Stream(stream)) as BoxStream, format!("tcp://{address}")))
        })
    }

    fn endpoint(&self) -> io::Result<Endpoint> {
        let address = self.listener.local_addr()?;
        Ok(Endpoint::Tcp { host: address.ip().to_string(), port: address.port() })
    }
}

struct Ipc {
    listener: UnixListener,
    file: SocketFile,
}

impl Listener for Ipc {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            Ok((Box::new(Stream(stream)) as BoxStream, self.file.endpoint().to_string()))
        })
    }

    fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(self.file.endpoint())
    }
}
