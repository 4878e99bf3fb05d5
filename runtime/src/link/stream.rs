//! A connection over ZMTP over a byte stream.
//!
//! Responsible for reading and writing the stream, ZMTP's handshake and framing, and the timeouts of both layers. ZMTP's `Link` is
//! driven outside of the peer's lock, which is taken only to hand messages to the connection and to take messages from it: a caller
//! never waits for encryption or for a system call.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use callosum_proto::zmtp::{Link, LinkConfig, LinkEvent, Mechanism};
use callosum_proto::{Connection, Multipart, Role};
use futures_io::{AsyncRead, AsyncWrite};

use super::batch::{Batch, SetToWork};
use super::overture::Overture;
use super::pump::{Alarm, Pump};
use crate::auth::{Admitting, AuthenticationError, Verdict};
use crate::error::DisconnectCause;
use crate::handshakes::HandshakeSlot;
use crate::node::Node;
use crate::peer::PeerShared;
use crate::rt::BoxStream;
use crate::stats::add;

/// Reads and writes in one poll before the link yields to other tasks.
const MAX_TURNS: usize = 16;

/// Pieces of one gathering write.
const MAX_SLICES: usize = 32;

/// Bytes read at once where calls are small: not many, so that both ends of a busy link work at the same time, one on
/// what the other has sent, instead of taking turns at all that is in flight.
const MIN_READ: usize = 2 * 1024;

/// Bytes read at once in the middle of a frame that is larger.
const MAX_READ: usize = 256 * 1024;

/// After so many written bytes, yield to the reactor if it has not polled the socket meanwhile. While tasks wake one another, an
/// executor may not poll its reactor for long, and received bytes would wait.
const LOOK_AFTER: usize = Connection::WRITE_AHEAD;

thread_local! {
    /// The read buffer, shared by all links of a thread: it is empty when a poll ends, so links need no buffer each.
    static BUFFER: Cell<BytesMut> = Cell::default();
}

/// How long a link that is no longer needed waits until it is closed, and how long until the peer has closed its end.
const LINGER: Duration = Duration::from_secs(1);

/// What the ZMTP layer may hold of a message besides its body, in bytes. A body that is over its limit by less than
/// this is refused with an ERROR; one that is over by more costs the link.
const ENVELOPE: usize = 1024 * 1024;

/// Drives one link until it ends. A future that resolves with the cause.
pub(crate) struct StreamLink {
    pump: Pump,
    stream: BoxStream,
    zmtp: Link,
    address: String,
    alarm: Alarm,
    /// Other tasks were woken, and may add to the next write before it is made.
    corked: bool,
    /// Other tasks were woken by this poll, and run before the next one.
    yields: bool,
    /// The stream may still hold bytes that it has taken.
    unflushed: bool,
    /// Bytes written since something was read.
    written: usize,
    /// Bytes read and written in this poll.
    batch: Batch,
    /// Polls that ended with more to do, and so without a look at the timeouts, one after the other.
    busy: u32,
    closing: Option<Closing>,
    handshake: Option<HandshakeSlot>,
    /// Present while the authenticator decides.
    admitting: Option<Admitting>,
    /// Present while the server has still to accept us, if we are the client.
    overture: Option<Overture>,
}

/// The steps of closing a link that has nothing more to send, and their deadlines.
enum Closing {
    Flush,
    Close(Instant),
    Linger(Instant),
}

/// Work that a poll leaves to the next one.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    /// Nothing of which no waker tells.
    Nothing,
    /// Perhaps something to read.
    Input,
    /// Also events or messages of the connection.
    All,
}

impl StreamLink {
    pub(crate) fn new(
        node: Arc<Node>,
        peer: Arc<PeerShared>,
        mechanism: Mechanism,
        stream: BoxStream,
        address: String,
        handshake: Option<HandshakeSlot>,
    ) -> Self {
        let config = &peer.core.config;
        let mut link = LinkConfig::new(peer.role());
        let name = if matches!(mechanism, Mechanism::Null) { "NULL" } else { "CURVE" };
        let overture = (link.role == Role::Connector).then(|| Overture::new(name));
        link.mechanism = mechanism;
        link.max_message_size = config.connection.max_body.saturating_add(ENVELOPE);
        link.handshake_timeout = config.connection.handshake_timeout;
        link.keepalive = config.keepalive;
        Self {
            zmtp: Link::new(&link, peer.core.random(), peer.core.now()),
            alarm: Alarm::new(&*peer.core.runtime),
            pump: Pump::new(node, peer),
            stream,
            address,
            corked: false,
            yields: false,
            unflushed: false,
            written: 0,
            batch: Batch::default(),
            busy: 0,
            closing: None,
            handshake,
            admitting: None,
            overture,
        }
    }

    pub(crate) fn was_established(&self) -> bool {
        self.pump.was_established()
    }

    /// Returns the time at which something was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Instant, DisconnectCause>> {
        if !self.zmtp.accepts_input() {
            return Poll::Pending;
        }
        let most = if self.zmtp.missing_input() > MIN_READ { MAX_READ } else { MIN_READ };
        let mut buffer = BUFFER.take();
        if buffer.len() < most {
            // Grown on demand: a thread whose links carry only small messages needs no large buffer.
            buffer.resize(most, 0);
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut buffer[..most]);
        let buffer = buffer.freeze();
        let result = match read {
            Poll::Ready(Ok(n)) => Poll::Ready(self.take_input(buffer.slice(..n))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        };
        // All read bytes were consumed, so the buffer can be cleared.
        if let Ok(buffer) = buffer.try_into_mut() {
            BUFFER.set(buffer);
        }
        result
    }

    fn take_input(&mut self, data: Bytes) -> Result<Instant, DisconnectCause> {
        if data.is_empty() {
            return Err(DisconnectCause::PeerClosed);
        }
        add(&self.pump.peer.counters.bytes_received, data.len() as u64);
        self.written = 0;
        self.batch.add(data.len());
        if let Some(overture) = &mut self.overture {
            overture.answer();
        }
        let now = self.pump.peer.core.now();
        self.zmtp.handle_input(now, &data)?;
        Ok(now)
    }

    /// Hands received messages to the connection, and its effects to whom they concern.
    fn deliver(&mut self, now: Instant) -> SetToWork {
        while let Some(event) = self.zmtp.poll_event() {
            // For one message at a time, so that callers need not wait for all of them.
            let mut state = self.pump.peer.lock();
            match event {
                LinkEvent::Message(message) => state.connection.handle_message(now, message),
                LinkEvent::Acknowledged { messages } => state.connection.handle_acknowledged(messages),
                LinkEvent::Established { identity, public_key, .. } => {
                    state.attach(&self.address, identity, public_key, now);
                    self.handshake = None;
                    self.overture = None;
                }
                LinkEvent::AuthenticationRequested { public_key } => {
                    if let Some(slot) = &self.handshake {
                        slot.asks_for_admission();
                    }
                    self.admitting = Some(Admitting::new(&self.pump.peer.core, public_key, &self.address));
                }
                // An empty message is not one of Callosum's.
                _ => state.connection.handle_message(now, Multipart::default()),
            }
        }
        self.pump.run()
    }

    /// Hands what is to be sent to ZMTP. Returns whether the connection has something to say about that: what was dropped
    /// instead of sent may have ended a call, or made room for requests. It fails if the connection is over.
    fn transmit(&mut self, now: Instant) -> Result<bool, DisconnectCause> {
        loop {
            let message = {
                let mut state = self.pump.peer.lock();
                if let Some(cause) = state.end_cause() {
                    return Err(cause);
                }
                let has_room = self.zmtp.pending_output() < Connection::WRITE_AHEAD;
                let message = if has_room { state.connection.poll_message(now) } else { None };
                let Some(message) = message else { return Ok(state.connection.has_events()) };
                message
            };
            // The connection sends nothing before the link is established, so only the encryption can fail, when its
            // nonces are used up. The message is lost then, and the link is closed.
            self.zmtp.send(message)?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<(), DisconnectCause>> {
        if self.zmtp.pending_output() == 0 {
            return Poll::Pending;
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let used = self.zmtp.output(&mut slices);
        let stream = Pin::new(&mut self.stream);
        let written = match &slices[..used] {
            // The common case for small messages. The kernel takes less time for `send` than for `writev`.
            [slice] => stream.poll_write(cx, slice),
            slices => stream.poll_write_vectored(cx, slices),
        };
        match written {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
            Poll::Ready(Ok(n)) => {
                self.zmtp.advance_output(n);
                self.written += n;
                self.batch.add(n);
                self.unflushed = true;
                add(&self.pump.peer.counters.bytes_sent, n as u64);
                self.pump.peer.lock().connection.handle_write_progress();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => {
                self.pump.peer.lock().connection.handle_write_blocked(now);
                Poll::Pending
            }
        }
    }

    /// Has the stream pass on what it holds, once for all that was written since the last time: a batch ends when ZMTP has nothing
    /// more to write, or when the link yields to other tasks. A flush that is pending is driven on at each wake-up; meanwhile there
    /// may be more to write.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // While there is more to write, the stream passes on what it must to make room for it.
        if !self.unflushed || self.zmtp.pending_output() > 0 {
            return Ok(());
        }
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_flush(cx) {
            self.unflushed = false;
            result?;
        }
        Ok(())
    }

    /// Admits or refuses the client once the authenticator has decided.
    fn poll_admission(&mut self, cx: &mut Context<'_>) -> Result<bool, DisconnectCause> {
        let Some(admitting) = &mut self.admitting else { return Ok(false) };
        let Poll::Ready(verdict) = admitting.poll(&self.pump.peer, cx) else { return Ok(false) };
        let public_key = admitting.public_key;
        self.admitting = None;
        let now = self.pump.peer.core.now();
        match verdict {
            Verdict::Admitted => self.zmtp.admit(now),
            Verdict::Refused => self.zmtp.refuse(now),
            Verdict::Panicked => {
                self.zmtp.refuse(now);
                return Err(AuthenticationError::CheckPanicked { public_key }.into());
            }
        }
        // Reports the end of the link: the client was refused, or its input meanwhile was faulty.
        self.zmtp.handle_timeout(now)?;
        Ok(true)
    }

    /// One round of everything, or of what the one before has left.
    fn turn(&mut self, cx: &mut Context<'_>, before: Left) -> Result<Left, DisconnectCause> {
        self.batch.begin_round();
        let (read, now) = match self.poll_read(cx) {
            Poll::Ready(Ok(now)) => (true, now),
            Poll::Ready(Err(cause)) => {
                // Messages received before the end still count.
                self.deliver(self.pump.peer.core.now());
                return Err(cause);
            }
            Poll::Pending if before == Left::Input => return Ok(Left::Nothing),
            Poll::Pending => (false, self.pump.peer.core.now()),
        };
        let mut set_to_work = self.deliver(now);
        match self.poll_admission(cx) {
            Ok(false) => {}
            admitted => {
                set_to_work += self.deliver(now);
                admitted?;
            }
        }
        // A handshake that is complete by now is kept.
        if self.handshake.as_ref().is_some_and(HandshakeSlot::is_evicted) {
            return Err(DisconnectCause::TooManyHandshakes);
        }
        if set_to_work.all() > 1 && !self.corked && !self.batch.is_bulk(set_to_work) {
            self.corked = true;
            return Ok(Left::All);
        }
        self.corked = false;
        let has_events = self.transmit(now)?;
        let was_full = self.zmtp.pending_output() >= Connection::WRITE_AHEAD;
        let wrote = match self.poll_write(cx, now) {
            Poll::Ready(result) => result.map(|()| true)?,
            Poll::Pending => false,
        };
        self.yields = set_to_work.all() > 0 && !self.batch.goes_on(set_to_work);
        let goes_on = wrote && (was_full || self.zmtp.pending_output() > 0);
        Ok(match read || wrote {
            _ if has_events || goes_on => Left::All,
            true => Left::Input,
            false => Left::Nothing,
        })
    }

    fn check_timeouts(&mut self, cx: &mut Context<'_>) -> Result<bool, DisconnectCause> {
        self.busy = 0;
        let connection = self.pump.peer.lock().connection.poll_timeout();
        let next = connection.into_iter().chain(self.zmtp.poll_timeout()).min();
        if self.alarm.poll(cx, next, || self.pump.peer.core.now()).is_pending() {
            return Ok(false);
        }
        let now = self.pump.peer.core.now();
        self.check_admission_time(now)?;
        self.zmtp.handle_timeout(now)?;
        // Its transport is a link of its own.
        let _ = self.pump.peer.lock().connection.handle_timeout(now);
        self.pump.shrink();
        Ok(true)
    }

    /// The handshake's timeout bounds the authenticator's check too. Past it, the client is refused with an ERROR command.
    fn check_admission_time(&mut self, now: Instant) -> Result<(), DisconnectCause> {
        let late = self.zmtp.poll_timeout().is_some_and(|deadline| deadline <= now);
        let Some(admitting) = self.admitting.take_if(|_| late) else { return Ok(()) };
        self.zmtp.refuse(now);
        Err(AuthenticationError::CheckTimedOut { public_key: admitting.public_key }.into())
    }

    /// The link is over. The last words of ZMTP may tell the peer why; there is no waiting for them. Once a link is
    /// established it has none, and a client that is no longer admitted gets no queued messages.
    fn end(&mut self, cx: &mut Context<'_>, cause: DisconnectCause) -> Poll<DisconnectCause> {
        let is_established = self.handshake.is_none() && self.overture.is_none();
        if !is_established || !cause.is_authentication_failure() {
            while let Poll::Ready(Ok(())) = self.poll_write(cx, self.pump.peer.core.now()) {}
            // Why the link has ended is known already.
            let _ = self.flush(cx);
        }
        Poll::Ready(match &self.overture {
            Some(overture) => overture.explain(cause),
            None => cause,
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<DisconnectCause> {
        loop {
            let until = match self.closing.get_or_insert(Closing::Flush) {
                // Takes as long as it takes the peer to read, and at most the shutdown's grace period.
                Closing::Flush => match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        self.closing = Some(Closing::Close(self.linger()));
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(DisconnectCause::Shutdown),
                    Poll::Pending => {
                        // The other side may be flushing too, and needs to be read for that.
                        let _ = self.poll_discard(cx);
                        return Poll::Pending;
                    }
                },
                Closing::Close(until) => {
                    let until = *until;
                    match Pin::new(&mut self.stream).poll_close(cx) {
                        Poll::Ready(Ok(())) => {
                            self.closing = Some(Closing::Linger(self.linger()));
                            continue;
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(DisconnectCause::Shutdown),
                        Poll::Pending => until,
                    }
                }
                Closing::Linger(until) => *until,
            };
            if self.pump.peer.core.now() >= until {
                return Poll::Ready(DisconnectCause::Shutdown);
            }
            if self.poll_discard(cx).is_ready() && matches!(self.closing, Some(Closing::Linger(_))) {
                return Poll::Ready(DisconnectCause::Shutdown);
            }
            ready!(self.alarm.poll(cx, Some(until), || self.pump.peer.core.now()));
        }
    }

    /// How long closing may take from now on.
    fn linger(&self) -> Instant {
        self.pump.peer.core.now() + LINGER
    }

    /// Reads on while the link closes, and is ready at the end of the stream. Closing a socket with unread input would reset it, and
    /// the peer would lose our last bytes; and some streams must be read to close.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; MIN_READ];
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scratch)) {
            Ok(1..) => {
                // Yield, or a peer that sends fast would starve other tasks.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Future for StreamLink {
    type Output = DisconnectCause;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<DisconnectCause> {
        let this = self.get_mut();
        this.pump.peer.inbox.driver.register(cx.waker());
        if this.closing.is_some() {
            return this.poll_close(cx);
        }
        // A link that is always busy never gets past `MAX_TURNS`, so it checks its timeouts here. Other links check them at the end of a
        // poll, often of the one after a poll that woke callers.
        if this.busy > 1
            && let Err(cause) = this.check_timeouts(cx)
        {
            return this.end(cx, cause);
        }
        this.batch = Batch::default();
        let mut left = Left::All;
        for _ in 0..MAX_TURNS {
            left = match this.turn(cx, left) {
                Ok(left) => left,
                Err(cause) => return this.end(cx, cause),
            };
            let yields = this.corked || (left != Left::Nothing && std::mem::take(&mut this.yields));
            if yields || this.written >= LOOK_AFTER {
                break;
            }
            if left != Left::Nothing {
                continue;
            }
            match this.check_timeouts(cx) {
                Ok(true) => left = Left::All,
                Ok(false)
                    if this.zmtp.pending_output() == 0
                        && this.pump.poll_drained(cx, Duration::ZERO).is_ready() =>
                {
                    return this.poll_close(cx);
                }
                Ok(false) => {
                    return match this.flush(cx) {
                        Ok(()) => Poll::Pending,
                        Err(error) => this.end(cx, error.into()),
                    };
                }
                Err(cause) => return this.end(cx, cause),
            }
        }
        if let Err(error) = this.flush(cx) {
            return this.end(cx, error.into());
        }
        // There is more to do, after other tasks have run.
        this.busy += 1;
        if this.written >= LOOK_AFTER {
            this.written = 0;
            this.pump.peer.core.runtime.yield_now(cx);
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
