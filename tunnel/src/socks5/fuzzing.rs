//! Body of the fuzz target `socks5`.

use super::{Error, Handshake, Progress, Refusal};
use crate::target::Target;

/// What was written; then, if there was an end, the target and what was left over, or the error.
pub(super) type Outcome = (Vec<u8>, Option<Result<(Target, Vec<u8>), Error>>);

/// The outcome for bytes that arrive in these pieces.
pub(super) fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut handshake, mut written) = (Handshake::new(), Vec::new());
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        match handshake.receive(piece) {
            Ok(Progress::More { handshake: next, reply }) => {
                let (Handshake::Greeting(kept) | Handshake::Request(kept)) = &next;
                assert!(kept.len() < 262, "more than a request is kept");
                written.extend_from_slice(reply);
                handshake = next;
            }
            Ok(Progress::Request { target, mut leftover, reply }) => {
                written.extend_from_slice(reply);
                pieces.for_each(|piece| leftover.extend_from_slice(piece));
                return (written, Some(Ok((target, leftover))));
            }
            Err(Refusal { error, reply }) => {
                written.extend_from_slice(&reply);
                return (written, Some(Err(error)));
            }
        }
    }
    (written, None)
}

/// The first byte is the length of pieces, the others are a client's.
///
/// # Panics
/// If it matters in which pieces they arrive, or if there is a request that is not in them.
pub fn socks5(data: &[u8]) {
    let Some((&length, bytes)) = data.split_first() else { return };
    let whole = run([bytes]);
    assert_eq!(run(bytes.chunks(1)), whole);
    assert_eq!(run(bytes.chunks(usize::from(length).max(1))), whole);
    match whole {
        (written, Some(Ok((target, leftover)))) => {
            assert_eq!(written, [5, 0]);
            assert!(target.is_normal(), "{target:?}");
            assert_eq!(target.to_string().parse(), Ok(target));
            assert!(bytes.ends_with(&leftover));
        }
        (written, Some(Err(error))) => {
            assert!(!error.to_string().is_empty());
            // Of the method, of the request, or of both.
            assert!(matches!(written.len(), 0 | 2 | 12), "{written:?}");
        }
        (written, None) => assert!(matches!(written.len(), 0 | 2)),
    }
}
