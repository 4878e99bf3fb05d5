mod abuse;
mod calls;
mod contents;
mod dialect2;
mod handshake;
mod limits;
mod liveness;
mod requests;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::wire::{self, DecodeError, PONG, UPPER};
use crate::{CallName, ErrorInfo, Message, Metadata, OrderingKey, Payload, Urgency};

const SECOND: Duration = Duration::from_secs(1);

/// A session and its clock.
struct Side {
    session: Session,
    now: Instant,
}

impl Side {
    fn new(role: Role, config: SessionConfig) -> Self {
        Self::starting_at(role, config, CallId(0))
    }

    fn starting_at(role: Role, config: SessionConfig, first_call: CallId) -> Self {
        let now = Instant::now();
        let nonce = [if role == Role::Connector { 1 } else { 2 }; NONCE_LEN];
        Self { session: Session::new(role, config, nonce, first_call, now), now }
    }

    fn connected(role: Role, config: SessionConfig) -> Self {
        let mut side = Self::new(role, config);
        side.session.handle_connected(side.now);
        side
    }

    /// A binder that has shaken hands with a peer of dialect 1.
    fn established(config: SessionConfig) -> Self {
        let mut side = Self::connected(Role::Binder, config);
        side.hear(Multipart::new(PING, Bytes::new(), Bytes::new()));
        assert_eq!(side.event(), Some(Event::Established { hello: None, dialect: Dialect::One }));
        assert_eq!(side.sent(), [Multipart::new(PONG, Bytes::new(), Bytes::new())]);
        side
    }

    fn hear(&mut self, message: Multipart) {
        self.session.handle_message(self.now, message);
    }

    fn hear_message(&mut self, seq: u32, method: &str, payload: Payload) {
        self.hear(message(seq, method, payload));
    }

    fn event(&mut self) -> Option<Event> {
        self.session.poll_event()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.event()).collect()
    }

    fn sent(&mut self) -> Vec<Multipart> {
        std::iter::from_fn(|| self.session.poll_transmit(self.now)).collect()
    }

    /// The RPC messages among those sent.
    fn said(&mut self) -> Vec<(u32, Payload)> {
        self.sent().into_iter().filter_map(read).map(|message| (message.id.seq, message.payload)).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        if let Some((at, timer)) = self.session.poll_timeout() {
            assert!(at > self.now, "{timer:?} would spin");
        }
    }

    fn invoke(&mut self, method: &str) -> CallId {
        self.session.invoke(self.now, call(method)).unwrap()
    }

    /// A call with this many seconds to go.
    fn invoke_for(&mut self, method: &str, seconds: u32) -> CallId {
        let deadline = Some(self.now + SECOND * seconds);
        self.session.invoke(self.now, Call { deadline, ..call(method) }).unwrap()
    }

    /// A request comes in; returns its id.
    fn asked(&mut self, seq: u32) -> IncomingId {
        self.hear_message(seq, "m", Payload::Function(Bytes::new()));
        match self.event() {
            Some(Event::Request(request)) => request.id,
            other => panic!("{other:?} instead of a request"),
        }
    }
}

/// Of sessions that speak dialect 1, as most tests here are about.
fn config() -> SessionConfig {
    SessionConfig { dialect: Dialect::One, ..SessionConfig::default() }
}

fn call(method: &str) -> Call {
    Call::new(method, "1")
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
    let header = (marker == UPPER).then(|| wire::decode_header(&header).unwrap())?;
    let payload = wire::decode_body(&header, body, usize::MAX).unwrap();
    Some(Message { id: header.id, payload, compressed: header.compressed })
}

fn result(text: &'static str) -> Payload {
    Payload::Result(Bytes::from_static(text.as_bytes()))
}

fn ok(text: &'static str) -> Reply {
    Reply::result(text)
}

fn ended(call: CallId, outcome: Outcome) -> Event {
    Event::Ended { call, outcome, metadata: Metadata::new() }
}

/// Moves everything that either has to say, until neither says more.
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
fn pair(connector: SessionConfig, binder: SessionConfig) -> (Side, Side) {
    let mut a = Side::connected(Role::Connector, connector);
    let mut b = Side::connected(Role::Binder, binder);
    exchange(&mut a, &mut b);
    assert!(matches!(a.events()[..], [Event::Established { hello: Some(_), dialect: Dialect::One }]));
    assert!(matches!(b.events()[..], [Event::Established { hello: Some(_), dialect: Dialect::One }]));
    (a, b)
}
