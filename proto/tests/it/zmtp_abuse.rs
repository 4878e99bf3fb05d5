//! Links whose peer means harm: any length at any split, handshakes that trickle, clocks that jump.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::zmtp::{CurveKeyPair, Link, LinkConfig, LinkError, LinkEvent, Mechanism};
use callosum_proto::{Multipart, Role};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Largest message, and the head of every command and handshake.
const MAX_MESSAGE: u64 = 1 << 20;
const MAX_COMMAND: u64 = 8 << 10;

fn written(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while link.pending_output() > 0 {
        let mut slices = [IoSlice::new(&[]); 4];
        let filled = link.output(&mut slices);
        let piece: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        link.advance_output(piece.len());
        bytes.extend(piece);
    }
    bytes
}

fn config(role: Role) -> LinkConfig {
    let mut config = LinkConfig::new(role);
    config.max_message_size = MAX_MESSAGE as usize;
    config
}

fn feed(link: &mut Link, now: Instant, data: &[u8]) -> Result<(), LinkError> {
    link.handle_input(now, data)
}

/// What a connector says under NULL.
fn opening(now: Instant) -> Vec<u8> {
    let mut client = Link::new(&config(Role::Connector), [7; 32], now);
    let mut server = Link::new(&config(Role::Binder), [7; 32], now);
    let mut said = written(&mut client);
    feed(&mut client, now, &written(&mut server)).unwrap();
    said.extend(written(&mut client));
    said
}

fn established(config: &LinkConfig, now: Instant) -> Link {
    let mut link = Link::new(config, [7; 32], now);
    feed(&mut link, now, &opening(now)).unwrap();
    assert!(matches!(link.poll_event(), Some(LinkEvent::Established { .. })));
    written(&mut link);
    link
}

/// 2^k-1, 2^k and 2^k+1 for every k that a length has.
fn lengths() -> BTreeSet<u64> {
    let around = |power: u64| [power - 1, power, power.saturating_add(1)];
    (0..64).flat_map(|k| around(1 << k)).chain([u64::MAX - 1, u64::MAX]).collect()
}

fn head(flags: u8, len: u64) -> Vec<u8> {
    let mut head = vec![flags | LONG];
    head.extend(len.to_be_bytes());
    head
}

/// Where a head of `len` bytes is cut in two, and all single bytes.
fn cuts(head: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut cuts: Vec<Vec<&[u8]>> = (0..=head.len()).map(|at| vec![&head[..at], &head[at..]]).collect();
    cuts.push(head.chunks(1).collect());
    cuts
}

fn feed_all(link: &mut Link, now: Instant, pieces: &[&[u8]]) -> Result<(), LinkError> {
    pieces.iter().try_for_each(|piece| feed(link, now, piece))
}

/// A length is taken or refused as its limit says when its last byte is here, wherever the stream is cut.
#[test]
fn any_length_at_any_split_is_taken_or_refused_as_announced() {
    let now = Instant::now();
    for len in lengths() {
        // After a frame of 100 bytes, which counts.
        for before in [0, 100_u64] {
            let head = head(0, len);
            for pieces in cuts(&head) {
                let mut link = established(&config(Role::Binder), now);
                if before > 0 {
                    feed(&mut link, now, &[&[MORE, 100][..], &[7; 100]].concat()).unwrap();
                }
                let size = len.saturating_add(before);
                let expected = match size <= MAX_MESSAGE {
                    true => Ok(()),
                    false => Err(LinkError::TooLarge { size, max: MAX_MESSAGE as usize }),
                };
                assert_eq!(feed_all(&mut link, now, &pieces), expected, "{len} after {before}, {pieces:?}");
                let message = len == 0;
                assert_eq!(link.poll_event().is_some(), message, "{len} after {before}");
            }
        }
    }
}

#[test]
fn any_length_of_a_command_at_any_split_is_taken_or_refused_as_announced() {
    let now = Instant::now();
    let greeting = opening(now)[..64].to_vec();
    for len in lengths().into_iter().filter(|len| *len > 0) {
        let head = head(COMMAND, len);
        for pieces in cuts(&head) {
            let mut link = established(&config(Role::Binder), now);
            let expected = match len <= MAX_COMMAND {
                true => Ok(()),
                false => Err(LinkError::TooLarge { size: len, max: MAX_COMMAND as usize }),
            };
            assert_eq!(feed_all(&mut link, now, &pieces), expected, "{len}, {pieces:?}");

            let mut link = Link::new(&config(Role::Binder), [7; 32], now);
            feed(&mut link, now, &greeting).unwrap();
            let used = (greeting.len() + head.len()) as u64;
            let expected = match len.saturating_add(used) <= 8 << 10 {
                true => Ok(()),
                false => Err(LinkError::HandshakeTooLarge { max: 8 << 10 }),
            };
            assert_eq!(feed_all(&mut link, now, &pieces), expected, "{len} in the handshake, {pieces:?}");
        }
    }
}

/// What is taken comes out as it is: at every split where it is small, and around the ends where it is large, also if the link has
/// given back spare memory in between.
#[test]
fn messages_of_any_length_at_any_split_come_whole() {
    let now = Instant::now();
    let mut link = established(&config(Role::Binder), now);
    for len in lengths().into_iter().take_while(|len| *len <= MAX_MESSAGE) {
        let body: Bytes = (0..len).map(|index| (index / 3) as u8).collect();
        let mut forms = vec![head(0, len)];
        if len <= 255 {
            forms.push(vec![0, len as u8]);
        }
        for head in forms {
            let stream = Bytes::from([&head[..], &body].concat());
            let step = (stream.len() / 2_000).max(1);
            let splits = (0..stream.len()).filter(|at| *at < 16 || *at + 4 > stream.len() || at % step == 0);
            for at in splits {
                link.handle_input(now, &stream.slice(..at)).unwrap();
                assert_eq!(link.poll_event(), None);
                if at % 2 == 0 {
                    link.handle_timeout(now).unwrap();
                }
                link.handle_input(now, &stream.slice(at..)).unwrap();
                let expected = Multipart::from_frames([body.clone()]).unwrap();
                assert!(link.poll_event() == Some(LinkEvent::Message(expected)), "{len} cut at {at}");
            }
        }
    }
}

fn curve() -> (LinkConfig, LinkConfig) {
    let (mut client, mut server) = (config(Role::Connector), config(Role::Binder));
    let keys = CurveKeyPair::generate([11; 32]);
    client.mechanism =
        Mechanism::CurveClient { keys: CurveKeyPair::generate([22; 32]), server: keys.public() };
    server.mechanism = Mechanism::CurveServer { keys };
    (client, server)
}

/// A client that says one byte each `tick`, until the link is established or refused; how long that took.
fn trickle(client: &LinkConfig, server: &LinkConfig, tick: Duration) -> (Duration, Result<(), LinkError>) {
    let start = Instant::now();
    let (mut client, mut server) = (Link::new(client, [7; 32], start), Link::new(server, [8; 32], start));
    let mut now = start;
    let mut to_say = std::collections::VecDeque::from(written(&mut client));
    loop {
        now += tick;
        if let Err(error) = server.handle_timeout(now) {
            return (now - start, Err(error));
        }
        let byte = to_say.pop_front().expect("there is something to say until it is established");
        server.handle_input(now, &[byte]).unwrap();
        while let Some(event) = server.poll_event() {
            match event {
                LinkEvent::AuthenticationRequested { .. } => {
                    server.admit(now);
                }
                LinkEvent::Established { .. } => return (now - start, Ok(())),
                other => panic!("{other:?}"),
            }
        }
        client.handle_input(now, &written(&mut server)).unwrap();
        to_say.extend(written(&mut client));
        assert!(server.poll_timeout().is_none_or(|at| at > now), "it would spin");
    }
}

/// One byte each tick completes a handshake in time or not at all, and the time does not depend on the bytes.
#[test]
fn one_byte_each_tick_gets_in_within_the_time_or_not_at_all() {
    let null = (config(Role::Connector), config(Role::Binder));
    for (name, (client, server)) in [("NULL", null), ("CURVE", curve())] {
        let tick = Duration::from_millis(1);
        let (taken, result) = trickle(&client, &server, tick);
        assert_eq!(result, Ok(()), "{name}");
        let bytes = u32::try_from(taken.as_millis()).unwrap();
        assert!((90..2_000).contains(&bytes), "{name} takes {bytes} bytes");

        // So slowly that the last byte comes at the deadline, and so that it comes just before.
        let limit = server.handshake_timeout;
        let (taken, result) = trickle(&client, &server, limit / bytes + Duration::from_nanos(1));
        assert_eq!(result, Err(LinkError::HandshakeTimedOut), "{name}");
        assert!(taken >= limit && taken < limit + limit / bytes * 2, "{name}: {taken:?}");
        let (_, result) = trickle(&client, &server, limit / (bytes + 1));
        assert_eq!(result, Ok(()), "{name}");
    }
}

const INTERVAL: Duration = Duration::from_secs(30);

/// A clock that jumps ahead, as after a machine has slept, costs no link whose peer still answers.
#[test]
fn a_clock_that_jumps_ahead_pings_before_it_gives_up() {
    let mut now = Instant::now();
    let mut link = established(&config(Role::Binder), now);
    for _ in 0..100 {
        now += Duration::from_secs(24 * 60 * 60);
        link.handle_timeout(now).unwrap();
        assert_eq!(written(&mut link), b"\x04\x0f\x04PING\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(link.poll_timeout(), Some(now + INTERVAL));
        feed(&mut link, now, b"\x04\x05\x04PONG").unwrap();
        assert_eq!(link.poll_timeout(), Some(now + INTERVAL));
    }
    // Ahead by a day three times without a byte: two PINGs, then the end.
    for ends in [false, false, true] {
        now += Duration::from_secs(24 * 60 * 60);
        assert_eq!(link.handle_timeout(now), if ends { Err(LinkError::KeepaliveTimedOut) } else { Ok(()) });
    }
}

/// A clock that goes back, or to and fro, only delays: the timer is never one that has passed, nobody is given up before
/// all PINGs are unanswered for an interval each, and a peer that is gone is given up in the end.
#[test]
fn a_clock_that_goes_back_only_delays() {
    let start = Instant::now() + Duration::from_secs(1_000_000);
    let second = |n: u32| Duration::from_secs(u64::from(n));
    let mut link = established(&config(Role::Binder), start);
    let mut pings = 0;
    // To and fro by up to an hour: a byte now and then, whatever the clock says.
    for step in 0..10_000_u32 {
        let now = start + second(step * 7919 % 3_600) - second(step * 104_729 % 3_600);
        link.handle_timeout(now).unwrap();
        pings += written(&mut link).len() / 17;
        assert!(link.poll_timeout().unwrap() > now, "it would spin");
        if step % 2 == 0 {
            feed(&mut link, now, b"\x04\x05\x04PONG").unwrap();
            assert_eq!(link.poll_timeout(), Some(now + INTERVAL));
        }
    }
    assert!(pings > 0);
    // Back by an hour, then silence: as long as usual from there.
    let back = start - second(3_600);
    feed(&mut link, back, b"\x04\x05\x04PONG").unwrap();
    let mut now = back;
    for _ in 0..2 {
        now += INTERVAL;
        link.handle_timeout(now).unwrap();
        assert_eq!(written(&mut link).len(), 17);
        link.handle_timeout(now - second(10)).unwrap();
        assert_eq!(link.pending_output(), 0);
    }
    assert_eq!(link.handle_timeout(now + INTERVAL), Err(LinkError::KeepaliveTimedOut));
}

/// Handshakes hold to their deadline, wherever the clock jumps meanwhile.
#[test]
fn a_handshake_ends_by_its_deadline_however_the_clock_jumps() {
    let start = Instant::now() + Duration::from_secs(100);
    let mut link = Link::new(&config(Role::Binder), [7; 32], start);
    link.handle_timeout(start - Duration::from_secs(50)).unwrap();
    assert_eq!(link.poll_timeout(), Some(start + Duration::from_secs(10)));
    feed(&mut link, start - Duration::from_secs(50), &opening(start)[..64]).unwrap();
    assert_eq!(link.poll_timeout(), Some(start + Duration::from_secs(10)));
    assert_eq!(link.handle_timeout(start + Duration::from_secs(86_400)), Err(LinkError::HandshakeTimedOut));
}
