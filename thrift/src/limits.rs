//! Limits of messages.

/// Limits of received messages. A message over a limit is refused with a [`ReadError`](crate::ReadError), before memory is taken
/// for what is over it.
///
/// How large a body may be on its way is up to the endpoint: `callosum_runtime::Limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a message. Default: 64 MiB.
    pub size: usize,
    /// Structs and containers in each other, that of the arguments included. Default: 64.
    pub depth: usize,
    /// Bytes that a message may take once it is read: the sizes of all elements of its containers as values in memory, with the room
    /// that a container makes for its first ones, and the lengths of its texts, the defaults of missing fields included. A struct without
    /// fields takes one byte on the wire and hundreds in memory; this bounds what a list of them takes. As containers grow by doubling, a
    /// message takes at most about twice as much. Default: 64 MiB.
    pub memory: usize,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self { size: 64 << 20, depth: 64, memory: 64 << 20 };

    /// Sets [`size`](Self::size).
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Sets [`depth`](Self::depth).
    pub fn depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Sets [`memory`](Self::memory).
    pub fn memory(self, memory: usize) -> Self {
        Self { memory, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
