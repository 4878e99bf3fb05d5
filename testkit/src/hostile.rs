//! One connection of dialect 1 with its endpoint, and a peer that sends arbitrary messages and may not read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;

use callosum_proto::internals::wire::{CallName, Encoder, Message, NONCE_LEN, PING, PONG, Payload, UPPER};
use callosum_proto::ordering::OrderingMode;
use callosum_proto::{
    Call, CallId, CloseCause, Connection, ConnectionConfig, Endpoint, EndpointConfig, ErrorInfo, Event,
    Keepalive, Multipart, OrderingKey, Reply, RequestId, Role, internals,
};

use crate::carry::{carry, note_open};
use crate::readable::assert_readable;

const MAX_REQUESTS: usize = 4;
const MAX_OUTGOING: usize = 4_000;
/// Most queued bytes that the peer may cause without a handler (PROTOCOL.md, rule L-1), and one message more.
const MAX_UNSOLICITED: usize = (4 << 20) + (65 << 10);
/// Bytes that each queued message counts for besides its names and its body.
const MESSAGE: usize = 256;

#[derive(Debug, Arbitrary)]
enum Op {
    Frames(Vec<Vec<u8>>),
    Marked {
        marker: u8,
        header: Vec<u8>,
        body: Vec<u8>,
    },
    Message {
        kind: u8,
        seq: u8,
        method: bool,
        key: bool,
        compressed: bool,
        body: Vec<u8>,
    },
    Invoke {
        method: bool,
        key: bool,
        body: Vec<u8>,
        deadline: Option<u8>,
    },
    Abandon(u8),
    Reply(u8),
    Ping,
    /// The same PING, call, CANCEL or RESULT many times; with `fresh`, each call has a number of its own.
    Flood {
        kind: u8,
        fresh: bool,
        count: u8,
        size: u8,
    },
    Transmit(u8),
    Pass(u8),
    Drain,
}

/// The connection, its endpoint, and the calls and requests that have not ended.
struct Host {
    connection: Connection,
    endpoint: Endpoint,
    now: Instant,
    calls: BTreeSet<CallId>,
    /// Requests that have arrived and were not answered, and those of them whose handlers run.
    open: BTreeSet<RequestId>,
    running: BTreeSet<RequestId>,
    /// Bytes of replies that the host has queued.
    replied: usize,
    /// Number of calls that the host has made.
    made: usize,
    /// Messages left for floods; bounds the time of one input.
    flood_left: u8,
}

pub(super) fn run(input: &mut Unstructured<'_>, now: Instant) {
    let role = if input.arbitrary().unwrap_or(false) { Role::Connector } else { Role::Binder };
    let mut config = ConnectionConfig::default();
    config.max_body = 100;
    config.max_requests = MAX_REQUESTS;
    config.max_outgoing_bytes = MAX_OUTGOING;
    config.keepalive = Some(Keepalive { idle: Duration::from_millis(100), misses: 2 });
    let mut endpoint = Endpoint::new(endpoint_config(role));
    let connection = Connection::new(endpoint.open(), role, config, [7; NONCE_LEN], CallId::FIRST, now);
    let mut host = Host {
        connection,
        endpoint,
        now,
        calls: BTreeSet::new(),
        open: BTreeSet::new(),
        running: BTreeSet::new(),
        replied: 0,
        made: 0,
        flood_left: u8::MAX,
    };
    host.connection.handle_connected(now);
    while !input.is_empty() {
        let Ok(op) = Op::arbitrary(input) else { break };
        host.apply(op);
        host.drain_events();
    }
    host.write_all();
    host.connection.close(CloseCause::LinkLost);
    host.drain_events();
    assert_eq!((host.connection.queued_bytes(), host.connection.poll_message(now)), (0, None));
    assert!(host.calls.is_empty(), "a call has not ended");
    internals::audit_idle(&host.connection);
    std::mem::take(&mut host.running).into_iter().for_each(|request| host.endpoint.finish(request, None));
    assert!(host.endpoint.poll_event().is_none() && host.endpoint.audit_empty(), "{:?}", host.endpoint);
}

/// Replies of a connector's handlers leave in order, handlers of a binder start in order.
pub(super) fn endpoint_config(role: Role) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.ordering.mode = match role {
        Role::Connector => OrderingMode::ExitOrdered,
        Role::Binder => OrderingMode::KeySerialized,
    };
    config.ordering.max_running = 2;
    config
}

impl Host {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Frames(frames) => {
                if let Some(message) = Multipart::from_frames(frames.into_iter().map(Bytes::from)) {
                    self.connection.handle_message(self.now, message);
                }
            }
            Op::Marked { marker, header, body } => {
                let marker = [PING, PONG, UPPER][usize::from(marker) % 3].clone();
                self.connection.handle_message(self.now, Multipart::new(marker, header.into(), body.into()));
            }
            Op::Message { kind, seq, method, key, compressed, body } => {
                let id = CallName { seq: seq.into(), method: name(method), key: key_of(key) };
                let message = Message { id, payload: payload(kind, body), compressed };
                self.connection.handle_message(self.now, Encoder::default().encode(&message));
            }
            Op::Invoke { method, key, body, deadline } => self.invoke(method, key, body, deadline),
            Op::Abandon(which) => {
                if let Some(call) = pick(&self.calls, which) {
                    assert!(self.connection.abandon(call));
                    self.calls.remove(&call);
                }
            }
            Op::Reply(which) => {
                if let Some(id) = pick(&self.running, which) {
                    self.endpoint.finish(id, Some(Reply::Cancelled));
                    self.replied += MESSAGE + 8;
                    self.running.remove(&id);
                }
            }
            Op::Ping => drop(self.connection.ping()),
            Op::Flood { kind, fresh, count, size } => self.flood(kind, fresh, count, size),
            Op::Transmit(count) => {
                for _ in 0..count {
                    let Some(message) = self.connection.poll_message(self.now) else { break };
                    assert_readable(&message);
                }
            }
            Op::Pass(time) => {
                self.now += Duration::from_millis(time.into());
                self.connection.handle_timeout(self.now).expect("there is no byte stream");
                assert!(self.connection.poll_timeout().is_none_or(|at| at > self.now), "would spin");
            }
            Op::Drain => self.connection.drain(),
        }
    }

    fn flood(&mut self, kind: u8, fresh: bool, count: u8, size: u8) {
        let count = count.min(self.flood_left);
        self.flood_left -= count;
        for n in 0..u32::from(count) {
            let message = if kind % 7 == 6 {
                Multipart::new(PING, Bytes::new(), vec![0; usize::from(size) << 7].into())
            } else {
                let seq = if fresh { n } else { 0 };
                let id = CallName { seq, method: name(true), key: key_of(false) };
                let payload = payload(kind, vec![0; size.into()]);
                Encoder::default().encode(&Message { id, payload, compressed: false })
            };
            self.connection.handle_message(self.now, message);
            self.drain_events();
        }
    }

    /// Writes the whole send queue, which must not exceed its limit.
    fn write_all(&mut self) {
        let (counted, mut bytes) = (self.connection.queued_bytes(), 0);
        assert!(counted <= MAX_OUTGOING + self.replied + MAX_UNSOLICITED, "{counted} bytes wait");
        while let Some(message) = self.connection.poll_message(self.now) {
            bytes += message.size();
            assert_readable(&message);
        }
        // Probes and CANCELs are few and small; headers are longer than the names in them.
        let small = 64 * (64 + self.made);
        assert!(bytes <= counted + MAX_UNSOLICITED + small, "{bytes} bytes, of which {counted} counted");
    }

    fn invoke(&mut self, method: bool, key: bool, body: Vec<u8>, deadline: Option<u8>) {
        let mut call = Call::new(name(method), body);
        call.key = key_of(key);
        call.deadline = deadline.map(|time| self.now + Duration::from_millis(time.into()));
        if let Ok(call) = self.connection.invoke(self.now, call) {
            assert!(self.calls.insert(call), "an id used twice");
            self.made += 1;
        }
    }

    fn drain_events(&mut self) {
        self.exchange();
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Ended { call, .. } => assert!(self.calls.remove(&call), "{call:?} ends twice"),
                Event::Request(request) => {
                    assert!(self.open.contains(&request.id) && self.running.insert(request.id));
                }
                Event::Stop { request, .. } => {
                    assert!(self.running.contains(&request) || !self.open.contains(&request))
                }
                Event::Closed(_) => {
                    assert_eq!(self.connection.poll_event(), None, "nothing follows the end");
                }
                _ => {}
            }
        }
        self.exchange();
        assert_eq!(self.connection.open_calls(), self.calls.len());
        assert_eq!(self.connection.open_requests(), self.open.len());
        assert!(self.open.len() <= MAX_REQUESTS);
        assert!(
            self.running.len() >= self.endpoint.running(),
            "the endpoint counts a handler that never ran"
        );
    }

    /// Carries events between the connection and its endpoint.
    fn exchange(&mut self) {
        let open = &mut self.open;
        carry(&mut self.connection, &mut self.endpoint, self.now, |carried| note_open(open, carried));
    }
}

fn pick<T: Copy>(set: &BTreeSet<T>, which: u8) -> Option<T> {
    set.iter().nth(usize::from(which) % set.len().max(1)).copied()
}

fn name(method: bool) -> callosum_proto::Text {
    if method { "m".into() } else { "n".into() }
}

fn key_of(given: bool) -> OrderingKey {
    if given { OrderingKey::text("k") } else { OrderingKey::none() }
}

fn payload(kind: u8, body: Vec<u8>) -> Payload {
    let info = || ErrorInfo::new("E", String::from_utf8_lossy(&body).into_owned());
    match kind % 6 {
        0 => Payload::Function(body.into()),
        1 => Payload::Result(body.into()),
        2 => Payload::Failure(info()),
        3 => Payload::Error(info()),
        4 => Payload::Cancel,
        _ => Payload::Cancelled,
    }
}
