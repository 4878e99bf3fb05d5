//! The argument of a handler with its context, and its result with metadata.

use std::time::Instant;

use callosum_runtime::{Context, Metadata};

/// A message, or a [`Streaming`](crate::Streaming) of messages, with what came along.
#[derive(Clone, Debug)]
pub struct Request<T> {
    message: T,
    context: Context,
}

impl<T> Request<T> {
    /// A request, for tests of an implementation by itself.
    pub fn new(message: T, context: Context) -> Self {
        Self { message, context }
    }

    /// The message.
    pub fn get_ref(&self) -> &T {
        &self.message
    }

    /// The message.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// The message alone.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The message and the context.
    pub fn into_parts(self) -> (T, Context) {
        (self.message, self.context)
    }

    /// The metadata of the call; empty from peers of dialect 1, such as Python's.
    pub fn metadata(&self) -> &Metadata {
        self.context.metadata()
    }

    /// When the handler is cancelled; see [`Context::deadline`]. The caller's timeout is in it, if the caller speaks dialect 2.
    pub fn deadline(&self) -> Option<Instant> {
        self.context.deadline()
    }

    /// All that is known of the call: its key, its cancellation, and the caller, which can be called back.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

/// A message, or a stream of messages, with what is sent along.
#[derive(Clone, Debug, Default)]
pub struct Response<T> {
    message: T,
    metadata: Metadata,
}

impl<T> Response<T> {
    /// A response without metadata. So does [`From`].
    pub fn new(message: T) -> Self {
        Self { message, metadata: Metadata::new() }
    }

    /// The message.
    pub fn get_ref(&self) -> &T {
        &self.message
    }

    /// The message.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// The message alone.
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The message and the metadata.
    pub fn into_parts(self) -> (T, Metadata) {
        (self.message, self.metadata)
    }

    /// The metadata of the result, which are sent with the beginning of a stream. Callers of dialect 1, such as Python's, get none.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata, mutable.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// Converts the message with `map`, and keeps the metadata.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Response<U> {
        Response { message: map(self.message), metadata: self.metadata }
    }
}

impl<T> From<T> for Response<T> {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}
