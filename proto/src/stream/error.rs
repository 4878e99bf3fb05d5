//! Errors of a stream: the peer's faults, and why the stream can't be read or written.

/// What a peer got wrong with a stream. The call ends; the connection lives on (PROTOCOL.md, F-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StreamFault {
    /// Bytes are missing before a piece.
    #[error("bytes are missing before a piece")]
    Gap,
    /// A piece has bytes that came before.
    #[error("a piece has bytes that came before")]
    Overlap,
    /// A piece came after the end.
    #[error("a piece came after the end")]
    PastEnd,
    /// A piece for which there was no credit.
    #[error("a piece for which there was no credit")]
    Credit,
    /// More or fewer bytes than the peer had declared.
    #[error("more or fewer bytes than declared")]
    Size,
    /// A piece with more bytes than one may have.
    #[error("a piece with more bytes than one may have")]
    Oversize,
    /// What should be a Snappy block is none.
    #[error("a piece that is not the Snappy block that it says")]
    Snappy,
    /// A second result for one call.
    #[error("a second result")]
    SecondResult,
    /// More of a result before its beginning.
    #[error("a result that has not begun goes on")]
    NotBegun,
}

/// Why a stream can't be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such stream, or its call has ended.
    #[error("the call has ended")]
    NotOpen,
    /// The writer can't complete it.
    #[error("the other side could not complete it")]
    Aborted,
    /// It has more bytes than a body that is reassembled may have.
    #[error("{size} bytes or more are over the limit of {limit}")]
    TooLarge {
        /// Bytes that it has at the least.
        size: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// It took too long to be complete.
    #[error("it was not complete in time")]
    TimedOut,
    /// The peer broke the protocol.
    #[error("the other side broke the protocol: {0}")]
    Fault(StreamFault),
}

// Not by `#[from]`, which would make a source of what the text says already.
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
    /// It was finished before.
    #[error("it was finished before")]
    Finished,
    /// The reader wants no more of it.
    #[error("the other side reads no more of it")]
    Stopped,
    /// So much waits already that no more is taken until some has left.
    #[error("no more is taken until some has left")]
    Full,
}
