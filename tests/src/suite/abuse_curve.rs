//! Boxes of CURVE that are not what an admitted client sealed, and an honest client beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use callosum_proto::OrderingKey;
use callosum_proto::internals::wire::Payload;
use callosum_proto::zmtp::{LinkError, ZmtpViolation};
use callosum_runtime::auth::{CurveClient, KeySet, generate_keys};
use callosum_runtime::{DisconnectCause, Event, HandlerResult};

use crate::raw::RawPeer;
use crate::rig::{Rig, next_event};
use crate::suite::abuse::Scene;

/// Frames of two calls, changed.
type Change = fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>;

/// Frames of a call.
const FRAMES: usize = 3;

fn swap(mut frames: Vec<Vec<u8>>, one: usize, other: usize) -> Vec<Vec<u8>> {
    frames.swap(one, other);
    frames
}

/// The end of a box is the end of what it holds, and its beginning is what proves it (RFC 26).
fn flip(mut frames: Vec<Vec<u8>>, frame: usize, from_end: usize) -> Vec<Vec<u8>> {
    let at = frames[frame].len() - from_end;
    frames[frame][at] ^= 1;
    frames
}

/// An admitted client whose boxes are sent twice, changed, reordered or left out on their way: its link ends, nothing of what
/// was changed reaches a handler, and another client's calls succeed.
pub async fn changed_boxes(rig: Rig) {
    const ROUNDS: usize = 5;
    let (server, alice, mallory) = (generate_keys(), generate_keys(), generate_keys());
    let server_key = server.public();
    let allowed = KeySet::new(server);
    allowed.admit(alice.public(), "alice");
    allowed.admit(mallory.public(), "mallory");
    let hits = Arc::<AtomicUsize>::default();
    let counter = hits.clone();
    let binder = rig.builder().authenticator(allowed).handle_raw("hit", move |body, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move { HandlerResult::Ok(body) }
    });
    let honest = rig.builder().authenticator(CurveClient::new(alice, server_key));
    let scene = Scene::with(&rig, binder, honest).await;
    // How many of the two calls are whole, and come before the change.
    let changes: [(ZmtpViolation, usize, Change); 7] = [
        (ZmtpViolation::OutOfOrder, 2, |frames| [&frames[..], &frames[FRAMES..]].concat()),
        (ZmtpViolation::OutOfOrder, 0, |frames| vec![frames[0].clone(), frames[0].clone()]),
        (ZmtpViolation::OutOfOrder, 0, |frames| swap(frames, 0, 1)),
        (ZmtpViolation::OutOfOrder, 1, |frames| swap(frames, FRAMES, FRAMES + 1)),
        (ZmtpViolation::OutOfOrder, 1, |mut frames| {
            frames.remove(FRAMES);
            frames
        }),
        (ZmtpViolation::Forged, 1, |frames| flip(frames, FRAMES, 1)),
        (ZmtpViolation::Forged, 0, |frames| flip(frames, 1, 20)),
    ];
    let mut events = scene.binder.events();
    let attacks = async {
        for (expected, whole, change) in changes.iter().cycle().take(ROUNDS * changes.len()) {
            let before = hits.load(Ordering::SeqCst);
            let stream = scene.open().await;
            let mut attacker = RawPeer::connect_curve(stream, mallory.clone(), server_key).await;
            let mut frames = Vec::new();
            for seq in 0..2 {
                let call = Payload::Function(Bytes::from_static(b"bytes that are there to be changed"));
                let message = attacker.message(seq, ("hit", OrderingKey::none()), call, false);
                frames.extend(attacker.frames_of(message));
            }
            assert_eq!(frames.len(), 2 * FRAMES);
            // The other side may close the connection before it has read everything.
            let _ = attacker.try_write(&change(frames).concat()).await;
            attacker.until_closed().await;
            let cause = next_event(&mut events, |event| match event {
                Event::Disconnected { cause, .. } => Some(cause),
                _ => None,
            });
            let cause = cause.await;
            let DisconnectCause::Protocol(error) = &cause else { panic!("{cause:?}") };
            assert_eq!(**error, LinkError::Violation(*expected));
            assert_eq!(hits.load(Ordering::SeqCst) - before, *whole, "{expected:?}");
        }
    };
    scene.beside(10, attacks).await;
    scene.end().await;
}
