//! One connection of dialect 2 with its endpoint, and a peer that sends arbitrary packets and may not read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;

use callosum_proto::internals::wire::dialect2::{Failure, MAX_PACKET, Options, PacketWriter, Piece, Record};
use callosum_proto::internals::wire::{Credit, Hello, NONCE_LEN, PING, PONG};
use callosum_proto::{
    Body, Call, CallId, CloseCause, Connection, ConnectionConfig, Delivery, Dialect, Endpoint, ErrorInfo,
    Event, Keepalive, Metadata, Multipart, OrderingKey, Reply, RequestId, Role, StreamArguments, StreamId,
    Urgency, internals,
};

use crate::carry::{carry, note_open};
use crate::hostile::endpoint_config;
use crate::readable::assert_readable;

const MAX_REQUESTS: usize = 4;
const WINDOW: u64 = 2_000;
const CONNECTION_WINDOW: u64 = 5_000;
const BUFFER: usize = 500;

#[derive(Debug, Arbitrary)]
enum Op {
    Packet(Vec<u8>),
    Frames(Vec<Vec<u8>>),
    Records(Vec<PeerRecord>),
    Invoke { key: bool, body: u16, streamed: bool, compressed: bool, deadline: Option<u8>, urgency: u8 },
    Abandon(u8),
    Begin { which: u8, size: Option<u16>, compressed: bool },
    Reply { which: u8, kind: u8, len: u16 },
    Suspend { which: u8, times: u8 },
    Read(u8),
    Reassemble(u8),
    Stop(u8),
    Write { which: u8, len: u16, item: bool },
    Finish(u8),
    Abort(u8),
    Transmit(u8),
    Pass(u16),
    Drain,
    Ping,
}

/// A record of the peer. Its call is relative to the peer's next call, or to our first.
#[derive(Debug, Arbitrary)]
enum PeerRecord {
    Open { next: bool, key: bool, remaining: Option<u16>, size: Option<u16>, chunk: Chunk },
    Result { call: u8, size: Option<u16>, chunk: Chunk },
    Fail { call: u8, kind: u8 },
    Data { call: u8, follows: bool, offset: u16, chunk: Chunk },
    Cancel(u8),
    Abort(u8),
    Stop(u8),
    Credit { call: u8, consumed: u16, limit: u64 },
    LinkCredit(u64),
    Goodbye(u8),
}

#[derive(Debug, Arbitrary)]
struct Chunk {
    len: u16,
    fin: bool,
    item: bool,
    compressed: bool,
    garbage: bool,
}

/// The connection, its endpoint, the calls, requests and streams that have not ended, and the peer's counters.
struct Host {
    connection: Connection,
    endpoint: Endpoint,
    now: Instant,
    calls: BTreeSet<CallId>,
    /// Requests that have arrived and were not answered, and those of them whose handlers run.
    open: BTreeSet<RequestId>,
    running: BTreeSet<RequestId>,
    /// How the results begin that are to be streamed: compressed or not, and of what size.
    beginning: BTreeMap<RequestId, (bool, Option<u64>)>,
    streams: BTreeSet<StreamId>,
    next_theirs: u64,
    first_ours: u64,
    offsets: BTreeMap<u64, u64>,
}

pub(super) fn run(input: &mut Unstructured<'_>, now: Instant) {
    let connector: bool = input.arbitrary().unwrap_or(false);
    let (stream, link) = input.arbitrary().unwrap_or((1_000, 3_000));
    let mut host = Host::new(connector, Credit { stream, link }, now);
    while !input.is_empty() {
        let Ok(op) = Op::arbitrary(input) else { break };
        host.apply(op);
        host.settle();
    }
    host.connection.close(CloseCause::LinkLost);
    host.settle();
    assert!(host.calls.is_empty(), "a call has not ended");
    // Results that have come as a whole can still be read.
    for stream in std::mem::take(&mut host.streams) {
        host.connection.recv_stream(stream).stop();
    }
    let connection = &host.connection;
    assert!(connection.is_idle() && connection.held_bytes() == 0 && connection.queued_bytes() == 0);
    internals::audit_idle(connection);
    std::mem::take(&mut host.running).into_iter().for_each(|request| host.endpoint.finish(request, None));
    assert!(host.endpoint.poll_event().is_none() && host.endpoint.audit_empty(), "{:?}", host.endpoint);
}

impl Host {
    fn new(connector: bool, credit: Credit, now: Instant) -> Self {
        let mut config = ConnectionConfig::default();
        config.max_body = 3_000;
        config.max_requests = MAX_REQUESTS;
        config.max_outgoing_bytes = 5_000;
        config.first_window = WINDOW;
        config.stream_window = WINDOW;
        config.connection_window = CONNECTION_WINDOW;
        config.stream_buffer = BUFFER;
        config.keepalive = Some(Keepalive { idle: Duration::from_secs(100), misses: 2 });
        if credit.stream.is_multiple_of(2) {
            config.stream_arguments = StreamArguments::All;
        }
        let role = if connector { Role::Connector } else { Role::Binder };
        let mut limits = endpoint_config(role);
        limits.max_reassembly = 4_000;
        limits.max_held_reply_bytes = 2_000;
        let mut endpoint = Endpoint::new(limits);
        let mut connection =
            Connection::new(endpoint.open(), role, config, [7; NONCE_LEN], CallId::FIRST, now);
        connection.handle_connected(now);
        let credit = Some(credit);
        let hello = Hello { dialects: 0b11, nonce: [8; NONCE_LEN], max_body: 2_000, credit };
        let marker = if connector { PONG } else { PING };
        connection.handle_message(now, Multipart::new(marker, hello.encode(), Bytes::new()));
        assert_eq!(connection.dialect(), Some(Dialect::Two));
        let (next_theirs, first_ours) = (u64::from(connector), u64::from(!connector));
        let (calls, open, running, streams) = Default::default();
        let (offsets, beginning) = (BTreeMap::new(), BTreeMap::new());
        Self {
            connection,
            endpoint,
            now,
            calls,
            open,
            running,
            beginning,
            streams,
            next_theirs,
            first_ours,
            offsets,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Packet(packet) => self.connection.handle_message(self.now, one(packet.into())),
            Op::Frames(frames) => {
                if let Some(message) = Multipart::from_frames(frames.into_iter().map(Bytes::from)) {
                    self.connection.handle_message(self.now, message);
                }
            }
            Op::Records(records) => self.send(records),
            Op::Invoke { key, body, streamed, compressed, deadline, urgency } => {
                let mut call = Call::new("m", vec![1; body.into()]);
                call.key = key_of(key);
                call.argument = if streamed { Delivery::Stream } else { Delivery::Whole };
                // Half of the calls take their results as streams.
                call.result = if body % 2 == 0 { Delivery::Stream } else { Delivery::Whole };
                call.compressed = compressed;
                call.urgency = Urgency::new(urgency % 8).unwrap_or_default();
                call.deadline = deadline.map(|time| self.now + Duration::from_millis(time.into()));
                if let Ok(call) = self.connection.invoke(self.now, call) {
                    assert!(self.calls.insert(call), "an id used twice");
                    self.streams.insert(call.into());
                }
            }
            Op::Abandon(which) => {
                if let Some(call) = pick(&self.calls, which) {
                    assert!(self.connection.abandon(call));
                    self.calls.remove(&call);
                }
            }
            Op::Pass(time) => {
                self.now += Duration::from_millis(time.into());
                self.connection.handle_timeout(self.now).expect("there is no byte stream");
                assert!(self.connection.poll_timeout().is_none_or(|at| at > self.now), "would spin");
            }
            Op::Transmit(count) => {
                for _ in 0..count {
                    let Some(message) = self.connection.poll_message(self.now) else { break };
                    assert!(message.size() <= MAX_PACKET);
                    assert_readable(&message);
                }
            }
            Op::Drain => self.connection.drain(),
            Op::Ping => drop(self.connection.ping()),
            other => self.use_streams(other),
        }
    }

    /// Steps of handlers and callers. Their errors are the application's responsibility, and ignored here.
    fn use_streams(&mut self, op: Op) {
        let now = self.now;
        let (running, streams) = (self.running.clone(), self.streams.clone());
        let (connection, endpoint) = (&mut self.connection, &mut self.endpoint);
        let on = |which| pick(&streams, which);
        match op {
            Op::Begin { which, size, compressed } => {
                if let Some(id) = pick(&running, which) {
                    self.beginning.insert(id, (compressed, size.map(u64::from)));
                    endpoint.begin_reply(id);
                }
            }
            Op::Reply { which, kind, len } => {
                if let Some(id) = pick(&running, which) {
                    let error = ErrorInfo::new("E", "e".repeat(len.into()));
                    let reply = match kind % 5 {
                        0 => Reply::Cancelled,
                        1 => Reply::Failure(error.into()),
                        2 => Reply::Error(error.into()),
                        3 => Reply::End,
                        _ => Reply::result(vec![2; len.into()]),
                    };
                    endpoint.finish(id, Some(reply));
                    self.running.remove(&id);
                    self.beginning.remove(&id);
                }
            }
            Op::Suspend { which, times } => {
                if let Some(id) = pick(&running, which) {
                    match times % 3 {
                        0 => endpoint.suspend(id),
                        1 => endpoint.resume(id),
                        _ => endpoint.release_slot(id),
                    }
                }
            }
            Op::Read(which) => {
                let _ = on(which).map(|id| connection.recv_stream(id).read(now));
            }
            Op::Reassemble(which) => {
                let _ = on(which).map(|id| connection.recv_stream(id).reassemble());
            }
            Op::Stop(which) => {
                let _ = on(which).map(|id| connection.recv_stream(id).stop());
            }
            Op::Write { which, len, item } => {
                let _ =
                    on(which).map(|id| connection.send_stream(id).write(vec![3; len.into()].into(), item));
            }
            Op::Finish(which) => {
                let _ = on(which).map(|id| connection.send_stream(id).finish());
            }
            Op::Abort(which) => {
                let _ = on(which).map(|id| connection.send_stream(id).abort());
            }
            other => unreachable!("{other:?} is done elsewhere"),
        }
    }

    fn send(&mut self, records: Vec<PeerRecord>) {
        let mut writer = PacketWriter::default();
        for record in records {
            let record = self.record(record);
            writer.write(&record);
            if writer.is_closed() || writer.len() > 50_000 {
                self.connection.handle_message(self.now, one(writer.take().into_one().expect("one frame")));
            }
        }
        if !writer.is_empty() {
            self.connection.handle_message(self.now, one(writer.take().into_one().expect("one frame")));
        }
    }

    fn record(&mut self, record: PeerRecord) -> Record {
        let size = |size: Option<u16>| Options { size: size.map(u64::from), ..Options::default() };
        match record {
            PeerRecord::Open { next, key, remaining, size: whole, chunk } => {
                let call = self.next_theirs + if next { 0 } else { 2 };
                self.next_theirs += if next { 2 } else { 0 };
                let remaining = remaining.map(|time| Duration::from_millis(time.into()));
                let options = Options { remaining, ..size(whole) };
                self.offsets.insert(call, chunk.len.into());
                Record::Open { call, method: "m".into(), key: key_of(key), options, piece: chunk.piece() }
            }
            PeerRecord::Result { call, size: whole, chunk } => {
                let call = self.first_ours + 2 * u64::from(call % 8);
                self.offsets.insert(call, chunk.len.into());
                Record::Result { call, options: size(whole), piece: chunk.piece() }
            }
            PeerRecord::Fail { call, kind } => {
                let failure = match kind % 3 {
                    0 => Failure::Cancelled,
                    1 => Failure::Error(ErrorInfo::new("Busy", "e")),
                    _ => Failure::Failure(ErrorInfo::new("F", "e")),
                };
                Record::Fail { call: self.call(call), failure, options: Options::default() }
            }
            PeerRecord::Data { call, follows, offset, chunk } => {
                let call = self.call(call);
                let next = self.offsets.entry(call).or_default();
                let at = if follows { *next } else { offset.into() };
                *next = at + u64::from(chunk.len);
                Record::Data { call, offset: at, piece: chunk.piece() }
            }
            PeerRecord::Cancel(call) => Record::Cancel { call: self.call(call) },
            PeerRecord::Abort(call) => Record::Abort { call: self.call(call) },
            PeerRecord::Stop(call) => Record::Stop { call: self.call(call) },
            PeerRecord::Credit { call, consumed, limit } => {
                Record::Credit { call: self.call(call), consumed: consumed.into(), limit }
            }
            PeerRecord::LinkCredit(limit) => Record::LinkCredit { limit },
            PeerRecord::Goodbye(next) => Record::Goodbye { next: self.first_ours + u64::from(next) },
        }
    }

    /// One of the peer's last calls, or of our first ones.
    fn call(&self, which: u8) -> u64 {
        let back = 2 * u64::from(which / 2 % 8);
        if which.is_multiple_of(2) {
            self.next_theirs.saturating_sub(2 + back)
        } else {
            self.first_ours + back
        }
    }

    fn settle(&mut self) {
        self.exchange();
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Ended { call, .. } => assert!(self.calls.remove(&call), "{call:?} ends twice"),
                Event::Request(request) => {
                    assert!(self.open.contains(&request.id) && self.running.insert(request.id));
                    self.streams.insert(request.id.into());
                    if let Body::Whole(body) = request.body {
                        assert!(body.len() <= 3_000);
                    }
                }
                Event::Stop { request, .. } => {
                    assert!(self.running.contains(&request) || !self.open.contains(&request))
                }
                Event::MayReply(request) => {
                    let (compressed, size) = self.beginning[&request];
                    let begun = self.connection.begin_reply(request, compressed, Metadata::new(), size);
                    assert_eq!(begun, Ok(()));
                }
                Event::Response { call, .. } => assert!(self.calls.contains(&call)),
                Event::Reassembled { body: Ok(body), .. } => assert!(body.len() <= 3_000),
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
        assert!(self.connection.held_bytes() <= CONNECTION_WINDOW);
    }

    /// Carries events between the connection and its endpoint.
    fn exchange(&mut self) {
        let open = &mut self.open;
        carry(&mut self.connection, &mut self.endpoint, self.now, |carried| note_open(open, carried));
    }
}

impl Chunk {
    fn piece(self) -> Piece {
        let plain = vec![4; self.len.into()];
        let bytes = match (self.compressed, self.garbage) {
            (true, false) => snap::raw::Encoder::new().compress_vec(&plain).expect("it is small"),
            _ => plain,
        };
        Piece { bytes: bytes.into(), fin: self.fin, item: self.item, compressed: self.compressed }
    }
}

fn one(packet: Bytes) -> Multipart {
    Multipart::single(packet, Bytes::new())
}

fn pick<T: Copy>(set: &BTreeSet<T>, which: u8) -> Option<T> {
    set.iter().nth(usize::from(which) % set.len().max(1)).copied()
}

fn key_of(given: bool) -> OrderingKey {
    if given { OrderingKey::text("k") } else { OrderingKey::none() }
}
