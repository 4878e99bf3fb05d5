//! Peers that do their worst in dialect 2, and an honest client beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use callosum_proto::Multipart;
use callosum_proto::Violation;
use callosum_proto::internals::wire::dialect2::{
    Failure, MAX_CALL, MAX_CHUNK, MAX_FIRST, MAX_PACKET, Options, Piece, RECORD_COST, Record,
};
use callosum_runtime::rt::ByteStream;
use callosum_runtime::{
    BodyReader, Builder, CloseCause, Context, DisconnectCause, HandlerResult, Limits, Refusal, Responder,
    duplex,
};
use serde_json::Value;

use crate::gate::{Alive, Gate};
use crate::raw::{RawPeer, open, part, whole};
use crate::rig::{Rig, poll_once};
use crate::suite::abuse::{BATCH, BESIDE_FLOOD, MANY, Scene};

/// Credit that never runs out.
const PLENTY: (u64, u64) = (1 << 40, 1 << 40);

/// What may be sent of a stream before anybody reads it, by default.
const UNREAD: usize = 16 * 1024;

fn data(call: u64, offset: usize, piece: Piece) -> Record {
    Record::Data { call, offset: offset as u64, piece }
}

fn credit(call: u64, limit: u64) -> Record {
    Record::Credit { call, consumed: 0, limit }
}

/// An OPEN whose argument has so many bytes, of which these are the first.
fn open_sized(call: u64, method: &str, size: usize, first: usize) -> Record {
    let Record::Open { method, key, piece, .. } = open(call, method, part(vec![7; first])) else {
        unreachable!("an OPEN is one")
    };
    Record::Open {
        call,
        method,
        key,
        options: Options { size: Some(size as u64), ..Options::default() },
        piece,
    }
}

fn filling(builder: Builder) -> Builder {
    builder.handle_raw("fill", |body, _| async move {
        HandlerResult::Ok(Bytes::from(vec![1; serde_json::from_slice(&body)?]))
    })
}

/// A handler that begins and reads nothing of its argument.
async fn keep(_body: BodyReader, _: Responder, _: Context) -> HandlerResult<()> {
    pending().await
}

/// A small call succeeds, as the next answer.
async fn call<S: ByteStream>(attacker: &mut RawPeer<S>, number: u64) {
    attacker.say_records(&[open(number, "echo", whole("good"))]).await;
    let (call, answer) = attacker.hear_answer().await;
    assert!(matches!(answer, Record::Result { .. }), "{answer:?}");
    assert_eq!(call, number);
}

/// The rest of a result of which this much was received.
async fn rest_of_result<S: ByteStream>(attacker: &mut RawPeer<S>, of: u64, mut got: usize) -> usize {
    loop {
        if let Record::Data { call, offset, piece } = attacker.hear_record().await
            && call == of
        {
            assert_eq!(offset, got as u64);
            got += piece.bytes.len();
            if piece.fin {
                return got;
            }
        }
    }
}

fn violation(cause: &DisconnectCause) -> Option<Violation> {
    match cause {
        DisconnectCause::Connection(CloseCause::ProtocolViolation(violation)) => Some(*violation),
        _ => None,
    }
}

/// An argument of a hundred thousand pieces of one byte each arrives as one body.
pub async fn tiny_pieces(rig: Rig) {
    let scene = Scene::new(&rig, rig.builder()).await;
    let mut attacker = scene.attacker_2(PLENTY).await;
    scene
        .beside(BESIDE_FLOOD, async {
            attacker.say_records(&[open(0, "echo", part(""))]).await;
            for first in (0..MANY).step_by(BATCH as usize) {
                for offset in first..first + BATCH {
                    let piece = Piece { fin: offset + 1 == MANY, ..part("x") };
                    // A packet each.
                    attacker.queue_records(&[data(0, offset as usize, piece)]);
                }
                if first + BATCH < MANY {
                    call(&mut attacker, 2 + 2 * u64::from(first / BATCH)).await;
                }
            }
            attacker.flush().await;
            let (number, answer) = attacker.hear_answer().await;
            let Record::Result { piece, options, .. } = answer else { panic!("{answer:?}") };
            assert_eq!((number, options.size), (0, Some(u64::from(MANY))));
            let length = rest_of_result(&mut attacker, 0, piece.bytes.len()).await;
            assert_eq!(length, MANY as usize);
        })
        .await;
    scene.end().await;
}

/// More of a stream than there is credit for costs the call, once for each that does so, and nothing else.
pub async fn credit_that_was_not_given(rig: Rig) {
    const CALLS: u64 = 50;
    let gate = Gate::default();
    let waits = gate.clone();
    // Reads only once it may.
    let late = move |body: BodyReader, responder: Responder, context: Context| {
        let gate = waits.clone();
        async move {
            gate.pass_through(context).await;
            let size = body.collect().await?.len();
            responder.begin().await?.write_item(&size).await?;
            HandlerResult::Ok(())
        }
    };
    let scene = Scene::new(&rig, rig.builder().handle_stream("late", late)).await;
    let mut attacker = scene.attacker_2(PLENTY).await;
    let seen = scene.attacker_seen().await;
    scene
        .beside(10, async {
            for n in 0..CALLS {
                let (fits, exceeds) = (4 * n, 4 * n + 2);
                let half = UNREAD / 2 - RECORD_COST as usize;
                for (number, more) in [(fits, 0), (exceeds, 1)] {
                    attacker.queue_records(&[
                        open(number, "late", part("")),
                        data(number, 0, part(vec![0; half])),
                        data(number, half, Piece { fin: true, ..part(vec![0; half + more]) }),
                    ]);
                }
                attacker.flush().await;
                for _ in 0..2 {
                    gate.next().await.release(1);
                }
                for _ in 0..2 {
                    let (number, answer) = attacker.hear_answer().await;
                    match answer {
                        Record::Result { .. } => assert_eq!(number, fits),
                        Record::Fail { failure: Failure::Failure(_), .. } => assert_eq!(number, exceeds),
                        other => panic!("{other:?}"),
                    }
                }
            }
        })
        .await;
    assert_eq!(seen.stats().anomalies, CALLS);
    call(&mut attacker, 4 * CALLS).await;
    scene.end().await;
}

/// Unread streams use up the credit for streams, while small calls go on; one byte over the connection's credit
/// closes the connection and ends its handlers.
pub async fn credit_of_the_link(rig: Rig) {
    let limits = Limits::default()
        .stream_window(4 * UNREAD as u64)
        .max_queue_bytes(2 * UNREAD)
        .max_stream_bytes(2 * UNREAD as u64);
    let live = Arc::<AtomicUsize>::default();
    let counter = live.clone();
    let keep = move |body: BodyReader, responder: Responder, context: Context| {
        let alive = Alive::new(&counter);
        async move {
            let _alive = alive;
            keep(body, responder, context).await
        }
    };
    let mut scene = Scene::new(&rig, rig.builder().limits(limits).handle_stream("keep", keep)).await;
    let mut attacker = scene.attacker_2(PLENTY).await;
    let piece = UNREAD - RECORD_COST as usize;
    scene
        .beside(0, async {
            for number in [0, 2] {
                attacker
                    .queue_records(&[open(number, "keep", part("")), data(number, 0, part(vec![0; piece]))]);
            }
            for number in 2..52 {
                call(&mut attacker, 2 * number).await;
            }
        })
        .await;
    assert_eq!(live.load(Ordering::SeqCst), 2);
    // One half of it is used up.
    attacker.say_records(&[data(0, piece, part(vec![0; 2 * UNREAD - RECORD_COST as usize + 1]))]).await;
    let cause = scene.disconnected().await;
    assert_eq!(violation(&cause), Some(Violation::Credit), "{cause:?}");
    attacker.until_closed().await;
    rig.until(|| live.load(Ordering::SeqCst) == 0).await;
    scene.beside(0, async {}).await;
    scene.end().await;
}

/// Calls that are cancelled in the packet that opens them, half of them in the middle of an argument that goes on as if
/// nothing had been: each is answered once, no more handlers live at a time than may, and none is left.
pub async fn calls_that_are_reset(rig: Rig) {
    const PLACES: usize = 4;
    const RESETS: u32 = MANY / 4;
    let (live, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (counter, peak) = (live.clone(), most.clone());
    let builder = rig.builder().max_concurrency(PLACES).handle("hold", move |_: Value, _| {
        let (alive, peak) = (Alive::new(&counter), peak.clone());
        peak.fetch_max(counter.load(Ordering::SeqCst), Ordering::SeqCst);
        async move {
            let _alive = alive;
            pending::<HandlerResult<()>>().await
        }
    });
    let scene = Scene::new(&rig, builder).await;
    let mut attacker = scene.attacker_2(PLENTY).await;
    let seen = scene.attacker_seen().await;
    scene
        .beside(RESETS / BATCH / 10, async {
            for first in (0..RESETS).step_by(BATCH as usize) {
                let mut records = Vec::new();
                for number in (first..first + BATCH).map(|n| 2 * u64::from(n)) {
                    let cancel = Record::Cancel { call: number };
                    if number % 4 == 0 {
                        records.extend([open(number, "hold", whole("1")), cancel]);
                    } else {
                        let goes_on = data(number, 1, part("1"));
                        records.extend([open(number, "hold", part("1")), cancel, goes_on]);
                    }
                }
                attacker.say_records(&records).await;
                for _ in 0..BATCH {
                    let (_, answer) = attacker.hear_answer().await;
                    assert!(matches!(answer, Record::Fail { .. }), "{answer:?}");
                }
            }
        })
        .await;
    assert_eq!(live.load(Ordering::SeqCst), 0, "whatever was cancelled has ended");
    assert!(most.load(Ordering::SeqCst) <= PLACES, "{most:?} handlers at a time");
    let stats = seen.stats();
    assert_eq!((stats.requests_running, stats.requests_queued, stats.anomalies), (0, 0, 0));
    assert_eq!(stats.requests_failed, u64::from(RESETS));
    scene.end().await;
}

/// The same by a peer that does not read the answers: it is cut off.
pub async fn resets_without_reading(rig: Rig) {
    let limits = Limits::default().max_outgoing_bytes(64 * 1024);
    let builder = rig.builder().limits(limits).handle("hold", |_: Value, _| pending::<HandlerResult<()>>());
    let mut scene = Scene::new(&rig, builder).await;
    // Not much of what is not read hides in a buffer like this.
    let (ours, theirs) = duplex(4096);
    scene.binder.accept(theirs, "memory").expect("there is room");
    let mut attacker = RawPeer::connect_2(ours, PLENTY).await;
    let attack = async move {
        for number in (0_u64..).map(|n| 2 * n) {
            attacker.queue_records(&[open(number, "hold", whole("1")), Record::Cancel { call: number }]);
            if attacker.try_flush().await.is_err() {
                return;
            }
        }
    };
    scene.beside(10, attack).await;
    let cause = scene.disconnected().await;
    assert!(matches!(cause, DisconnectCause::Connection(CloseCause::PeerNotReading)), "{cause:?}");
    scene.end().await;
}

/// Arguments that are never complete take the room in which bodies are reassembled, up to what one peer may and what all
/// may; small calls need none, and a call that waits gets what a cancellation or the end of a link frees, in turn.
pub async fn bodies_without_an_end(rig: Rig) {
    const MIB: usize = 1 << 20;
    const HALF: usize = 500_000;
    const BEGUN: usize = 10_000;
    let limits = Limits::default().max_body(MIB).max_reassembly_per_peer(MIB).max_reassembly(2 * MIB);
    let mut scene = Scene::new(&rig, rig.builder().limits(limits)).await;
    let mut attackers = [scene.attacker_2(PLENTY).await, scene.attacker_2(PLENTY).await];
    scene
        .beside(0, async {
            for attacker in &mut attackers {
                for number in [0, 2] {
                    let begun =
                        [open_sized(number, "echo", HALF, MAX_FIRST), data(number, MAX_FIRST, part("x"))];
                    attacker.queue_records(&begun);
                }
                attacker.flush().await;
                // Both have their room once they get credit.
                let mut begun = BTreeSet::new();
                while begun.len() < 2 {
                    if let Record::Credit { call, .. } = attacker.hear_record().await {
                        begun.insert(call);
                    }
                }
                // There is no room for this one beside its own two: it gets no more credit.
                attacker.queue_records(&[
                    open_sized(4, "echo", 100_000, MAX_FIRST),
                    data(4, MAX_FIRST, part(vec![7; BEGUN])),
                ]);
                attacker.say_records(&[open(6, "echo", whole("small"))]).await;
                loop {
                    match attacker.hear_record().await {
                        Record::Result { call: 6, .. } => break,
                        Record::Credit { call: 4, .. } => panic!("there is no room for it"),
                        _ => {}
                    }
                }
            }
        })
        .await;
    // Together they have left too little for this one.
    let large = |size| scene.honest.peer().invoke_raw("echo", vec![5; size]).into_future();
    let mut waiting = large(300_000);
    scene.beside(0, async {}).await;
    assert!(poll_once(&mut waiting).await.is_none(), "there is no room for it");
    let [attacker, _] = &mut attackers;
    attacker.say_records(&[Record::Cancel { call: 0 }]).await;
    assert_eq!(waiting.await.expect("there is room now").len(), 300_000);
    // And for the attacker's own, which now gets credit.
    let (mut cancelled, mut given) = (false, false);
    while !(cancelled && given) {
        match attacker.hear_record().await {
            // Or its handler found out first that there will be no more.
            Record::Fail { call: 0, .. } => cancelled = true,
            // Enough for the rest of it.
            Record::Credit { call: 4, limit, .. } => given |= limit > (100_000 - MAX_FIRST) as u64,
            _ => {}
        }
    }
    let mut at = MAX_FIRST + BEGUN;
    while at < 100_000 {
        let more = (100_000 - at).min(40_000);
        let piece = Piece { fin: at + more == 100_000, ..part(vec![7; more]) };
        attacker.say_records(&[data(4, at, piece)]).await;
        at += more;
    }
    let (number, answer) = attacker.hear_answer().await;
    let Record::Result { piece, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((number, rest_of_result(attacker, 4, piece.bytes.len()).await), (4, 100_000));
    let mut waiting = large(MIB);
    scene.beside(0, async {}).await;
    assert!(poll_once(&mut waiting).await.is_none(), "there is no room for it");
    drop(attackers);
    assert_eq!(waiting.await.expect("nobody else is there").len(), MIB);
    scene.disconnected().await;
    scene.disconnected().await;
    scene.end().await;
}

/// Credit for one byte at a time, and credit that goes back in between: a result leaves byte by byte, and others don't wait.
pub async fn credit_by_the_byte(rig: Rig) {
    const ROUNDS: usize = 3_000;
    let scene = Scene::new(&rig, filling(rig.builder())).await;
    let mut attacker = scene.attacker_2((0, 0)).await;
    scene
        .beside(10, async {
            attacker.say_records(&[open(0, "fill", whole("1000000"))]).await;
            let (_, answer) = attacker.hear_answer().await;
            let Record::Result { piece, .. } = answer else { panic!("{answer:?}") };
            let mut got = piece.bytes.len();
            assert_eq!(got, MAX_FIRST, "as much as needs no credit");
            let one = RECORD_COST + 1;
            for limit in (1..=ROUNDS as u64).map(|n| n * one) {
                let back = [credit(0, limit - one), credit(0, 0), Record::LinkCredit { limit: 0 }];
                attacker.queue_records(&[credit(0, limit), Record::LinkCredit { limit }]);
                attacker.say_records(&back).await;
                let record = attacker.hear_record().await;
                let Record::Data { call: 0, offset, piece } = record else { panic!("{record:?}") };
                assert_eq!((offset, piece.bytes.len()), (got as u64, 1));
                got += 1;
            }
            attacker.say_records(&[credit(0, u64::MAX), Record::LinkCredit { limit: u64::MAX }]).await;
            assert_eq!(rest_of_result(&mut attacker, 0, got).await, 1_000_000);
        })
        .await;
    scene.end().await;
}

/// Results for which there is never credit: they wait up to a limit, besides those of handlers that run by then; no more
/// start for this peer, and its calls are refused. Once it gives credit, all of them leave.
pub async fn results_that_get_no_credit(rig: Rig) {
    const QUEUE: usize = 100;
    const CALLS: usize = 2_000;
    const SIZE: usize = 300_000;
    const PLACES: usize = 4;
    let limits = Limits::default().max_outgoing_bytes(1 << 20).max_queue(QUEUE).max_concurrency(PLACES);
    let scene = Scene::new(&rig, filling(rig.builder()).limits(limits)).await;
    let mut attacker = scene.attacker_2((0, 0)).await;
    let seen = scene.attacker_seen().await;
    let mut begun = Vec::new();
    scene
        .beside(0, async {
            for number in 0..CALLS as u64 {
                attacker.queue_records(&[open(2 * number, "fill", whole(SIZE.to_string()))]);
            }
            attacker.flush().await;
            let mut refused = 0;
            while refused + begun.len() + QUEUE < CALLS {
                match attacker.hear_answer().await {
                    (number, Record::Result { piece, .. }) => begun.push((number, piece.bytes.len())),
                    (_, Record::Fail { failure: Failure::Error(info), .. }) => {
                        assert_eq!(Refusal::of(&info), Some(Refusal::Busy));
                        refused += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
    assert_eq!(seen.stats().requests_queued, QUEUE as u64);
    // Those that run when the limit is exceeded end, and so do those that took their places before that was known.
    let most = (1_usize << 20).div_ceil(SIZE - MAX_FIRST);
    assert!((most..most + 2 * PLACES).contains(&begun.len()), "{} results wait", begun.len());
    let mut got: BTreeMap<u64, usize> = begun.iter().copied().collect();
    let mut complete = 0;
    let give = async {
        attacker.queue_records(&[Record::LinkCredit { limit: u64::MAX }]);
        for (number, _) in &begun {
            attacker.queue_records(&[credit(*number, u64::MAX)]);
        }
        attacker.flush().await;
        while complete < QUEUE + begun.len() {
            match attacker.hear_record().await {
                Record::Result { call, piece, .. } => {
                    got.insert(call, piece.bytes.len());
                    attacker.say_records(&[credit(call, u64::MAX)]).await;
                }
                Record::Data { call, piece, .. } => {
                    let size = got.entry(call).or_default();
                    *size += piece.bytes.len();
                    complete += usize::from(piece.fin);
                }
                other => panic!("{other:?}"),
            }
        }
    };
    scene.beside(0, give).await;
    assert!(got.values().all(|size| *size == SIZE), "{got:?}");
    scene.end().await;
}

/// Records that close a connection, each with its own violation.
fn fatal() -> Vec<(Violation, Vec<Record>)> {
    let first = || open(0, "echo", whole("good"));
    let result = |call| Record::Result { call, options: Options::default(), piece: whole("x") };
    let fail = |call| Record::Fail { call, failure: Failure::Cancelled, options: Options::default() };
    vec![
        (Violation::Sequence, vec![open(2, "echo", whole("jumped"))]),
        (Violation::Sequence, vec![first(), first()]),
        (Violation::Sequence, vec![first(), open(2, "echo", whole("")), first()]),
        (Violation::Sequence, vec![open(MAX_CALL - 1, "echo", whole("the last that there is"))]),
        (Violation::Packet, vec![open(MAX_CALL + 1, "echo", whole("past it"))]),
        (Violation::WrongSide, vec![open(1, "echo", whole("the binder's"))]),
        (Violation::Sequence, vec![data(0, 0, part("of none"))]),
        (Violation::Sequence, vec![Record::Cancel { call: 0 }]),
        (Violation::WrongSide, vec![Record::Cancel { call: 1 }]),
        (Violation::Sequence, vec![Record::Abort { call: 0 }]),
        (Violation::Sequence, vec![Record::Stop { call: 1 }]),
        (Violation::WrongSide, vec![first(), Record::Stop { call: 0 }]),
        (Violation::Sequence, vec![result(1)]),
        (Violation::WrongSide, vec![first(), result(0)]),
        (Violation::Sequence, vec![fail(1)]),
        (Violation::WrongSide, vec![first(), fail(0)]),
        (Violation::Sequence, vec![credit(0, 1)]),
        (Violation::WrongSide, vec![Record::Goodbye { next: 0 }]),
    ]
}

/// Packets that can't be read.
fn unreadable() -> Vec<Vec<u8>> {
    vec![
        // Records of types that have to be known, and are not.
        vec![0x91, 0],
        vec![0x91, 11],
        vec![0x92, 31, 0xc0],
        // No records, ones that are cut off, and ones that declare what is not there.
        vec![],
        vec![0xc0],
        vec![0x92, 5],
        vec![0xdd, 0xff, 0xff, 0xff, 0xff, 5],
        vec![0x95, 4, 0, 0, 0, 0xc6, 0xff, 0xff, 0xff, 0xff],
        vec![0x91; 100_000],
        vec![0x40; MAX_PACKET + 1],
    ]
}

/// Numbers of calls that are jumped, used twice, never used or the other side's, and packets that can't be read: each costs
/// its sender the connection, and no other peer.
pub async fn numbers_and_records_that_break_the_link(rig: Rig) {
    let mut scene = Scene::new(&rig, rig.builder()).await;
    let packets = unreadable().into_iter().map(|packet| (Violation::Packet, Vec::new(), Some(packet)));
    let records = fatal().into_iter().map(|(violation, records)| (violation, records, None));
    for (expected, records, packet) in records.chain(packets) {
        let mut attacker = scene.attacker_2(PLENTY).await;
        attacker.queue_records(&records);
        if let Some(packet) = &packet {
            attacker.queue(Multipart::single(packet.clone().into(), Bytes::new()));
        }
        let attack = async {
            attacker.flush().await;
            attacker.until_closed().await;
        };
        scene.beside(0, attack).await;
        let cause = scene.disconnected().await;
        assert_eq!(violation(&cause), Some(expected), "{records:?} {packet:?}: {cause:?}");
    }
    // One that acknowledges what was not sent.
    let mut attacker = scene.attacker_2(PLENTY).await;
    let begin = |_: BodyReader, responder: Responder, _: Context| async move {
        let _writer = responder.begin().await?;
        pending::<HandlerResult<()>>().await
    };
    scene.binder.handlers().add_stream("begin", begin).expect("a new name");
    attacker.say_records(&[open(0, "begin", whole(""))]).await;
    attacker.hear_answer().await;
    attacker.say_records(&[Record::Credit { call: 0, consumed: 1, limit: 0 }]).await;
    let cause = scene.disconnected().await;
    assert_eq!(violation(&cause), Some(Violation::Acknowledgement), "{cause:?}");
    scene.end().await;
}

/// Records of calls that have ended, data for them, credit for unknown calls, records of a later version, and goodbyes: all are
/// ignored, and the credit that the data used is returned.
pub async fn records_that_mean_nothing(rig: Rig) {
    let limits = Limits::default()
        .stream_window(MAX_CHUNK as u64)
        .max_queue_bytes(MAX_CHUNK)
        .max_stream_bytes(MAX_CHUNK as u64);
    let scene = Scene::new(&rig, rig.builder().limits(limits)).await;
    let mut attacker = scene.attacker_2(PLENTY).await;
    let seen = scene.attacker_seen().await;
    call(&mut attacker, 0).await;
    let nothing = [
        Record::Cancel { call: 0 },
        Record::Abort { call: 0 },
        credit(0, 7),
        Record::LinkCredit { limit: 0 },
        Record::Goodbye { next: 1 },
        data(0, 4, part("late")),
    ];
    let later = Multipart::single(Bytes::from_static(b"\x92\x20\xc0\x91\xcd\x7f\xff"), Bytes::new());
    scene
        .beside(BESIDE_FLOOD, async {
            for batch in 0..MANY / BATCH {
                for record in &nothing {
                    attacker.queue_records(&vec![record.clone(); BATCH as usize]);
                }
                for _ in 0..BATCH {
                    attacker.queue(later.clone());
                }
                call(&mut attacker, 2 + 2 * u64::from(batch)).await;
            }
        })
        .await;
    assert_eq!(seen.stats().anomalies, 0);
    scene.end().await;
}
