//! State that a connection shares with the reader and the writer of a call's streams.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};

use bytes::Bytes;
use callosum_proto::{Chunk, Metadata, ReadError, StreamId};

use crate::error::{CallError, DisconnectCause, NotSent};
use crate::lock::Mutex;
use crate::stats::add;
use crate::waiters;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Once the call is made: through [layers](crate::layer), its streams are there before.
    id: OnceLock<StreamId>,
    /// Whether layers wait for the outcome.
    is_layered: bool,
    /// Bytes that were written to the one stream and read from the other. Counted under the peer's lock, so not after the outcome.
    written: AtomicU64,
    read: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The waker of the layers, which wait for the outcome of the call.
    layers: Option<Waker>,
    /// The task in which the layers are polled.
    task: Option<Waker>,
    head: Option<Head>,
    reassembled: Option<Result<Bytes, ReadError>>,
    /// A complete body that was received, and not read, when the link ended.
    rest: Option<VecDeque<Chunk>>,
    /// How it ended, if it did.
    end: Option<Result<(), CallError>>,
    /// Bytes of a result that had arrived completely when the call ended, whether read or not.
    complete: u64,
    /// The result has begun; with its metadata, for layers.
    begun: Option<Metadata>,
    /// Reader and writer were dropped, and layers wait for its end.
    is_left_to_layers: bool,
    /// The argument was finished before the call was made.
    is_finished_early: bool,
    /// A handler's result has begun, and its writer is there and has not finished.
    writing: bool,
}

/// How a result begins.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) metadata: Metadata,
    pub(crate) size: Option<u64>,
    /// All of the result, if it came as a whole.
    pub(crate) whole: Option<Bytes>,
}

/// Tasks to wake once no lock is held.
#[must_use = "these tasks are to be woken"]
#[derive(Default)]
pub(crate) struct Wakers([Option<Waker>; 4]);

impl Wakers {
    pub(crate) fn wake(self) {
        self.into_iter().for_each(waiters::wake);
    }
}

impl IntoIterator for Wakers {
    type Item = Waker;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Waker>, 4>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

impl State {
    /// The tasks that wait for the end.
    fn wake_all(&mut self) -> Wakers {
        Wakers([self.reader.take(), self.writer.take(), self.layers.take(), self.task.take()])
    }
}

impl Shared {
    pub(crate) fn of(id: StreamId) -> Self {
        Self { id: OnceLock::from(id), ..Self::default() }
    }

    /// Of a call that goes through layers.
    pub(crate) fn layered() -> Self {
        Self { is_layered: true, ..Self::default() }
    }

    /// Which call it is; `None` as long as that is not made.
    pub(crate) fn id(&self) -> Option<StreamId> {
        self.id.get().copied()
    }

    /// The call is made. There is only one.
    pub(crate) fn set_id(&self, id: StreamId) {
        let is_first = self.id.set(id).is_ok();
        debug_assert!(is_first, "the call is made once");
    }

    /// Its reader and its writer waited for the call to be made. Also tells whether the argument is finished already.
    pub(super) fn opened(&self) -> (Wakers, bool) {
        let mut state = self.state.lock();
        (Wakers([state.reader.take(), state.writer.take(), None, None]), state.is_finished_early)
    }

    /// The argument is finished. Returns whether the call is not made yet, so that its end is still to be sent.
    pub(super) fn finish_early(&self) -> bool {
        let mut state = self.state.lock();
        state.is_finished_early = self.id.get().is_none();
        state.is_finished_early
    }

    /// The outcome for the layers, once the call has ended.
    pub(super) fn outcome(&self) -> Option<Result<Metadata, CallError>> {
        let state = self.state.lock();
        Some(match state.end.as_ref()? {
            Ok(()) => Ok(state.begun.clone().unwrap_or_default()),
            Err(error) => Err(error.again()),
        })
    }

    pub(super) fn watch_outcome(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let old = self.state.lock().layers.replace(waker);
        drop(old);
    }

    /// The same for the task of the layers, in which [`Outcome`](super::layered::Outcome) need not be.
    pub(super) fn watch_end(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let old = self.state.lock().task.replace(waker);
        drop(old);
    }

    pub(crate) fn is_layered(&self) -> bool {
        self.is_layered
    }

    /// Its reader and writer were dropped. Returns whether layers wait for its end.
    pub(crate) fn leave_to_layers(&self) -> bool {
        let mut state = self.state.lock();
        state.is_left_to_layers = self.is_layered && state.end.is_none();
        state.is_left_to_layers
    }

    pub(crate) fn is_left_to_layers(&self) -> bool {
        self.state.lock().is_left_to_layers
    }

    pub(crate) fn readable(&self) -> Wakers {
        Wakers([self.state.lock().reader.take(), None, None, None])
    }

    pub(crate) fn writable(&self) -> Wakers {
        Wakers([None, self.state.lock().writer.take(), None, None])
    }

    /// The result begins, unless a layer has answered before.
    pub(crate) fn begin(&self, head: Head) -> Wakers {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Wakers::default();
        }
        if self.is_layered {
            state.begun = Some(head.metadata.clone());
        }
        if let Some(whole) = &head.whole {
            self.count_read(whole);
        }
        state.head = Some(head);
        Wakers([state.reader.take(), None, None, None])
    }

    /// A layer has answered in place of the other side.
    pub(super) fn answer(&self, head: Head) -> Wakers {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Wakers::default();
        }
        if state.begun.is_some() {
            // The layer has dropped a result that is still being read.
            state.end = Some(Err(CallError::Cancelled));
        } else {
            state.begun = Some(head.metadata.clone());
            state.head = Some(head);
            state.end = Some(Ok(()));
        }
        state.wake_all()
    }

    pub(crate) fn reassembled(&self, body: Result<Bytes, ReadError>) -> Wakers {
        if let Ok(body) = &body {
            self.count_read(body);
        }
        let mut state = self.state.lock();
        state.reassembled = Some(body);
        Wakers([state.reader.take(), None, None, None])
    }

    /// Sets the end of the call. A result that was received completely stays readable.
    pub(crate) fn end(&self, result: Result<(), CallError>) -> Wakers {
        let mut state = self.state.lock();
        let wakers = state.wake_all();
        if state.end.is_none() {
            state.end = Some(result);
            return wakers;
        }
        drop(state);
        // There may be an error of the application's in it.
        drop(result);
        wakers
    }

    /// The call has ended, and so many bytes of its complete result are left to be read.
    pub(crate) fn complete(&self, unread: u64) {
        self.state.lock().complete = self.read.load(Relaxed) + unread;
    }

    pub(super) fn count_written(&self, bytes: usize) {
        add(&self.written, bytes as u64);
    }

    pub(super) fn count_read(&self, bytes: &[u8]) {
        add(&self.read, bytes.len() as u64);
    }

    /// Bytes that were written so far.
    #[cfg(feature = "metrics")]
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Bytes that were read so far, or all of a result that is complete.
    #[cfg(feature = "metrics")]
    pub(crate) fn received(&self) -> u64 {
        self.read.load(Relaxed).max(self.state.lock().complete)
    }

    /// Ends the call if its layers have not made it, because the endpoint is over.
    pub(crate) fn end_unmade(&self) {
        if self.id().is_none() {
            self.end(Err(NotSent::Disconnected(DisconnectCause::Shutdown).into())).wake();
        }
    }

    pub(crate) fn set_writing(&self, writing: bool) {
        self.state.lock().writing = writing;
    }

    /// Whether a writer of the handler's result still exists.
    pub(crate) fn is_writing(&self) -> bool {
        self.state.lock().writing
    }

    /// The link has ended, and this is left to be read.
    pub(crate) fn leave(&self, rest: VecDeque<Chunk>) {
        self.state.lock().rest = Some(rest);
    }

    /// Of what is left, if the link has ended: the next part, or the end.
    pub(super) fn next_of_rest(&self) -> Option<Option<Chunk>> {
        let next = self.state.lock().rest.as_mut()?.pop_front();
        if let Some(chunk) = &next {
            self.count_read(&chunk.bytes);
        }
        Some(next)
    }

    pub(super) fn all_of_rest(&self) -> Option<Bytes> {
        let rest = self.state.lock().rest.take()?;
        let rest: Bytes = rest.into_iter().flat_map(|chunk| chunk.bytes).collect();
        self.count_read(&rest);
        Some(rest)
    }

    pub(crate) fn failure(&self) -> Option<CallError> {
        match &self.state.lock().end {
            Some(Err(error)) => Some(error.again()),
            _ => None,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    pub(super) fn watch_reader(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let old = self.state.lock().reader.replace(waker);
        // Its drop may run anything.
        drop(old);
    }

    pub(super) fn watch_writer(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let old = self.state.lock().writer.replace(waker);
        drop(old);
    }

    pub(super) fn take_head(&self) -> Option<Head> {
        self.state.lock().head.take()
    }

    pub(super) fn take_reassembled(&self) -> Option<Result<Bytes, ReadError>> {
        self.state.lock().reassembled.take()
    }

    pub(super) fn has_rest(&self) -> bool {
        self.state.lock().rest.is_some()
    }
}
