//! What is seen of a tunnel, on virtual time.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use callosum_testkit::world::check;
use callosum_tunnel::{End, Reason, RuleSet, Rules, Side, TunnelEvent, TunnelSettings};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::*;

#[test]
fn connections_are_seen_while_they_live_and_when_they_end() {
    check(0..5, |world| async move {
        let rig = Rig::new(&world).await;
        let (mut events, mut serving) = (rig.tunnel.events(), rig.serving.events());
        let (mut here, mut there) = rig.through().await;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        write(&mut there, "a longer answer").await;
        expect(&mut here, "a longer answer").await;
        let [ours, theirs] = [rig.tunnel.connections(), rig.serving.connections()];
        for (seen, side) in [(&ours[0], Side::Accepting), (&theirs[0], Side::Connecting)] {
            assert_eq!((seen.to_target, seen.from_target, seen.is_open, seen.info.side), (4, 15, true, side));
            assert_eq!(seen.info.target.as_ref().unwrap().to_string(), "10.0.0.5:80");
        }
        assert!(
            ours[0].info.forward.ends_with(" → 10.0.0.5:80") && &*theirs[0].info.forward == "10.0.0.5:80"
        );
        world.sleep(60 * SECOND).await;
        here.close().await.unwrap();
        there.close().await.unwrap();
        expect_end(&mut here).await;
        for events in [&mut events, &mut serving] {
            let opened = event(events, |event| match event {
                TunnelEvent::Opened(connection) => Some(connection.id),
                _ => None,
            });
            let opened = opened.await;
            let summary = event(events, |event| match event {
                TunnelEvent::Closed(summary) => Some(summary),
                other => panic!("{other:?}"),
            });
            let summary = summary.await;
            assert_eq!((summary.connection.id, summary.end), (opened, End::Closed));
            assert_eq!((summary.to_target, summary.from_target), (4, 15));
            assert!(summary.duration >= 60 * SECOND && summary.duration < 61 * SECOND);
        }
        assert!(rig.tunnel.connections().is_empty() && rig.serving.connections().is_empty());
    });
}

#[test]
fn totals_are_kept_by_forward() {
    check(0..2, |world| async move {
        let rig = Rig::new(&world).await;
        for _ in 0..3 {
            let mut serving = rig.serving.events();
            let mut listener = listen(&rig.target, "0.0.0.0:80").await;
            let piping = rig.tunnel.pipe("10.0.0.5:80".parse().unwrap(), &b"ping"[..], Vec::new());
            let accepting = async {
                let mut there = listener.accept().await.unwrap().0;
                there.read_to_end(&mut Vec::new()).await.unwrap();
                write(&mut there, "pong!").await;
                there.close().await.unwrap();
            };
            assert_eq!(futures_util::future::join(piping, accepting).await.0, Ok(End::Closed));
            assert_eq!(end(&mut serving).await, End::Closed);
            let refused = rig.tunnel.pipe("10.0.0.5:81".parse().unwrap(), &[][..], Vec::new()).await;
            assert_eq!(refused, Err(Reason::Refused));
        }
        let totals = rig.serving.totals();
        let of = |forward: &str| totals.iter().find(|totals| &*totals.forward == forward).unwrap();
        let good = of("10.0.0.5:80");
        assert_eq!((good.connections, good.open, good.refused), (3, 0, 0));
        assert_eq!((good.to_target, good.from_target), (12, 15));
        assert_eq!((of("10.0.0.5:81").connections, of("10.0.0.5:81").refused), (0, 3));
        assert_eq!(rig.tunnel.totals().len(), 2);
    });
}

/// Writes down the spans of connections: their fields in the order in which they come.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).unwrap();
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() || metadata.name() == "tunnel"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.lock().unwrap();
        let mut line = String::new();
        span.record(&mut Fields(&mut line));
        spans.push(line);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap()[span.into_u64() as usize - 1]));
    }

    fn event(&self, event: &Event<'_>) {
        // Those of connections name their span.
        let Some(span) = event.parent() else { return };
        event.record(&mut Fields(&mut self.0.lock().unwrap()[span.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn each_connection_has_a_span_on_either_side() {
    let spans = Spans::default();
    let guard = tracing::subscriber::set_default(spans.clone());
    check(0..1, |world| async move {
        let rig = Rig::new(&world).await;
        let mut serving = rig.serving.events();
        let (mut here, mut there) = rig.through().await;
        write(&mut here, "ping").await;
        expect(&mut there, "ping").await;
        write(&mut there, "a longer answer").await;
        expect(&mut here, "a longer answer").await;
        world.sleep(60 * SECOND).await;
        here.close().await.unwrap();
        there.close().await.unwrap();
        assert_eq!(end(&mut serving).await, End::Closed);
        let refused = rig.tunnel.pipe("10.0.0.5:81".parse().unwrap(), &[][..], Vec::new()).await;
        assert_eq!(refused, Err(Reason::Refused));
    });
    drop(guard);
    let spans = spans.0.lock().unwrap();
    let [ours, theirs, refused_here, refused_there] = &spans[..] else { panic!("{spans:#?}") };
    for (span, side, fields) in [
        (
            ours,
            "Accepting",
            [
                "forward=127.0.0.1:",
                " to_target=4 from_target=15 duration=60.",
                " end=",
                "message=connection closed",
            ],
        ),
        (
            theirs,
            "Connecting",
            [
                "forward=10.0.0.5:80 target=10.0.0.5:80",
                " to_target=4 from_target=15 duration=60.",
                " end=",
                "message=connection closed",
            ],
        ),
        (
            refused_here,
            "Accepting",
            [
                "target=10.0.0.5:81",
                " to_target=0 from_target=0 duration=",
                " end=",
                "message=connection refused",
            ],
        ),
        (
            refused_there,
            "Connecting",
            [
                "target=10.0.0.5:81",
                " to_target=0 from_target=0 duration=",
                " end=",
                "message=connection refused",
            ],
        ),
    ] {
        assert!(span.contains(&format!(" side={side}")), "{span}");
        for field in fields {
            assert!(span.contains(field), "{field} is not in {span}");
        }
    }
    assert!(ours.contains(&format!(" end={} ", End::Closed)), "{ours}");
    assert!(refused_here.contains(&format!(" end={} ", Reason::Refused)), "{refused_here}");
}

/// Writes down the events that belong to no connection.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("callosum_tunnel::server")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        self.0.lock().unwrap().push(line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn what_becomes_of_each_listener_of_a_peer_is_logged() {
    let lines = Lines::default();
    let guard = tracing::subscriber::set_default(lines.clone());
    check(0..1, |world| async move {
        let rules =
            "[[listen]]\nname = \"a\"\nusers = [\"alice\"]\naddresses = [\"127.0.0.1\"]\nports = [80, 81]\n";
        let authorizer = RuleSet::new(Rules::parse(rules).unwrap()).anonymous("alice");
        let rig = Rig::with(&world, authorizer, TunnelSettings::default()).await;
        let _taken = listen(&rig.server, "127.0.0.1:81").await;
        let remote = async |port| {
            let address = format!("127.0.0.1:{port}").parse().unwrap();
            rig.tunnel.remote(address, "127.0.0.1:80".parse().unwrap()).await
        };
        remote(82).await.unwrap_err();
        remote(81).await.unwrap_err();
        let forward = remote(80).await.unwrap();
        forward.close();
        while connect(&rig.server, forward.address()).await.is_ok() {
            world.sleep(MS).await;
        }
    });
    drop(guard);
    let lines = lines.0.lock().unwrap();
    let [forbidden, in_use, opened, closed] = &lines[..] else { panic!("{lines:#?}") };
    for (line, parts) in [
        (forbidden, ["refused to listen", "address=127.0.0.1:82", "the rules forbid it"]),
        (in_use, ["can't listen", "address=127.0.0.1:81", "error="]),
        (opened, ["listening for a peer", "forward=127.0.0.1:80", ""]),
        (closed, ["no longer listening", "forward=127.0.0.1:80", ""]),
    ] {
        for part in parts {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
}

/// Names and labels of all metrics, and their values.
#[cfg(feature = "metrics")]
fn measured(
    snapshotter: &metrics_util::debugging::Snapshotter,
) -> Vec<(String, metrics_util::debugging::DebugValue)> {
    let snapshot = snapshotter.snapshot().into_vec().into_iter();
    let named = snapshot.map(|(key, _, _, value)| {
        let labels = key.key().labels().map(|label| format!("{}={}", label.key(), label.value()));
        (format!("{} {}", key.key().name(), labels.collect::<Vec<_>>().join(" ")), value)
    });
    named.collect()
}

/// A connection may live for days.
#[cfg(feature = "metrics")]
#[test]
fn metrics_count_bytes_while_a_connection_lives() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        check(0..1, |world| {
            let snapshotter = &snapshotter;
            async move {
                let rig = Rig::new(&world).await;
                let (mut here, mut there) = rig.through().await;
                write(&mut here, "ping").await;
                expect(&mut there, "ping").await;
                write(&mut there, "a longer answer").await;
                expect(&mut here, "a longer answer").await;
                let seen = measured(snapshotter);
                for (side, direction, bytes) in [
                    ("accepting", "to_target", 4),
                    ("connecting", "to_target", 4),
                    ("accepting", "from_target", 15),
                    ("connecting", "from_target", 15),
                ] {
                    let (side, direction) = (format!(" side={side} "), format!(" direction={direction}"));
                    let counted = seen.iter().find(|(name, _)| {
                        name.starts_with("callosum_tunnel_bytes_total")
                            && name.contains(&side)
                            && name.ends_with(&direction)
                    });
                    assert_eq!(
                        counted.map(|(_, value)| value),
                        Some(&DebugValue::Counter(bytes)),
                        "{seen:?}"
                    );
                }
            }
        });
    });
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_count_what_totals_do() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        check(0..1, |world| async move {
            let rig = Rig::new(&world).await;
            let mut serving = rig.serving.events();
            let (mut here, mut there) = rig.through().await;
            write(&mut here, "ping").await;
            expect(&mut there, "ping").await;
            here.close().await.unwrap();
            there.close().await.unwrap();
            assert_eq!(end(&mut serving).await, End::Closed);
            let refused = rig.tunnel.pipe("10.0.0.5:81".parse().unwrap(), &[][..], Vec::new()).await;
            assert_eq!(refused, Err(Reason::Refused));
        });
    });
    let seen = measured(&snapshotter);
    let value =
        |name: &str| &seen.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("{seen:?}")).1;
    for side in ["accepting", "connecting"] {
        // The name of a forward begins with its address here, and is its target there.
        let label = |port: &str| match side {
            "accepting" if port == "80" => "127.0.0.1:49152 → 10.0.0.5:80".to_owned(),
            "accepting" => format!("stdio → 10.0.0.5:{port}"),
            _ => format!("10.0.0.5:{port}"),
        };
        let counter = |name: &str| {
            let name = name.replace("SIDE", side).replace("OPENED", &label("80"));
            value(&name.replace("REFUSED", &label("81")))
        };
        let count = |name: &str, count| assert_eq!(*counter(name), DebugValue::Counter(count), "{name}");
        count("callosum_tunnel_connections_total side=SIDE user= forward=OPENED outcome=closed", 1);
        count("callosum_tunnel_connections_total side=SIDE user= forward=REFUSED outcome=refused", 1);
        count("callosum_tunnel_bytes_total side=SIDE user= forward=OPENED direction=to_target", 4);
        let gauge = counter("callosum_tunnel_connections side=SIDE user= forward=OPENED");
        assert_eq!(*gauge, DebugValue::Gauge(0.0.into()));
    }
}
