//! The configuration of an endpoint: ordering, and limits on memory.

use crate::ordering::OrderingConfig;
use crate::setters::setters;

/// Ordering and limits of an [`Endpoint`](super::Endpoint).
///
/// ```
/// use callosum_proto::{EndpointConfig, ordering::OrderingConfig};
///
/// let ordering = OrderingConfig::default().max_running(1);
/// let config = EndpointConfig::default().max_held_reply_bytes(1 << 20).ordering(ordering);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// Mode and limits of the built-in scheduler.
    pub ordering: OrderingConfig,
    /// Bytes of finished replies of one connection that wait for their order. An ERROR `ReplyTooLarge`
    /// replaces a reply that would exceed it, unless no other is held. Default: 64 MiB.
    pub max_held_reply_bytes: usize,
    /// Bytes of the bodies of one connection that are reassembled at a time. Bodies that would exceed it
    /// wait; a single body may. A complete argument no longer counts here, but as waiting until its request
    /// starts: see [`max_waiting_bytes_per_connection`](OrderingConfig::max_waiting_bytes_per_connection).
    /// Default: 64 MiB.
    pub max_reassembly: usize,
    /// The same for the bodies of all connections together. Default: 1 GiB.
    pub max_reassembly_total: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            ordering: OrderingConfig::default(),
            max_held_reply_bytes: 64 << 20,
            max_reassembly: 64 << 20,
            max_reassembly_total: 1 << 30,
        }
    }
}

impl EndpointConfig {
    setters! {
        ordering: OrderingConfig,
        max_held_reply_bytes: usize,
        max_reassembly: usize,
        max_reassembly_total: usize,
    }
}
