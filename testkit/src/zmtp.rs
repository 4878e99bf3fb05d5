//! One link, and a peer that sends arbitrary bytes, split anywhere.

use std::time::Instant;

use callosum_proto::Role;
use callosum_proto::zmtp::{Link, LinkConfig, LinkError, LinkEvent};

use crate::curve_handshake::written;

const MAX_MESSAGE: usize = 4 * 1024;

/// Feeds the input to a link at once and in pieces; the effects must be equal. The first byte chooses the link's role, and
/// whether a real handshake comes first; the second seeds how the rest is split.
///
/// # Panics
/// If the effects depend on how the input is split, or a message exceeds the limit.
pub fn zmtp(data: &[u8], now: Instant) {
    let Some(([choice, seed], input)) = data.split_first_chunk() else { return };
    let role = if choice & 1 == 0 { Role::Binder } else { Role::Connector };
    let real = choice & 2 != 0;
    let whole = run(role, real, now, &[input]);
    let pieces = split(input, *seed);
    assert_eq!(whole, run(role, real, now, &pieces), "it matters how {} bytes are split", input.len());
}

fn split(mut input: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut state = u32::from(seed) + 1;
    while !input.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let len = (1 + (state >> 24) as usize % (1 + usize::from(seed) / 4)).min(input.len());
        let (piece, rest) = input.split_at(len);
        pieces.push(piece);
        input = rest;
    }
    pieces
}

/// The effects of an input: events, output, and how the link ends.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    events: Vec<LinkEvent>,
    output: Vec<u8>,
    end: Result<(), LinkError>,
}

fn run(role: Role, real: bool, now: Instant, pieces: &[&[u8]]) -> Outcome {
    let mut link = link(role, now);
    let mut events = Vec::new();
    if real {
        shake_hands(&mut link, role, now);
        assert!(link.is_established() && matches!(link.poll_event(), Some(LinkEvent::Established { .. })));
    }
    let (mut output, mut end) = (written(&mut link), Ok(()));
    for piece in pieces {
        end = link.handle_input(now, piece);
        while let Some(event) = link.poll_event() {
            if let LinkEvent::Message(message) = &event {
                assert!(message.size() <= MAX_MESSAGE, "{} bytes", message.size());
            }
            events.push(event);
        }
        output.extend(written(&mut link));
        if end.is_err() {
            assert_eq!(link.poll_timeout(), None);
            break;
        }
        assert!(link.poll_timeout().is_none_or(|at| at > now), "would spin");
    }
    Outcome { events, output, end }
}

fn link(role: Role, now: Instant) -> Link {
    let mut config = LinkConfig::new(role);
    config.max_message_size = MAX_MESSAGE;
    Link::new(&config, [7; 32], now)
}

fn shake_hands(link: &mut Link, role: Role, now: Instant) {
    let mut peer = self::link(if role == Role::Binder { Role::Connector } else { Role::Binder }, now);
    loop {
        let (ours, theirs) = (written(link), written(&mut peer));
        if ours.is_empty() && theirs.is_empty() {
            return;
        }
        peer.handle_input(now, &ours).expect("our own handshake");
        link.handle_input(now, &theirs).expect("our own handshake");
    }
}
