//! Errors of streams: faults of the peer, and why a stream can't be read or written.

/// A fault of the peer in a stream. The call ends; the connection stays open (PROTOCOL.md, F-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StreamFault {
    /// There is a gap before a piece.
    #[error("there is a gap before a piece")]
    Gap,
    /// A piece repeats bytes that were received before.
    #[error("a piece repeats bytes that were received before")]
    Overlap,
    /// A piece after the end of the stream.
    #[error("a piece follows the end of the stream")]
    PastEnd,
    /// A piece that exceeds the credit of the stream.
    #[error("a piece exceeds the credit of the stream")]
    Credit,
    /// More or fewer bytes than the declared size.
    #[error("the stream has more or fewer bytes than declared")]
    Size,
    /// A piece of more than 64 KiB before compression.
    #[error("a piece has more than 64 KiB")]
    Oversize,
    /// A piece with the flag SNAPPY that is not a Snappy block.
    #[error("a compressed piece is not a Snappy block")]
    Snappy,
    /// A second result for one call.
    #[error("a second result for the call")]
    SecondResult,
    /// DATA of a result before its RESULT.
    #[error("data of a result that has not begun")]
    NotBegun,
}

/// Why a stream can't be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such stream, or its call has ended.
    #[error("the call has ended")]
    NotOpen,
    /// The writer has aborted the stream, or its call was cancelled.
    #[error("the peer aborted the stream")]
    Aborted,
    /// The rest of the stream is larger than [`max_body`](crate::ConnectionConfig::max_body), so it can't be
    /// reassembled.
    #[error("the stream has at least {size} bytes; the limit is {limit}")]
    TooLarge {
        /// The size in bytes, as far as it is known.
        size: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// The stream was not complete before the timeout of its reassembly.
    #[error("the stream was not complete in time")]
    TimedOut,
    /// The peer violated the protocol.
    #[error("the peer violated the protocol: {0}")]
    Fault(StreamFault),
}

// Not `#[from]`: it would also return the fault as the source, and reports would print it twice.
impl From<StreamFault> for ReadError {
    fn from(fault: StreamFault) -> Self {
        Self::Fault(fault)
    }
}

/// Why a stream can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// There is no such stream, or its call has ended.
    #[error("the call has ended")]
    NotOpen,
    /// The stream was finished before.
    #[error("the stream was finished before")]
    Finished,
    /// The reader has stopped reading.
    #[error("the peer has stopped reading the stream")]
    Stopped,
    /// The buffer is full: [`stream_buffer`](crate::ConnectionConfig::stream_buffer) bytes or more wait to be
    /// sent. [`Event::Writable`](crate::Event::Writable) reports when there is room.
    #[error("too many bytes of the stream wait to be sent")]
    Full,
}
