//! How fast two ZMTP links in memory are, under NULL and under CURVE: messages of 64 B to 1 MiB, and handshakes.
//!
//! `cargo test --release -p callosum-proto --features curve --test link_speed -- --ignored --nocapture`

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::unwrap_used, reason = "a panic is a failed measurement")]

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use callosum_proto::zmtp::{CurveKeyPair, Link, LinkConfig, LinkEvent, Mechanism};
use callosum_proto::{Multipart, Role};

/// How long each row is measured, in each of its rounds.
const ROUND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 7;

/// Moves all that one link has to write to the other, as a host with a buffer of its own does.
fn carry(from: &mut Link, to: &mut Link, buffer: &mut BytesMut, now: Instant) {
    while from.pending_output() > 0 {
        let mut slices = [IoSlice::new(&[]); 32];
        let filled = from.output(&mut slices);
        buffer.clear();
        slices[..filled].iter().for_each(|slice| buffer.extend_from_slice(slice));
        from.advance_output(buffer.len());
        let data = std::mem::take(buffer).freeze();
        to.handle_input(now, &data).unwrap();
        *buffer = data.try_into_mut().unwrap_or_default();
    }
}

fn pair(curve: bool, now: Instant) -> [Link; 2] {
    let mut configs = [Role::Connector, Role::Binder].map(LinkConfig::new);
    if curve {
        let [client, server] = [[1; 32], [2; 32]].map(CurveKeyPair::generate);
        configs[0].mechanism = Mechanism::CurveClient { keys: client, server: server.public() };
        configs[1].mechanism = Mechanism::CurveServer { keys: server };
    }
    let [mut client, mut server] = configs.map(|config| Link::new(&config, [config.role as u8; 32], now));
    let mut buffer = BytesMut::new();
    while !client.is_established() || !server.is_established() {
        carry(&mut client, &mut server, &mut buffer, now);
        server.admit(now);
        carry(&mut server, &mut client, &mut buffer, now);
    }
    while client.poll_event().is_some() || server.poll_event().is_some() {}
    [client, server]
}

/// Nanoseconds for each of `per_step` things that `step` does: the median and the best of the rounds.
fn measure(per_step: usize, mut step: impl FnMut()) -> (f64, f64) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (start, mut steps) = (Instant::now(), 0);
            while start.elapsed() < ROUND {
                step();
                steps += 1;
            }
            start.elapsed().as_nanos() as f64 / (steps * per_step) as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    (rounds[ROUNDS / 2], rounds[0])
}

#[test]
#[ignore = "it measures"]
fn speed() {
    let now = Instant::now();
    for curve in [false, true] {
        let name = if curve { "CURVE" } else { "NULL" };
        for (len, batch) in [(64, 64), (1024, 16), (64 << 10, 1), (1 << 20, 1)] {
            let [mut client, mut server] = pair(curve, now);
            let body = Bytes::from(vec![7; len]);
            let mut buffer = BytesMut::new();
            let (median, best) = measure(batch, || {
                for _ in 0..batch {
                    client.send(Multipart::single(body.clone(), Bytes::new())).unwrap();
                }
                carry(&mut client, &mut server, &mut buffer, now);
                for _ in 0..batch {
                    assert!(matches!(server.poll_event(), Some(LinkEvent::Message(_))));
                }
            });
            let rate = len as f64 / median * 1e3;
            println!("{name:5} {len:8} B: {median:10.0} ns a message (best {best:10.0}), {rate:6.0} MB/s");
        }
        let (median, best) = measure(1, || drop(pair(curve, now)));
        println!("{name:5} handshake, both ends: {:8.1} us (best {:8.1})", median / 1e3, best / 1e3);
    }
}
