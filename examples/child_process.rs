//! A plugin: a child process that serves over its standard input and output, and calls its parent back.
//!
//! `cargo run -p callosum-examples --example child_process`

use std::env;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use callosum_tokio::{Context, Event, HandlerResult, builder};
use futures_util::{AsyncRead, AsyncWrite, StreamExt};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The plugin's method: it asks its parent how to shout.
async fn shout(text: String, context: Context) -> HandlerResult<String> {
    let mark: String = context.peer().invoke("mark", &()).timeout(TIMEOUT).await?;
    Ok(text.to_uppercase() + &mark)
}

/// The child. Nothing else may use its standard output: logs go to standard error.
async fn plugin() -> Result<(), Box<dyn Error>> {
    let (binder, driver) = builder()
        .handle("shout", shout)
        .handle_raw("echo", |body: Bytes, _: Context| async move { HandlerResult::Ok(body) })
        .binder();
    let mut events = binder.events();
    binder.accept(tokio::io::join(tokio::io::stdin(), tokio::io::stdout()).compat(), "parent")?;
    // Its input ends when the parent wants it to, and also when the parent has crashed.
    let parent_is_gone = async {
        while let Some(event) = events.next().await {
            if matches!(event, Event::Disconnected { .. }) {
                break;
            }
        }
        binder.shutdown(TIMEOUT).await;
    };
    let (ended, ()) = futures_util::join!(driver, parent_is_gone);
    Ok(ended?)
}

/// The parent's end of the two pipes. Closing it drops the child's input, which is how the child sees its end: tokio's own
/// `shutdown` leaves a pipe open.
struct Pipes {
    input: Option<Compat<ChildStdin>>,
    output: Compat<ChildStdout>,
}

impl Pipes {
    fn input(&mut self) -> io::Result<Pin<&mut Compat<ChildStdin>>> {
        self.input.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Pipes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.input()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

/// The parent.
async fn parent() -> Result<(), Box<dyn Error>> {
    let mut child = Command::new(env::current_exe()?)
        .arg("plugin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("both are pipes".into());
    };
    let pipes = Pipes { input: Some(input.compat_write()), output: output.compat() };
    let mark = |(): (), _: Context| async { HandlerResult::Ok("!") };
    let (connector, driver) = builder().call_timeout(TIMEOUT).handle("mark", mark).connect_stream(pipes);
    let driver = tokio::spawn(driver);

    let shouted: String = connector.peer().invoke("shout", "hello").await?;
    println!("the child says: {shouted}");
    assert_eq!(shouted, "HELLO!");
    // Far more than a pipe holds.
    let large = Bytes::from(vec![7; 9 << 20]);
    assert!(connector.peer().invoke_raw("echo", large.clone()).await? == large);

    connector.shutdown(TIMEOUT).await;
    driver.await??;
    assert!(child.wait().await?.success());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("plugin") => plugin().await,
        _ => parent().await,
    }
}
