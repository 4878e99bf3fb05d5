//! How bodies are passed to the host: as a whole, or as a stream.

/// How an argument or a result is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// As one body. A large one is reassembled.
    #[default]
    Whole,
    /// As a stream. Needs dialect 2 to be written; where a peer answers in one message, its result comes as a whole all the same.
    Stream,
}
