//! Calls that wait behind a blocked key until their callers give up (O-18), from the wire to the endpoint and
//! back.

use super::dialect2::{two, whole};
use super::*;
use crate::endpoint::{Endpoint, EndpointConfig};
use crate::ordering::{OrderingConfig, OrderingMode};
use crate::wire::dialect2::PacketWriter;
use crate::wire::{Failure, Options, Record};

/// A binder and its endpoint. Both limit the peer's open requests to 20.
struct Served {
    endpoint: Endpoint,
    connections: BTreeMap<ConnectionId, Connection>,
    id: ConnectionId,
    now: Instant,
}

impl Served {
    fn new(mode: OrderingMode) -> Self {
        Self::with(mode, |_| {})
    }

    fn with(mode: OrderingMode, change: impl FnOnce(&mut OrderingConfig)) -> Self {
        let mut config = EndpointConfig::default();
        (config.ordering.mode, config.ordering.max_requests_per_connection) = (mode, 20);
        change(&mut config.ordering);
        let (mut endpoint, now) = (Endpoint::new(config), Instant::now());
        let id = endpoint.open();
        let limits = ConnectionConfig { max_requests: 20, ..two() };
        let mut connection = Connection::new(id, Role::Binder, limits, [2; NONCE_LEN], CallId(0), now);
        connection.handle_connected(now);
        let credit = Some(Credit { stream: 256 << 10, link: 1 << 30 });
        let hello = Hello { dialects: 0b11, nonce: [9; NONCE_LEN], max_body: 10 << 20, credit };
        connection.handle_message(now, Multipart::new(PING, hello.encode(), Bytes::new()));
        let mut served = Self { endpoint, connections: BTreeMap::from([(id, connection)]), id, now };
        served.settle();
        served
    }

    fn connection(&mut self) -> &mut Connection {
        self.connections.get_mut(&self.id).unwrap()
    }

    /// The events for the host, and the records that are sent.
    fn settle(&mut self) -> (Vec<Event>, Vec<Record>) {
        self.endpoint.settle(self.now, &mut self.connections, self.id);
        let now = self.now;
        let connection = self.connection();
        let events = std::iter::from_fn(|| connection.poll_event()).collect();
        let messages: Vec<_> = std::iter::from_fn(|| connection.poll_message(now)).collect();
        let packets = messages.into_iter().filter_map(Multipart::into_one);
        let records = packets.flat_map(|packet| wire::records(&packet).unwrap().collect::<Vec<_>>());
        (events, records.map(Result::unwrap).collect())
    }

    fn hear(&mut self, records: &[Record]) -> (Vec<Event>, Vec<Record>) {
        let (mut writer, now) = (PacketWriter::default(), self.now);
        records.iter().for_each(|record| writer.write(record));
        self.connection().handle_message(now, writer.take());
        self.settle()
    }

    /// The handler of a call has ended.
    fn finish(&mut self, call: u64, text: &'static str) -> Vec<Record> {
        self.endpoint.finish(RequestId::new(self.id, call / 2), Some(ok(text)));
        self.settle().1
    }
}

fn open(call: u64, key: &str) -> Record {
    let key = if key.is_empty() { OrderingKey::none() } else { OrderingKey::text(key) };
    let options = Options { remaining: Some(SECOND), ..Options::default() };
    Record::Open { call, method: "m".into(), key, options, piece: whole("") }
}

/// The calls that are passed to the host.
fn started(events: &[Event]) -> Vec<u64> {
    let requests = events.iter().filter_map(|event| match event {
        Event::Request(request) => Some(2 * request.id.number()),
        _ => None,
    });
    requests.collect()
}

fn results(records: &[Record]) -> Vec<u64> {
    let results = records.iter().filter_map(|record| match record {
        Record::Result { call, .. } => Some(*call),
        _ => None,
    });
    results.collect()
}

/// A layer of the host that refuses requests before they start. Neither limit counts them any more.
#[test]
fn requests_that_the_host_answers_before_they_start_leave_room_for_others() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut served = Served::with(mode, |ordering| ordering.max_running = 1);
        assert_eq!(started(&served.hear(&[open(0, "k")]).0), [0]);
        for call in (2..200).step_by(2) {
            assert_eq!(started(&served.hear(&[open(call, "k")]).0), []);
            let id = RequestId::new(served.id, call / 2);
            let refusal = Refusal::Busy.reply("not now");
            served.connection().reply(id, refusal).unwrap();
            let (events, records) = served.settle();
            assert!(
                events.is_empty() && matches!(records[..], [Record::Fail { call: of, .. }] if of == call)
            );
            assert_eq!((served.endpoint.waiting(), served.endpoint.open_requests_of(served.id)), (0, 1));
        }
        // The endpoint starts one in the moment in which the host answers it.
        served.hear(&[open(200, "k")]);
        served.endpoint.finish(RequestId::new(served.id, 0), Some(ok("first")));
        let mut decisions: Vec<_> = std::iter::from_fn(|| served.endpoint.poll_event()).collect();
        let start = decisions.pop().map(|(_, event)| event);
        assert!(matches!(start, Some(ConnectionEvent::Start(id)) if id.number() == 100), "{start:?}");
        let (last, now) = (RequestId::new(served.id, 100), served.now);
        served.connection().reply(last, ok("early")).unwrap();
        decisions.into_iter().map(|(_, event)| event).chain(start).for_each(|event| {
            served.connection().handle_event(now, event);
        });
        let (events, records) = served.settle();
        assert!(events.is_empty(), "{events:?}");
        assert_eq!(results(&records), [200, 0]);
        assert_eq!(served.endpoint.running(), 0);
        assert_eq!(started(&served.hear(&[open(202, "k")]).0), [202], "slot and key are free");
        assert_eq!(results(&served.finish(202, "last")), [202]);
        assert!(served.endpoint.is_idle() && served.connection().is_idle());
    }
}

/// The results wait for an earlier one with the key, which the peer grants no credit.
#[test]
fn results_given_up_behind_one_that_is_not_read_leave_room_for_others() {
    use super::dialect2::binder;
    for len in [10, 100_000] {
        let mut side = binder(ConnectionConfig { max_outgoing_bytes: 1_000_000, ..two() });
        let result = |len| Reply::result(vec![7; len]);
        let keyed = |side: &mut Side, call| {
            side.hear_records(&[open(call, "k")]);
            assert_eq!(started(&side.events()), [call]);
        };
        keyed(&mut side, 0);
        side.connection.reply(incoming(0), result(500_000)).unwrap();
        side.sent();
        let before = side.connection.queued_bytes();
        for call in (2..20_000).step_by(2) {
            keyed(&mut side, call);
            side.connection.reply(incoming(call), result(len)).unwrap();
            assert!(side.connection.queued_bytes() > before, "it waits");
            side.hear_records(&[Record::Cancel { call }, Record::Cancel { call }]);
            let [Record::Fail { call: of, failure: Failure::Cancelled, .. }] = side.sent_records()[..] else {
                panic!("it is answered once")
            };
            assert_eq!((of, side.connection.queued_bytes()), (call, before));
            side.connection.audit();
        }
        // Another one, which is not given up, keeps its order.
        keyed(&mut side, 20_000);
        side.connection.reply(incoming(20_000), ok("last")).unwrap();
        assert_eq!(side.sent(), []);
        side.hear_records(&[Record::Cancel { call: 0 }]);
        assert_eq!(results(&side.sent_records()), [20_000]);
        assert!(side.connection.is_idle());
        side.connection.audit_idle();
    }
}

/// CANCELs of answered calls cause answers, which a peer must read, like those of calls that it cancels earlier.
#[test]
fn a_peer_that_gives_up_results_and_does_not_read_is_cut_off() {
    use super::dialect2::binder;
    let mut side = binder(ConnectionConfig { max_outgoing_bytes: 1_000, ..two() });
    side.hear_records(&[open(0, "k")]);
    side.connection.reply(incoming(0), Reply::result(vec![7; 500_000])).unwrap();
    side.sent();
    let mut call = 0;
    while !side.connection.is_closed() {
        call += 2;
        side.hear_records(&[open(call, "k")]);
        side.connection.reply(incoming(call), ok("in vain")).unwrap();
        side.hear_records(&[Record::Cancel { call }]);
        assert!(side.connection.queued_bytes() < 6 << 20 && call < 100_000);
    }
    assert_eq!(side.connection.close_cause(), Some(CloseCause::PeerNotReading));
}

#[test]
fn ten_thousand_calls_given_up_behind_a_stuck_key_leave_room_for_others() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut served = Served::new(mode);
        // The last of these has no deadline.
        let Record::Open { call, method, key, piece, .. } = open(0, "stuck") else { panic!() };
        let stuck = Record::Open { call, method, key, options: Options::default(), piece };
        assert_eq!(started(&served.hear(&[stuck]).0), [0]);
        for call in (2..20_000).step_by(2) {
            let runs = started(&served.hear(&[open(call, "stuck")]).0);
            assert_eq!(runs.is_empty(), mode == OrderingMode::KeySerialized);
            // Half of the handlers end in time, and their results wait for their order.
            if call % 4 == 0 {
                assert_eq!(results(&served.finish(call, "in vain")), [], "{mode:?}");
            }
            // The caller cancels, or only lets its deadline pass.
            let mut told = match call % 8 < 4 {
                true => served.hear(&[Record::Cancel { call }]).1,
                false => {
                    served.now += 2 * SECOND;
                    let now = served.now;
                    served.connection().handle_timeout(now).unwrap();
                    served.settle().1
                }
            };
            told.extend(served.finish(call, "too late"));
            told.retain(|record| matches!(record, Record::Fail { .. } | Record::Result { .. }));
            let answered = matches!(told[..], [Record::Fail { call: of, failure: Failure::Cancelled | Failure::Error(_), .. } | Record::Result { call: of, .. }] if of == call);
            assert!(answered, "{mode:?}: {told:?}");
            assert_eq!(served.connection().open_requests(), 1);
            assert_eq!(served.endpoint.open_requests_of(served.id), 1);
        }
        let events = served.hear(&[open(20_000, ""), open(20_002, "other"), open(20_004, "stuck")]).0;
        assert!(started(&events).starts_with(&[20_000, 20_002]), "{mode:?}: {events:?}");
        assert_eq!(results(&served.finish(20_002, "other")), [20_002]);
        assert_eq!(results(&served.finish(20_000, "none")), [20_000]);
        let mut left = results(&served.finish(20_004, "after it"));
        left.extend(results(&served.finish(0, "the stuck one")));
        left.extend(results(&served.finish(20_004, "after it")));
        assert_eq!(left, [0, 20_004], "{mode:?}: what is left is in order");
        assert!(served.connection().is_idle() && served.endpoint.audit_empty());
        served.connection().audit_idle();
    }
}
