//! Arguments and results that are read and written as streams.
//!
//! A caller opens a call with [`Peer::open`](crate::Peer::open), a handler that streams is added with
//! [`Handlers::add_stream`](crate::Handlers::add_stream). Both sides then have a [`BodyReader`] and a [`BodyWriter`], as
//! byte streams ([`AsyncRead`](futures_io::AsyncRead), [`AsyncWrite`](futures_io::AsyncWrite)), or as streams of typed
//! items ([`Items`], [`ItemSink`]).
//!
//! Streams need dialect 2, which peers of this library speak. Credit limits them: a writer waits if its reader does not
//! keep up, and other streams and calls go on.

mod call_streams;
mod layered;
mod opening;
mod reader;
mod responder;
mod shared;
mod writer;

pub(crate) use call_streams::CallStreams;
pub(crate) use layered::{Layered, Outcome};
pub use opening::{Answer, Opening, Streamed};
pub use reader::{BodyReader, Items, RawItems};
pub use responder::{Responder, StreamHandler};
pub(crate) use shared::{Head, Shared, Wakers};
pub use writer::{BodyWriter, ItemSink};

pub use crate::error::BodyError;
