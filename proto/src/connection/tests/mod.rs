mod abuse;
mod acknowledgement;
mod calls;
mod dialect2;
mod giving_up;
mod handshake;
mod limits;
mod liveness;
mod random;
mod requests;
mod streams;

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::call::Delivery;
use crate::config::{Keepalive, StreamArguments};
use crate::error::Refusal;
use crate::event::{Body, Request, StopReason, Violation};
use crate::ordering::{Arrival, Busy};
use crate::stream::{Chunk, ReadError, StreamFault, WriteError};
use crate::wire::dialect1::{CallName, Encoder, Message, Payload, decode_body, decode_header};
use crate::wire::{self, Credit, DecodeError, PONG, UPPER};
use crate::{ErrorInfo, OrderingKey, Replied, Text, Urgency};

const SECOND: Duration = Duration::from_secs(1);

/// A connection, its clock, and a stand-in for its endpoint.
struct Side {
    connection: Connection,
    now: Instant,
    endpoint: StandIn,
}

/// A stand-in for an endpoint: starts requests, assigns memory to bodies, replies to requests that never
/// start, and records all events.
struct StandIn {
    /// Whether every request starts as soon as it is ready.
    starts: bool,
    /// Whether every body gets memory as soon as it asks for it.
    grants: bool,
    told: Vec<EndpointEvent>,
    /// The replies of requests that were withdrawn after their start.
    withdrawn: BTreeMap<RequestId, Reply>,
}

impl Side {
    fn new(role: Role, config: ConnectionConfig) -> Self {
        Self::starting_at(role, config, CallId(0))
    }

    fn starting_at(role: Role, config: ConnectionConfig, first_call: CallId) -> Self {
        let now = Instant::now();
        let nonce = [if role == Role::Connector { 1 } else { 2 }; NONCE_LEN];
        let connection = Connection::new(ConnectionId(7), role, config, nonce, first_call, now);
        Self {
            connection,
            now,
            endpoint: StandIn { starts: true, grants: true, told: Vec::new(), withdrawn: BTreeMap::new() },
        }
    }

    fn connected(role: Role, config: ConnectionConfig) -> Self {
        let mut side = Self::new(role, config);
        side.connection.handle_connected(side.now);
        side
    }

    /// A binder after the handshake with a peer of dialect 1.
    fn established(config: ConnectionConfig) -> Self {
        let mut side = Self::connected(Role::Binder, config);
        side.hear(Multipart::new(PING, Bytes::new(), Bytes::new()));
        assert_eq!(side.event(), Some(Event::Established { max_body: None, dialect: Dialect::One }));
        assert_eq!(side.sent(), [Multipart::new(PONG, Bytes::new(), Bytes::new())]);
        side
    }

    fn hear(&mut self, message: Multipart) {
        self.connection.handle_message(self.now, message);
        self.relay();
    }

    /// Passes events between the connection and the stand-in.
    fn relay(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_event() {
            let StandIn { starts, grants, .. } = self.endpoint;
            let decided = match &event {
                EndpointEvent::Arrived(Arrival { request, ready: true, .. })
                | EndpointEvent::Ready { request, .. }
                    if starts =>
                {
                    Some(ConnectionEvent::Start(*request))
                }
                EndpointEvent::ReassemblyWanted { stream, .. } if grants => {
                    Some(ConnectionEvent::Reassemble(*stream))
                }
                EndpointEvent::Withdrawn { request, reply, .. } if starts => {
                    self.endpoint.withdrawn.insert(*request, reply.clone());
                    None
                }
                EndpointEvent::NeverRan(request) => {
                    let reply = self.endpoint.withdrawn.remove(request).unwrap_or(Reply::Cancelled);
                    Some(ConnectionEvent::Reply { request: *request, reply })
                }
                _ => None,
            };
            // This event occurs a second after the last message in every test.
            if !matches!(event, EndpointEvent::Quiet(_)) {
                self.endpoint.told.push(event);
            }
            if let Some(decided) = decided {
                self.decide(decided);
            }
        }
        self.audit();
    }

    /// Audits the tables, unless they are so large that this takes too long.
    fn audit(&self) {
        if self.connection.calls.audit_size() < 200 {
            self.connection.audit();
            if self.connection.is_idle() && self.connection.is_established() {
                self.connection.audit_idle();
            }
        }
    }

    fn decide(&mut self, event: ConnectionEvent) {
        self.connection.handle_event(self.now, event);
    }

    /// The events for the endpoint since the last call.
    fn told(&mut self) -> Vec<EndpointEvent> {
        self.relay();
        std::mem::take(&mut self.endpoint.told)
    }

    /// The arrival of the only new request.
    fn arrival(&mut self) -> Arrival {
        match &self.told()[..] {
            [EndpointEvent::Arrived(arrival)] => arrival.clone(),
            other => panic!("{other:?} instead of an arrival"),
        }
    }

    fn hear_message(&mut self, seq: u32, method: &str, payload: Payload) {
        self.hear(message(seq, method, payload));
    }

    fn event(&mut self) -> Option<Event> {
        self.relay();
        self.connection.poll_event()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.event()).collect()
    }

    fn sent(&mut self) -> Vec<Multipart> {
        self.relay();
        let sent = std::iter::from_fn(|| self.connection.poll_message(self.now)).collect();
        self.audit();
        sent
    }

    /// The UPPER messages among those sent.
    fn said(&mut self) -> Vec<(u32, Payload)> {
        self.sent().into_iter().filter_map(read).map(|message| (message.id.seq, message.payload)).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.connection.handle_timeout(self.now).unwrap();
        self.relay();
        if let Some(at) = self.connection.poll_timeout() {
            assert!(at > self.now, "a timer would spin");
        }
    }

    fn invoke(&mut self, method: &str) -> CallId {
        self.connection.invoke(self.now, call(method)).unwrap()
    }

    /// A call whose deadline is in this many seconds.
    fn invoke_for(&mut self, method: &str, seconds: u32) -> CallId {
        let deadline = Some(self.now + SECOND * seconds);
        self.connection.invoke(self.now, Call { deadline, ..call(method) }).unwrap()
    }

    /// Receives a request; returns its id.
    fn asked(&mut self, seq: u32) -> RequestId {
        self.hear_message(seq, "m", Payload::Function(Bytes::new()));
        match self.event() {
            Some(Event::Request(request)) => request.id,
            other => panic!("{other:?} instead of a request"),
        }
    }
}

/// The configuration of most tests here: dialect 1.
fn config() -> ConnectionConfig {
    ConnectionConfig { dialect: Dialect::One, ..streaming() }
}

/// Every request gets its argument as a stream.
fn streaming() -> ConnectionConfig {
    ConnectionConfig { stream_arguments: StreamArguments::All, ..ConnectionConfig::default() }
}

/// A call that takes its result as a stream.
fn new_call(method: impl Into<Text>, body: impl Into<Bytes>) -> Call {
    Call { result: Delivery::Stream, ..Call::new(method, body) }
}

fn call(method: &str) -> Call {
    new_call(method, "1")
}

fn message(seq: u32, method: &str, payload: Payload) -> Multipart {
    keyed(seq, method, OrderingKey::none(), payload)
}

fn keyed(seq: u32, method: &str, key: OrderingKey, payload: Payload) -> Multipart {
    let id = CallName { seq, method: method.into(), key };
    Encoder::default().encode(&Message { id, payload, compressed: false })
}

fn read(message: Multipart) -> Option<Message> {
    let [marker, header, body] = message.into_three()?;
    let header = (marker == UPPER).then(|| decode_header(&header).unwrap())?;
    let payload = decode_body(&header, body, usize::MAX).unwrap();
    Some(Message { id: header.id, payload, compressed: header.compressed })
}

fn result(text: &'static str) -> Payload {
    Payload::Result(Bytes::from_static(text.as_bytes()))
}

fn ok(text: &'static str) -> Reply {
    Reply::result(text)
}

/// The request with this number on the wire.
fn incoming(number: u64) -> RequestId {
    RequestId::new(ConnectionId(7), number / 2)
}

/// A limit of the endpoint.
fn busy() -> Busy {
    Busy::WaitingRequests { limit: 7 }
}

fn ended(call: CallId, outcome: Outcome) -> Event {
    Event::Ended { call, outcome, metadata: Metadata::new() }
}

/// Passes messages both ways until neither side has any.
fn exchange(a: &mut Side, b: &mut Side) {
    loop {
        let (from_a, from_b) = (a.sent(), b.sent());
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        from_a.into_iter().for_each(|message| b.hear(message));
        from_b.into_iter().for_each(|message| a.hear(message));
    }
}

/// A connector and a binder after their handshake.
fn pair(connector: ConnectionConfig, binder: ConnectionConfig) -> (Side, Side) {
    let mut a = Side::connected(Role::Connector, connector);
    let mut b = Side::connected(Role::Binder, binder);
    exchange(&mut a, &mut b);
    assert!(matches!(a.events()[..], [Event::Established { max_body: Some(_), dialect: Dialect::One }]));
    assert!(matches!(b.events()[..], [Event::Established { max_body: Some(_), dialect: Dialect::One }]));
    (a, b)
}

/// Asserts that the handshake is complete, with this hello of the peer, and that the dialect is 1.
fn assert_established(side: &mut Side, hello: &Hello) {
    let dialect = Dialect::One;
    assert_eq!(side.events(), [Event::Established { max_body: Some(hello.max_body), dialect }]);
    assert_eq!(side.connection.phase, Phase::Established { hello: Some(hello.clone()), dialect });
}
