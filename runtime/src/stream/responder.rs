//! Answering a call with a stream.

use std::sync::Arc;

use callosum_proto::{Metadata, Refusal, Reply, ReplyError, RequestId};
use futures_channel::oneshot;
use futures_util::future::BoxFuture;

use super::call_streams::CallStreams;
use super::{BodyReader, BodyWriter};
use crate::Codec;
use crate::handler::Context;
use crate::peer::PeerShared;

/// Answers calls whose argument is read, and whose result is written, as streams. Closures become handlers through
/// [`Method::stream`](crate::Method::stream).
///
/// The future is dropped when the call is cancelled, times out, or loses its connection, once its [grace
/// period](Context::set_cancel_grace) is over. When the future ends, the call ends: with the bytes that were written if
/// the output is [`Reply::End`], and otherwise as a failure.
pub trait StreamHandler: Send + Sync + 'static {
    /// Answers one call.
    fn call(&self, body: BodyReader, responder: Responder, context: Context) -> BoxFuture<'static, Reply>;
}

/// Begins the result of a call.
///
/// If a handler ends without an error before it has begun its result, the result is empty. If it fails after it has
/// begun its result, the result is incomplete, and the caller loses the bytes that it has not read by then.
pub struct Responder {
    streams: Arc<CallStreams>,
    request: RequestId,
    metadata: Metadata,
    size: Option<u64>,
    compressed: bool,
    codec: Codec,
}

impl Responder {
    pub(crate) fn new(streams: Arc<CallStreams>, request: RequestId, codec: Codec) -> Self {
        Self { streams, request, metadata: Metadata::new(), size: None, compressed: false, codec }
    }

    /// Sets the metadata of the result.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Announces the size of the result in bytes. The result must then have exactly that size.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// Compresses the result with Snappy, piece by piece, if that makes the piece shorter.
    pub fn compress(mut self, compress: bool) -> Self {
        self.compressed = compress;
        self
    }

    /// Begins the result. If the ordering mode orders replies, this waits until the replies of all earlier calls with
    /// the key have been sent; meanwhile the handler's slot is lent to others.
    ///
    /// Cancel safety: if the future is dropped while it waits, the result does not begin; if the handler then ends
    /// without an error, its result is empty.
    ///
    /// # Errors
    /// [`ReplyError::NotOpen`] if the call has ended, [`ReplyError::NeedsDialect2`] if it came in dialect 1, which has
    /// no streams; its caller gets an ERROR named `Unsupported`. [`ReplyError::AlreadyBegun`] does not occur.
    pub async fn begin(self) -> Result<BodyWriter, ReplyError> {
        let Self { streams, request, mut metadata, size, compressed, codec } = self;
        metadata.detach();
        let peer = streams.peer();
        if !may_reply(peer, request).await {
            return Err(ReplyError::NotOpen);
        }
        let begun = {
            let mut state = peer.lock();
            let begun = state.connection.begin_reply(request, compressed, metadata, size);
            if begun == Err(ReplyError::NeedsDialect2) {
                // Its order allows a reply, so the caller gets the error at once, and not only when the handler ends.
                let detail = "the result is streamed, and this connection speaks dialect 1";
                let _ = state.connection.reply(request, Refusal::Unsupported.reply(detail));
            }
            // Under the connection's lock, or a handler that ends meanwhile would count as one that has written everything.
            streams.set_writing(begun.is_ok());
            begun
        };
        // Also where it answered with an ERROR.
        peer.wake();
        begun?;
        Ok(BodyWriter::new(streams, codec))
    }
}

/// Waits until the reply of a running request may begin to leave as a stream. Its slot is lent meanwhile. Returns `false` if it may
/// not, because its handler or its connection has ended.
async fn may_reply(peer: &PeerShared, request: RequestId) -> bool {
    let (sender, may_begin) = oneshot::channel();
    let waits = peer.lock().wait_to_reply(request, sender);
    if waits.is_err() {
        return false;
    }
    // Another responder of the request may have waited. This ends its wait.
    drop(waits);
    let mut wait = ReplyWait { peer, request, is_over: false };
    // The sender is dropped with the request.
    let may = peer.core.dispatcher.begin_reply(request) && may_begin.await.is_ok();
    wait.is_over = true;
    may
}

/// A handler that waits until its reply may begin. Dropping this gives the wait up.
struct ReplyWait<'a> {
    peer: &'a PeerShared,
    request: RequestId,
    is_over: bool,
}

impl Drop for ReplyWait<'_> {
    fn drop(&mut self) {
        let sender = self.peer.lock().stop_waiting_to_reply(self.request);
        if sender.is_some() && !self.is_over {
            self.peer.core.dispatcher.cancel_begin_reply(self.request);
        }
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Responder").field(&self.request).finish()
    }
}
