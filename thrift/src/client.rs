//! The side that calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use bytes::Bytes;
use callosum_runtime::Peer;

use crate::exception::Exceptions;
use crate::invocation::ThriftInvocation;
use crate::limits::Limits;
use crate::message::{Message, MessageKind};
use crate::protocol::Protocol;
use crate::reply::MadeCall;
use crate::value::Output;
use crate::writer::Writer;

/// Calls the methods of a service that a peer has under an alias. What generated clients are made of. Cheap to clone.
///
/// Calls may overlap: each reply is compared with its own call.
#[derive(Clone, Debug)]
pub struct Client {
    peer: Peer,
    alias: Arc<str>,
    /// The number of the next call.
    next: Arc<AtomicI32>,
    protocol: Protocol,
    limits: Limits,
}

impl Client {
    /// Calls the service that this peer has under this alias.
    pub fn new(peer: Peer, alias: impl Into<Arc<str>>) -> Self {
        let (alias, next) = (alias.into(), Arc::new(AtomicI32::new(1)));
        Self { peer, alias, next, protocol: Protocol::Binary, limits: Limits::DEFAULT }
    }

    /// Speaks this protocol, as the service is registered with. Default: [`Protocol::Binary`].
    pub fn protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// Limits the replies that are read.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The peer that is called.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A call of a method, whose arguments are fields that `arguments` writes.
    pub fn call<R: Output, E: Exceptions>(
        &self,
        method: &'static str,
        arguments: impl FnOnce(&mut Writer),
    ) -> ThriftInvocation<R, E> {
        self.prepare(MessageKind::Call, method, arguments)
    }

    /// The same for a oneway method, whose call ends when the other side has run it.
    pub fn call_oneway(
        &self,
        method: &'static str,
        arguments: impl FnOnce(&mut Writer),
    ) -> ThriftInvocation<(), std::convert::Infallible> {
        self.prepare(MessageKind::Oneway, method, arguments)
    }

    fn prepare<R: Output, E: Exceptions>(
        &self,
        kind: MessageKind,
        method: &'static str,
        arguments: impl FnOnce(&mut Writer),
    ) -> ThriftInvocation<R, E> {
        let (protocol, sequence) = (self.protocol, self.next.fetch_add(1, Relaxed));
        let call = MadeCall { kind, method, sequence, protocol, limits: self.limits };
        let mut writer = Message { kind, method, sequence }.write(protocol);
        arguments(&mut writer);
        writer.stop();
        let (message, written) = match writer.finish() {
            Ok(message) => (message, Ok(call)),
            Err(error) => (Bytes::new(), Err(error)),
        };
        ThriftInvocation::new(self.peer.invoke_raw(&self.alias, message), written)
    }
}
