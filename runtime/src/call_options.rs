//! The options of a call, which [`Invocation`](crate::Invocation) and [`Opening`](crate::stream::Opening) have in common.

/// The setters of a type whose field `new` is an [`OutgoingCall`](crate::layer::OutgoingCall).
macro_rules! call_options {
    () => {
        /// Sets the ordering key: the other side orders calls with the same key by its ordering mode.
        pub fn key(self, key: impl AsRef<str>) -> Self {
            self.ordering_key(callosum_proto::OrderingKey::text(key))
        }

        /// Like [`key`](Self::key), with any kind of key.
        pub fn ordering_key(mut self, key: callosum_proto::OrderingKey) -> Self {
            self.new.call.key = key;
            self
        }

        /// Ends the call with [`CallError::TimedOut`](crate::CallError::TimedOut) this long after it is made, streams
        /// included, and cancels it on the other side.
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.new.timeout = Some(timeout);
            self
        }

        /// Sets no timeout, also if the endpoint has a default.
        pub fn no_timeout(mut self) -> Self {
            self.new.timeout = None;
            self
        }

        /// Compresses the argument with Snappy; a stream piece by piece, if that makes the piece shorter. A Python peer
        /// without python-snappy can't read such a call.
        pub fn compress(mut self, compress: bool) -> Self {
            self.new.call.compressed = compress;
            self
        }

        /// Sends metadata with the call. If the peer speaks dialect 1, as Python peers do, the call fails with
        /// [`InvokeError::NeedsDialect2`](crate::InvokeError::NeedsDialect2).
        pub fn metadata(mut self, metadata: callosum_proto::Metadata) -> Self {
            self.new.call.metadata = metadata;
            self
        }

        /// The priority of sending the call here, and its result on the other side. Calls with the same key keep their
        /// order.
        pub fn urgency(mut self, urgency: callosum_proto::Urgency) -> Self {
            self.new.call.urgency = urgency;
            self
        }
    };
}
pub(crate) use call_options;
