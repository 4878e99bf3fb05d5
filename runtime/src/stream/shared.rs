//! What a connection tells the reader and the writer of a call's streams.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::Bytes;
use callosum_proto::{Chunk, Metadata, Read, ReadError};

use crate::error::CallError;
use crate::lock::Mutex;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    reader: Option<Waker>,
    writer: Option<Waker>,
    head: Option<Head>,
    reassembled: Option<Result<Bytes, ReadError>>,
    /// What had come as a whole, and was not read, when the link ended.
    rest: Option<VecDeque<Chunk>>,
    /// How it ended, if it did.
    end: Option<Result<(), CallError>>,
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

/// Who is to be woken once no lock is held.
#[must_use = "whoever waits is to be woken"]
#[derive(Default)]
pub(crate) struct Wakers([Option<Waker>; 2]);

impl Wakers {
    pub(crate) fn wake(self) {
        self.into_iter().for_each(Waker::wake);
    }
}

impl IntoIterator for Wakers {
    type Item = Waker;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Waker>, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

impl Shared {
    pub(crate) fn readable(&self) -> Wakers {
        Wakers([self.0.lock().reader.take(), None])
    }

    pub(crate) fn writable(&self) -> Wakers {
        Wakers([None, self.0.lock().writer.take()])
    }

    pub(crate) fn begin(&self, head: Head) -> Wakers {
        let mut state = self.0.lock();
        state.head = Some(head);
        Wakers([state.reader.take(), None])
    }

    pub(crate) fn reassembled(&self, body: Result<Bytes, ReadError>) -> Wakers {
        let mut state = self.0.lock();
        state.reassembled = Some(body);
        Wakers([state.reader.take(), None])
    }

    /// It has ended. A result that had come as a whole stays readable.
    pub(crate) fn end(&self, result: Result<(), CallError>) -> Wakers {
        let mut state = self.0.lock();
        state.end.get_or_insert(result);
        Wakers([state.reader.take(), state.writer.take()])
    }

    pub(crate) fn set_writing(&self, writing: bool) {
        self.0.lock().writing = writing;
    }

    /// Whether somebody is still writing a handler's result.
    pub(crate) fn is_writing(&self) -> bool {
        self.0.lock().writing
    }

    /// The link has ended, and this is left to be read.
    pub(crate) fn leave(&self, rest: VecDeque<Chunk>) {
        self.0.lock().rest = Some(rest);
    }

    pub(super) fn next_of_rest(&self) -> Option<Read> {
        let mut state = self.0.lock();
        Some(state.rest.as_mut()?.pop_front().map_or(Read::End, Read::Chunk))
    }

    pub(super) fn all_of_rest(&self) -> Option<Bytes> {
        let rest = self.0.lock().rest.take()?;
        Some(rest.into_iter().flat_map(|chunk| chunk.bytes).collect())
    }

    pub(super) fn failure(&self) -> Option<CallError> {
        match &self.0.lock().end {
            Some(Err(error)) => Some(error.again()),
            _ => None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.lock().end.is_some()
    }

    pub(super) fn watch_reader(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let old = self.0.lock().reader.replace(waker);
        // Its drop may run anything.
        drop(old);
    }

    pub(super) fn watch_writer(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let old = self.0.lock().writer.replace(waker);
        drop(old);
    }

    pub(super) fn take_head(&self) -> Option<Head> {
        self.0.lock().head.take()
    }

    pub(super) fn take_reassembled(&self) -> Option<Result<Bytes, ReadError>> {
        self.0.lock().reassembled.take()
    }

    pub(super) fn has_rest(&self) -> bool {
        self.0.lock().rest.is_some()
    }
}
