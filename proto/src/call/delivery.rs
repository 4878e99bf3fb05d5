//! Whether the host handles an argument or a result as a whole, or as a stream.

/// How an argument is written, or a result is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// As one body. A large result is reassembled.
    #[default]
    Whole,
    /// As a stream. A streamed argument needs dialect 2. If the peer answers in one message, the result is
    /// one body nevertheless.
    Stream,
}
