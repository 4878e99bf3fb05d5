//! Properties of a ZMTP link: whatever the bytes and however they are split.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::time::Instant;

use bytes::Bytes;
use callosum_proto::zmtp::{Link, LinkConfig, LinkError, LinkEvent};
use callosum_proto::{Multipart, Role};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::output::{all_written, written};

/// What a link makes of `input` when it is cut after each of `cuts`' lengths in turn.
fn outcome(input: &[u8], cuts: &[usize]) -> (Vec<LinkEvent>, Result<(), LinkError>, Vec<u8>) {
    let now = Instant::now();
    let mut link = Link::new(&small_config(Role::Binder), [7; 32], now);
    let mut events = Vec::new();
    let mut rest = input;
    let mut result = Ok(());
    for cut in cuts.iter().chain(std::iter::repeat(&usize::MAX)) {
        if rest.is_empty() || result.is_err() {
            break;
        }
        let (piece, after) = rest.split_at((*cut).clamp(1, rest.len()));
        rest = after;
        result = link.handle_input(now, piece);
        events.extend(std::iter::from_fn(|| link.poll_event()));
    }
    (events, result, all_written(&mut link))
}

fn small_config(role: Role) -> LinkConfig {
    let mut config = LinkConfig::new(role);
    config.max_message_size = 400_000;
    config
}

/// What a connector says to a binder: handshake and these messages.
fn transcript(messages: &[Multipart]) -> Vec<u8> {
    let now = Instant::now();
    let mut connector = Link::new(&LinkConfig::new(Role::Connector), [7; 32], now);
    let mut binder = Link::new(&LinkConfig::new(Role::Binder), [7; 32], now);
    let mut said = all_written(&mut connector);
    binder.handle_input(now, &said).unwrap();
    connector.handle_input(now, &all_written(&mut binder)).unwrap();
    for message in messages {
        connector.send(message.clone()).unwrap();
    }
    said.extend(all_written(&mut connector));
    said
}

fn body(len: usize, seed: u8) -> Bytes {
    (0..len).map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0..80_usize,
        2 => Just(0),
        2 => 254..258_usize,
        2 => 2_040..2_056_usize,
        2 => 8_190..8_196_usize,
        1 => 60_000..130_000_usize,
    ]
}

fn message() -> impl Strategy<Value = Multipart> {
    (vec(size(), 1..=3), prop_oneof![3 => Just(0), 1 => size()], any::<u8>()).prop_map(
        |(sizes, tail, seed)| match sizes[..] {
            [marker, header, last] => Multipart::with_tail(
                body(marker, seed),
                body(header, seed ^ 1),
                body(last, seed ^ 2),
                body(tail, seed ^ 3),
            ),
            _ => Multipart::from_frames(sizes.iter().map(|size| body(*size, seed))).unwrap(),
        },
    )
}

fn sample() -> Vec<Multipart> {
    let text = Bytes::from_static;
    vec![
        Multipart::new(text(b"PING"), Bytes::new(), Bytes::new()),
        Multipart::new(text(b"UPPER"), body(40, 1), body(300, 2)),
        Multipart::from_frames([text(b"one")]).unwrap(),
    ]
}

fn as_sent(events: &[LinkEvent]) -> Vec<Multipart> {
    let message = |event: &LinkEvent| match event {
        LinkEvent::Message(message) => Some(message.clone()),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

#[test]
fn every_split_of_a_conversation_means_the_same() {
    let input = transcript(&sample());
    let whole = outcome(&input, &[]);
    assert_eq!(as_sent(&whole.0), sample());
    assert_eq!(whole.1, Ok(()));
    assert!(outcome(&input, &vec![1; input.len()]) == whole);
    for first in 1..input.len() {
        assert!(outcome(&input, &[first]) == whole, "split after {first}");
        assert!(outcome(&input, &[first, 1]) == whole, "split after {first} and one more");
    }
}

/// Moves up to `most` bytes; whether there were any.
fn carry(from: &mut Link, to: &mut Link, most: usize, now: Instant, got: &mut Vec<LinkEvent>) -> bool {
    let bytes = written(from, most);
    let any = !bytes.is_empty();
    to.handle_input(now, &bytes).unwrap();
    got.extend(std::iter::from_fn(|| to.poll_event()));
    any
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_links_understand_each_other(
        up in vec(message(), 0..6),
        down in vec(message(), 0..6),
        cuts in vec(prop_oneof![1..4_usize, 1..300_usize, 1..100_000_usize], 1..40),
    ) {
        let now = Instant::now();
        let mut connector = Link::new(&small_config(Role::Connector), [7; 32], now);
        let mut binder = Link::new(&small_config(Role::Binder), [7; 32], now);
        let (mut at_binder, mut at_connector) = (Vec::new(), Vec::new());
        let (mut to_send_up, mut to_send_down) = (up.iter(), down.iter());
        let mut cuts_used = 0;
        for cut in cuts.iter().cycle() {
            cuts_used += 1;
            // Tiny pieces only for a while: large bodies would take too long.
            let cut = if cuts_used > 2_000 { 1 << 20 } else { *cut };
            let mut busy = carry(&mut connector, &mut binder, cut, now, &mut at_binder);
            busy |= carry(&mut binder, &mut connector, cut / 2 + 1, now, &mut at_connector);
            for (link, queue) in [(&mut connector, &mut to_send_up), (&mut binder, &mut to_send_down)] {
                if link.is_established() && let Some(message) = queue.next() {
                    link.send(message.clone()).unwrap();
                    busy = true;
                }
            }
            if !busy {
                break;
            }
        }
        let is_first = |events: &[LinkEvent]| matches!(events[0], LinkEvent::Established { .. });
        prop_assert!(is_first(&at_binder) && is_first(&at_connector));
        prop_assert!(as_sent(&at_binder) == up);
        prop_assert!(as_sent(&at_connector) == down);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_mean_the_same_however_split(
        established in 0..3_u8,
        noise in vec(prop_oneof![0..8_u8, any::<u8>()], 0..400),
        cuts in vec(1..40_usize, 0..60),
    ) {
        // Before the greeting, after it, or after the handshake.
        let mut input = match established {
            0 => Vec::new(),
            1 => transcript(&[])[..64].to_vec(),
            _ => transcript(&[]),
        };
        input.extend(&noise);
        prop_assert!(outcome(&input, &cuts) == outcome(&input, &[]));
    }

    #[test]
    fn damaged_conversations_mean_the_same_however_split(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cuts in vec(1..40_usize, 0..60),
    ) {
        let mut input = transcript(&sample());
        for (index, byte) in damage {
            let index = index.index(input.len());
            input[index] = byte;
        }
        prop_assert!(outcome(&input, &cuts) == outcome(&input, &[]));
    }
}
