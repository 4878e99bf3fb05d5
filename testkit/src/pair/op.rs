//! What a schedule of [`Pair`](super::Pair) is made of.

use arbitrary::Arbitrary;

/// One step. Numbers choose among what is open; times are in milliseconds.
#[derive(Clone, Debug, Arbitrary)]
pub enum Op {
    /// One side calls the other.
    Invoke {
        /// The binder does it, not the connector.
        binder: bool,
        /// One of a few keys.
        key: u8,
        /// A quarter of the body's bytes.
        size: u8,
        /// Compressed with Snappy.
        compressed: bool,
        /// Time until the deadline.
        deadline: Option<u8>,
    },
    /// A side abandons a call.
    Abandon {
        /// The binder does it, not the connector.
        binder: bool,
        /// Which call.
        which: u8,
    },
    /// A side answers a request.
    Reply {
        /// The binder does it, not the connector.
        binder: bool,
        /// Which request.
        which: u8,
        /// The kind of reply.
        kind: u8,
        /// A quarter of the reply's bytes.
        size: u8,
    },
    /// A handler begins to wait for a nested call, or waits for one less.
    Suspend {
        /// The binder's, not the connector's.
        binder: bool,
        /// Which request.
        which: u8,
        /// If it is odd, the handler waits for one less.
        resumed: u8,
    },
    /// A side sends a PING.
    Ping {
        /// The binder does it, not the connector.
        binder: bool,
    },
    /// A side puts messages on the link.
    Transmit {
        /// The binder does it, not the connector.
        binder: bool,
        /// At most this many.
        count: u8,
    },
    /// Messages arrive.
    Deliver {
        /// At the binder.
        binder: bool,
        /// At most this many.
        count: u8,
    },
    /// The link of one side stops accepting output, or accepts some.
    Write {
        /// The binder's, not the connector's.
        binder: bool,
        /// It accepts nothing.
        blocked: bool,
    },
    /// Time passes.
    Pass(u8),
    /// A side refuses new calls.
    Drain {
        /// The binder does it, not the connector.
        binder: bool,
    },
    /// The link is closed.
    Close,
    /// A new link is opened.
    Connect,
}
