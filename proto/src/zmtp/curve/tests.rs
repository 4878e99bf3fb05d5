//! All bytes of a connection are a function of the seeds.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::time::Instant;

use super::CurveKeyPair;
use crate::zmtp::tests::written;
use crate::zmtp::{Link, LinkConfig, LinkEvent, Mechanism};
use crate::{Multipart, Role};

/// The bytes of client and server for these seeds, with a small and a large message each.
fn conversation(seeds: [u8; 2]) -> [Vec<u8>; 2] {
    let now = Instant::now();
    let [client, server] = [[1; 32], [2; 32]].map(CurveKeyPair::generate);
    let mut configs = [Role::Connector, Role::Binder].map(LinkConfig::new);
    configs[0].mechanism = Mechanism::CurveClient { keys: client, server: server.public() };
    configs[1].mechanism = Mechanism::CurveServer { keys: server };
    let [client, server] = &configs;
    let mut links = [Link::new(client, [seeds[0]; 32], now), Link::new(server, [seeds[1]; 32], now)];
    let (mut said, mut messages, mut sent) = ([Vec::new(), Vec::new()], 0, false);
    while messages < 4 {
        for from in [0, 1] {
            let bytes = written(&mut links[from]);
            said[from].extend_from_slice(&bytes);
            links[1 - from].handle_input(now, &bytes).unwrap();
        }
        if links[0].is_established() && !sent {
            sent = true;
            for (link, len) in links.iter_mut().zip([10, 100_000]) {
                link.send(Multipart::new("UPPER".into(), "header".into(), vec![7; len].into())).unwrap();
                link.send(Multipart::single("small".into(), vec![8; len].into())).unwrap();
            }
        }
        for link in &mut links {
            while let Some(event) = link.poll_event() {
                match event {
                    LinkEvent::AuthenticationRequested { .. } => link.admit(now),
                    LinkEvent::Message(_) => messages += 1,
                    _ => {}
                }
            }
        }
    }
    said
}

#[test]
fn a_conversation_is_reproducible_to_the_byte() {
    assert!(conversation([3, 4]) == conversation([3, 4]));
    // The bytes are the same on every machine, and with every version of the crypto crates.
    let hash = |bytes: &[u8]| {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let [up, down] = conversation([3, 4]);
    assert_eq!((up.len(), hash(&up)), (730, 0x5583_ff1c_9d64_f56c));
    assert_eq!((down.len(), hash(&down)), (200_458, 0x4173_06ec_85aa_d419));
}

#[test]
fn each_side_depends_on_its_own_seed_from_its_first_command_on() {
    let [up, down] = conversation([3, 4]);
    let [other_up, same_down] = conversation([5, 4]);
    assert_eq!(up[..64], other_up[..64], "a greeting has nothing random");
    // HELLO: the ephemeral key comes after the head, the name, the version and the padding.
    assert_ne!(up[64 + 2 + 6 + 2 + 72..][..32], other_up[64 + 2 + 6 + 2 + 72..][..32]);
    // WELCOME: the nonce, which is not secret, depends only on the seed.
    assert_eq!(down[64 + 2 + 8..][..16], same_down[64 + 2 + 8..][..16]);
    let [_, other_down] = conversation([3, 5]);
    assert_ne!(down[64 + 2 + 8..][..16], other_down[64 + 2 + 8..][..16]);
}
