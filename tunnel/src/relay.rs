//! Copying between a socket and the two streams of a call.
//!
//! Responsible for how the two directions end, each by itself and both together; not for who opened the call, nor for
//! stopping a connection from outside. The idea: **up** is from the socket to the stream that this side writes,
//! **down** from the stream that this side reads to the socket. Each is an enum of its progress, polled in the
//! same task, so that nothing is shared or locked.
//!
//! The end of one side becomes the end of the other: FIN the end of the stream, and the end of the stream FIN. A reset becomes the
//! failure or the cancellation of the call, which would overtake the bytes before it. So the side that sees a reset first marks it in
//! the stream, as the end of an item, and waits for [`LINGER`] at most until the other side reaches the mark and ends the call:
//!
//! ```text
//! target sends "413 Too Large", resets      the socket gives these bytes, then an error
//! up: Open -> Breaking -> Broken            the bytes are written, and then the mark
//! the other side: down: Open -> Resetting   writes the bytes to the client, resets the client, cancels the call
//! ```

mod pieces;

use std::collections::VecDeque;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::proto::WriteError;
use callosum_runtime::rt::{BoxSocket, Runtime, Timer, from_now};
use callosum_runtime::stream::Answer;
use callosum_runtime::{BodyError, BodyReader, BodyWriter, CallError};
use futures_io::AsyncWrite;

use self::pieces::{Gathered, gather, poll_drop, poll_write_pieces};
use crate::live::{Live, Outcome};
use crate::read::poll_read;
use crate::{End, wire};

/// Reads, and writes, after which the relay yields to other tasks.
const ROUNDS: usize = 16;

/// How long the other side may take to come to the mark of a reset, and to write what came before it.
const LINGER: Duration = Duration::from_secs(5);

/// How often a socket that is not read is asked whether it was reset: one that has ended, and one whose bytes find no room in the
/// stream. To be asked costs a system call.
const PROBE: Duration = Duration::from_secs(5);

/// What a socket is, which decides what a failing write means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The system refuses a write of no bytes only if the connection was reset, or if this side has ended its half.
    Tcp,
    /// A write fails also once the peer has closed its socket, which is no reset: what the peer has written may still be unread.
    Other,
}

impl Transport {
    /// That of a listener's client, by the address that the listener gives.
    pub(crate) fn of(address: &str) -> Self {
        if address.starts_with("tcp://") { Self::Tcp } else { Self::Other }
    }
}

/// A connection from its first byte to its end. Dropping it before resets the socket, and cancels or fails the call.
pub(crate) struct Relay {
    socket: BoxSocket,
    transport: Transport,
    up: Up,
    down: Down,
    /// Fires if the other side has not reached the mark in time, or this one has not written what came before it.
    linger: Option<Pin<Box<dyn Timer>>>,
    /// Fires when the socket is to be asked whether it was reset.
    probe: Option<Pin<Box<dyn Timer>>>,
    live: Arc<Live>,
    /// Bytes of the preface that were not written: this side's own, and not counted.
    preface: usize,
    runtime: Arc<dyn Runtime>,
    is_over: bool,
}

/// From the socket to the stream.
enum Up {
    Open(BodyWriter),
    /// The stream has no room, so the socket is not read.
    Full(BodyWriter),
    /// The socket has ended, and the stream too.
    Finished(BodyWriter),
    /// The socket has failed, and the mark waits for room in the stream.
    Breaking(BodyWriter),
    /// The stream has the mark.
    Broken(BodyWriter),
    /// The other side takes no more.
    Stopped,
}

/// From the stream to the socket.
enum Down {
    /// The call has not been answered.
    Opening(Answer),
    /// `pieces` wait for room in the socket.
    Open {
        reader: BodyReader,
        pieces: VecDeque<Bytes>,
    },
    /// The stream has reached the mark: these are the last pieces, and then the socket is reset. The reader is kept, since dropping
    /// it would end the call.
    Resetting {
        _reader: BodyReader,
        pieces: VecDeque<Bytes>,
    },
    /// The stream has ended, and the socket's half is being closed.
    Closing,
    Closed,
    /// The socket takes no more: what comes is dropped, so that the call goes on.
    Broken(Option<BodyReader>),
}

/// The stream of a call that this side reads.
pub(crate) enum Incoming {
    /// Our call, which may still be refused.
    Answer(Answer),
    /// A stream that has begun, and what the socket is given before it.
    Stream { preface: Bytes, reader: BodyReader },
}

impl Relay {
    pub(crate) fn new(
        runtime: Arc<dyn Runtime>,
        live: Arc<Live>,
        (socket, transport): (BoxSocket, Transport),
        writer: BodyWriter,
        incoming: Incoming,
    ) -> Self {
        let (down, preface) = match incoming {
            Incoming::Answer(answer) => (Down::Opening(answer), 0),
            Incoming::Stream { preface, reader } => {
                let size = preface.len();
                let pieces = if preface.is_empty() { VecDeque::new() } else { VecDeque::from([preface]) };
                (Down::Open { reader, pieces }, size)
            }
        };
        let (linger, probe) = (None, None);
        let up = Up::Open(writer);
        Self { socket, transport, up, down, linger, probe, live, preface, runtime, is_over: false }
    }

    /// Copies until both directions have ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let polled = self.poll_down(cx).and_then(|()| self.poll_up(cx)).and_then(|()| self.poll_mark(cx));
        if let Err(outcome) = polled {
            return Poll::Ready(outcome);
        }
        self.poll_probe(cx);
        if let Some(linger) = &mut self.linger
            && linger.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(match self.down {
                Down::Resetting { .. } => End::ResetThere,
                _ => End::ResetHere,
            }));
        }
        self.poll_end(cx)
    }

    /// Whether both have ended, and how.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        match (&mut self.up, &self.down) {
            (Up::Finished(writer), Down::Closed) => {
                if self.live.is_accepting() {
                    // Only the end of the call tells whether the other side has written everything to its socket.
                    let closed = ready!(pin!(writer.closed()).poll(cx));
                    if let BodyError::Call(error) = closed {
                        return Poll::Ready(Ok(wire::end(&error)));
                    }
                }
                self.is_over = true;
                Poll::Ready(Ok(End::Closed))
            }
            (Up::Broken(writer), _) => {
                let _ = ready!(pin!(writer.closed()).poll(cx));
                Poll::Ready(Ok(End::ResetHere))
            }
            (Up::Finished(writer), Down::Broken(_)) => {
                // The end of a stream is acknowledged at once. Fails if the other side has ended, too.
                let _ = ready!(pin!(writer.acknowledged()).poll(cx));
                Poll::Ready(Ok(End::ResetHere))
            }
            (Up::Stopped, Down::Closed | Down::Broken(_)) => Poll::Ready(Ok(End::ResetThere)),
            // What was received may wait for room in the socket, so that reading does not report the failure of the call.
            (Up::Finished(writer), Down::Open { .. } | Down::Resetting { .. }) => {
                match ready!(pin!(writer.closed()).poll(cx)) {
                    BodyError::Call(error) => Poll::Ready(Ok(wire::end(&error))),
                    _ => Poll::Pending,
                }
            }
            _ => Poll::Pending,
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), Outcome> {
        for _ in 0..ROUNDS {
            let (Up::Open(writer) | Up::Full(writer)) = &mut self.up else { return Ok(()) };
            // Check for room before reading, so that excess bytes stay in the socket's buffer, and not in ours as well.
            let room = pin!(writer.room()).poll(cx);
            match room {
                Poll::Ready(Ok(_)) => self.set_full(false),
                Poll::Ready(Err(error)) => return self.fail_up(error),
                Poll::Pending => {
                    self.set_full(true);
                    return Ok(());
                }
            }
            let Up::Open(writer) = &mut self.up else { return Ok(()) };
            match poll_read(&mut self.socket, cx) {
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => {
                    let size = bytes.len();
                    // There is room, so this is ready at once, unless the connection has just ended.
                    let written = pin!(writer.write_bytes(bytes)).poll(cx);
                    match written {
                        Poll::Ready(Err(error)) => return self.fail_up(error),
                        _ => self.live.count_up(size),
                    }
                }
                Poll::Ready(Ok(_)) => return self.end_up(),
                Poll::Ready(Err(_)) => {
                    self.break_up();
                    return Ok(());
                }
                Poll::Pending => {
                    let closed = pin!(writer.closed()).poll(cx);
                    return match closed {
                        Poll::Pending => Ok(()),
                        Poll::Ready(error) => self.fail_up(error),
                    };
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn set_full(&mut self, is_full: bool) {
        self.up = match (std::mem::replace(&mut self.up, Up::Stopped), is_full) {
            (Up::Open(writer), true) => Up::Full(writer),
            (Up::Full(writer), false) => {
                // Some bytes were taken: the time begins anew.
                self.probe = None;
                Up::Open(writer)
            }
            (up, _) => up,
        };
    }

    /// The socket has ended. If it can't be written either, it was reset: only one of the two system calls reports a reset.
    fn end_up(&mut self) -> Result<(), Outcome> {
        if matches!(self.down, Down::Broken(_)) {
            self.break_up();
            return Ok(());
        }
        let Up::Open(writer) = &mut self.up else { return Ok(()) };
        if let Err(error) = writer.finish() {
            return self.fail_up(error);
        }
        if let Up::Open(writer) = std::mem::replace(&mut self.up, Up::Stopped) {
            self.up = Up::Finished(writer);
        }
        Ok(())
    }

    fn break_up(&mut self) {
        if let Up::Open(writer) = std::mem::replace(&mut self.up, Up::Stopped) {
            self.up = Up::Breaking(writer);
        }
        self.start_to_linger();
    }

    /// Marks the reset in the stream.
    fn poll_mark(&mut self, cx: &mut Context<'_>) -> Result<(), Outcome> {
        let Up::Breaking(writer) = &mut self.up else { return Ok(()) };
        let marked = pin!(writer.end_item()).poll(cx);
        match (marked, std::mem::replace(&mut self.up, Up::Stopped)) {
            (Poll::Pending, up) => self.up = up,
            (Poll::Ready(Ok(())), Up::Breaking(writer)) => self.up = Up::Broken(writer),
            // The other side has ended, too, and the stream stays stopped.
            (Poll::Ready(_), _) => {}
        }
        Ok(())
    }

    /// Finds out that the socket was reset while it is neither read nor written. One that has ended is ready to be read for ever,
    /// and reads as ended also after a reset, so neither the executor nor a read tells. A write does, and one of no bytes is enough.
    fn poll_probe(&mut self, cx: &mut Context<'_>) {
        let may_be_closed = match (&self.up, &self.down) {
            (Up::Finished(_), Down::Opening(_) | Down::Open { .. }) => false,
            (Up::Full(_), Down::Opening(_) | Down::Open { .. }) => self.transport != Transport::Tcp,
            // This side has ended its half, so that every write fails.
            (Up::Full(_), Down::Closing | Down::Closed) => true,
            _ => {
                self.probe = None;
                return;
            }
        };
        let runtime = &*self.runtime;
        let probe = self.probe.get_or_insert_with(|| runtime.timer(from_now(runtime, PROBE)));
        while probe.as_mut().poll(cx).is_ready() {
            match Pin::new(&mut self.socket).poll_write(cx, &[]) {
                // No reset: its bytes wait to be read.
                Poll::Ready(Err(error)) if may_be_closed && error.kind() != ErrorKind::ConnectionReset => {}
                Poll::Ready(Err(_)) => return self.break_down(),
                _ => {}
            }
            probe.as_mut().reset(from_now(runtime, PROBE));
        }
    }

    fn start_to_linger(&mut self) {
        self.live.reset_here();
        self.limit_linger();
    }

    fn limit_linger(&mut self) {
        let runtime = &*self.runtime;
        self.linger.get_or_insert_with(|| runtime.timer(from_now(runtime, LINGER)));
    }

    /// The stream can't be written any more.
    fn fail_up(&mut self, error: BodyError) -> Result<(), Outcome> {
        match error {
            BodyError::Call(error) => Err(self.outcome(&error)),
            BodyError::Write(WriteError::Stopped | WriteError::NotOpen) => {
                self.up = Up::Stopped;
                Ok(())
            }
            _ => Err(Ok(End::ResetThere)),
        }
    }

    /// The outcome that the failure of the call stands for.
    fn outcome(&self, error: &CallError) -> Outcome {
        match self.down {
            Down::Opening(_) => Err(wire::reason(error)),
            _ => Ok(wire::end(error)),
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<(), Outcome> {
        if let Down::Opening(answer) = &mut self.down {
            match Pin::new(answer).poll(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(streamed)) => {
                    self.down = Down::Open { reader: streamed.body, pieces: VecDeque::new() };
                    self.live.open();
                }
                Poll::Ready(Err(error)) => return Err(Err(wire::reason(&error))),
            }
        }
        if let Down::Broken(Some(reader)) = &mut self.down {
            match poll_drop(reader, cx) {
                Poll::Ready(Ok(())) => self.down = Down::Broken(None),
                Poll::Ready(Err(error)) => return Err(ended(error)),
                Poll::Pending => {}
            }
        }
        self.poll_write(cx)?;
        self.poll_reset(cx)?;
        if let Down::Closing = self.down {
            match Pin::new(&mut self.socket).poll_close(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.down = Down::Closed,
                Poll::Ready(Err(_)) => self.break_down(),
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), Outcome> {
        for _ in 0..ROUNDS {
            let Down::Open { reader, pieces } = &mut self.down else { return Ok(()) };
            let gathered = gather(reader, pieces, cx).map_err(ended)?;
            if gathered == Gathered::Mark {
                self.begin_reset();
                return Ok(());
            }
            if pieces.is_empty() {
                if gathered == Gathered::End {
                    self.down = Down::Closing;
                } else if let Poll::Ready(Err(_)) = Pin::new(&mut self.socket).poll_flush(cx) {
                    self.break_down();
                }
                return Ok(());
            }
            match poll_write_pieces(&mut self.socket, pieces, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(size)) => self.count_down(size),
                Poll::Ready(Err(_)) => {
                    self.break_down();
                    return Ok(());
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn begin_reset(&mut self) {
        if let Down::Open { reader, pieces } = std::mem::replace(&mut self.down, Down::Closed) {
            self.down = Down::Resetting { _reader: reader, pieces };
        }
        self.limit_linger();
    }

    /// Writes and flushes what came before a mark.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Result<(), Outcome> {
        while let Down::Resetting { pieces, .. } = &mut self.down {
            if pieces.is_empty() {
                // A socket may write on another thread, which a reset would end.
                let flushed = Pin::new(&mut self.socket).poll_flush(cx);
                return if flushed.is_pending() { Ok(()) } else { Err(Ok(End::ResetThere)) };
            }
            match poll_write_pieces(&mut self.socket, pieces, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(size)) => self.count_down(size),
                Poll::Ready(Err(_)) => return Err(Ok(End::ResetThere)),
            }
        }
        Ok(())
    }

    /// Counts written bytes, without those of the preface, which come first.
    fn count_down(&mut self, written: usize) {
        let of_preface = written.min(self.preface);
        self.preface -= of_preface;
        self.live.count_down(written - of_preface);
    }

    /// The socket takes no more. What it has given, and still gives, goes up all the same.
    fn break_down(&mut self) {
        let reader = match std::mem::replace(&mut self.down, Down::Broken(None)) {
            Down::Open { reader, .. } => Some(reader),
            _ => None,
        };
        self.down = Down::Broken(reader);
        self.start_to_linger();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.is_over {
            self.socket.reset_on_drop();
            // An incomplete argument would be noticed only by an end that reads it, and its socket may take nothing.
            if let Up::Open(writer) | Up::Full(writer) | Up::Breaking(writer) | Up::Broken(writer) =
                std::mem::replace(&mut self.up, Up::Stopped)
                && self.live.is_accepting()
            {
                writer.cancel();
            }
        }
    }
}

fn ended(error: BodyError) -> Outcome {
    match error {
        BodyError::Call(error) => Ok(wire::end(&error)),
        _ => Ok(End::ResetThere),
    }
}
