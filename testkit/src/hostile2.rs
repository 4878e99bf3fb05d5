//! One session of dialect 2, and a peer that sends arbitrary packets and may not read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;

use callosum_proto::internals::wire::dialect2::{Failure, Options, PacketWriter, Piece, Record};
use callosum_proto::internals::wire::{Credit, Hello, NONCE_LEN, PING, PONG};
use callosum_proto::session::{
    Body, Call, CloseCause, Dialect, Event, ExchangeId, IncomingId, Keepalive, Reply, Role, Session,
    SessionConfig,
};
use callosum_proto::{CallId, ErrorInfo, Metadata, Multipart, OrderingKey};

const MAX_REQUESTS: usize = 4;
const WINDOW: u64 = 2_000;
const LINK_WINDOW: u64 = 5_000;
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
    Started { which: u8, time: u8 },
    Read(u8),
    Collect(u8),
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

/// The session, its calls, requests and streams that have not ended, and the peer's counters.
struct Host {
    session: Session,
    now: Instant,
    calls: BTreeSet<CallId>,
    requests: BTreeSet<IncomingId>,
    streams: BTreeSet<ExchangeId>,
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
    host.session.close(CloseCause::LinkLost);
    host.settle();
    assert!(host.calls.is_empty(), "a call has not ended");
    assert!(host.session.is_idle() && host.session.held_bytes() == 0 && host.session.queued_bytes() == 0);
    callosum_proto::internals::audit_idle(&host.session);
}

impl Host {
    fn new(connector: bool, credit: Credit, now: Instant) -> Self {
        let mut config = SessionConfig::default();
        config.max_body = 3_000;
        config.max_requests = MAX_REQUESTS;
        config.max_outgoing_bytes = 5_000;
        config.first_window = WINDOW;
        config.stream_window = WINDOW;
        config.link_window = LINK_WINDOW;
        config.max_reassembly = 4_000;
        config.stream_buffer = BUFFER;
        config.keepalive = Some(Keepalive { idle: Duration::from_secs(100), misses: 2 });
        let role = if connector { Role::Connector } else { Role::Binder };
        let mut session = Session::new(role, config, [7; NONCE_LEN], CallId(0), now);
        session.handle_connected(now);
        let credit = Some(credit);
        let hello = Hello { dialects: 0b11, nonce: [8; NONCE_LEN], max_body: 2_000, credit };
        let marker = if connector { PONG } else { PING };
        session.handle_message(now, Multipart::new(marker, hello.encode(), Bytes::new()));
        assert_eq!(session.dialect(), Some(Dialect::Two));
        let (next_theirs, first_ours) = (u64::from(connector), u64::from(!connector));
        let (calls, requests, streams) = Default::default();
        let offsets = BTreeMap::new();
        Self { session, now, calls, requests, streams, next_theirs, first_ours, offsets }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Packet(packet) => self.session.handle_message(self.now, one(packet.into())),
            Op::Frames(frames) => {
                if let Some(message) = Multipart::from_frames(frames.into_iter().map(Bytes::from)) {
                    self.session.handle_message(self.now, message);
                }
            }
            Op::Records(records) => self.send(records),
            Op::Invoke { key, body, streamed, compressed, deadline, urgency } => {
                let call = Call {
                    key: key_of(key),
                    streamed,
                    compressed,
                    urgency: Urgency::new(urgency % 8).unwrap_or_default(),
                    deadline: deadline.map(|time| self.now + Duration::from_millis(time.into())),
                    ..Call::new("m", vec![1; body.into()])
                };
                if let Ok(call) = self.session.invoke(self.now, call) {
                    assert!(self.calls.insert(call), "an id used twice");
                    self.streams.insert(ExchangeId::Ours(call));
                }
            }
            Op::Abandon(which) => {
                if let Some(call) = pick(&self.calls, which) {
                    assert!(self.session.abandon(call));
                    self.calls.remove(&call);
                }
            }
            Op::Pass(time) => {
                self.now += Duration::from_millis(time.into());
                self.session.handle_timeout(self.now);
                assert!(self.session.poll_timeout().is_none_or(|(at, _)| at > self.now), "would spin");
            }
            Op::Transmit(count) => {
                for _ in 0..count {
                    let Some(message) = self.session.poll_transmit(self.now) else { break };
                    assert!(message.size() <= callosum_proto::internals::wire::dialect2::MAX_PACKET);
                }
            }
            Op::Drain => self.session.drain(),
            Op::Ping => drop(self.session.ping()),
            other => self.use_streams(other),
        }
    }

    /// Steps of handlers and callers. Their errors are the application's responsibility, and ignored here.
    fn use_streams(&mut self, op: Op) {
        let now = self.now;
        let (requests, streams) = (self.requests.clone(), self.streams.clone());
        let session = &mut self.session;
        let on = |which| pick(&streams, which);
        match op {
            Op::Begin { which, size, compressed } => {
                if let Some(id) = pick(&requests, which) {
                    drop(session.begin_reply(id, compressed, Metadata::new(), size.map(u64::from)));
                }
            }
            Op::Reply { which, kind, len } => {
                if let Some(id) = pick(&requests, which) {
                    let error = ErrorInfo::new("E", "e".repeat(len.into()));
                    let reply = match kind % 5 {
                        0 => Reply::Cancelled,
                        1 => Reply::Failure(error),
                        2 => Reply::Error(error),
                        3 => Reply::End,
                        _ => Reply::result(vec![2; len.into()]),
                    };
                    drop(session.reply(id, reply));
                    self.requests.remove(&id);
                }
            }
            Op::Started { which, time } => {
                if let Some(id) = pick(&requests, which) {
                    session.started(id, now + Duration::from_millis(time.into()));
                }
            }
            Op::Read(which) => {
                let _ = on(which).map(|id| session.contents().read(now, id));
            }
            Op::Collect(which) => {
                let _ = on(which).map(|id| session.contents().collect(now, id));
            }
            Op::Stop(which) => {
                let _ = on(which).map(|id| session.contents().stop(id));
            }
            Op::Write { which, len, item } => {
                let _ = on(which).map(|id| session.contents().write(id, vec![3; len.into()].into(), item));
            }
            Op::Finish(which) => {
                let _ = on(which).map(|id| session.contents().finish(id));
            }
            Op::Abort(which) => {
                if let Some(ExchangeId::Ours(call)) = on(which) {
                    session.contents().abort(call);
                }
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
                self.session.handle_message(self.now, one(writer.take().into_one().expect("one frame")));
            }
        }
        if !writer.is_empty() {
            self.session.handle_message(self.now, one(writer.take().into_one().expect("one frame")));
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
                Record::Open { call, method: "m".into(), key: key_of(key), options, content: chunk.piece() }
            }
            PeerRecord::Result { call, size: whole, chunk } => {
                let call = self.first_ours + 2 * u64::from(call % 8);
                self.offsets.insert(call, chunk.len.into());
                Record::Result { call, options: size(whole), content: chunk.piece() }
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
                Record::Data { call, offset: at, content: chunk.piece() }
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
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Ended { call, .. } => assert!(self.calls.remove(&call), "{call:?} ends twice"),
                Event::Request(request) => {
                    assert!(self.requests.insert(request.id));
                    if let Body::Streamed { .. } = request.body {
                        self.streams.insert(ExchangeId::Theirs(request.id));
                    }
                }
                Event::CancelRequested(id) => assert!(self.requests.contains(&id)),
                Event::Response { call, .. } => assert!(self.calls.contains(&call)),
                Event::Collected { body: Ok(body), .. } => assert!(body.len() <= 3_000),
                Event::Closed(_) => {
                    self.requests.clear();
                    assert_eq!(self.session.poll_event(), None, "nothing follows the end");
                }
                _ => {}
            }
        }
        assert_eq!(self.session.open_calls(), self.calls.len());
        assert_eq!(self.session.open_requests(), self.requests.len());
        assert!(self.requests.len() <= MAX_REQUESTS);
        assert!(self.session.held_bytes() <= LINK_WINDOW);
        callosum_proto::internals::audit(&self.session);
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
