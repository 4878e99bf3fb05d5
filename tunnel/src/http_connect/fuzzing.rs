//! Body of the fuzz target `http_connect`.

use super::{Error, Handshake, MAX_HEAD, Progress};
use crate::target::Target;

/// If there was an end: the target and what was left over, or the error.
pub(super) type Outcome = Option<Result<(Target, Vec<u8>), Error>>;

/// The outcome for bytes that arrive in these pieces.
pub(super) fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut handshake = Handshake::default();
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        match handshake.receive(piece) {
            Ok(Progress::More(next)) => {
                assert!(next.head.len() < MAX_HEAD, "more than a head is kept");
                handshake = next;
            }
            Ok(Progress::Request { target, mut leftover }) => {
                pieces.for_each(|piece| leftover.extend_from_slice(piece));
                return Some(Ok((target, leftover)));
            }
            Err(error) => return Some(Err(error)),
        }
    }
    None
}

/// The first byte is the length of pieces, the others are a client's.
///
/// # Panics
/// If it matters in which pieces they arrive, or if there is a request that is not in them.
pub fn http_connect(data: &[u8]) {
    let Some((&length, bytes)) = data.split_first() else { return };
    let whole = run([bytes]);
    assert_eq!(run(bytes.chunks(1)), whole);
    assert_eq!(run(bytes.chunks(usize::from(length).max(1))), whole);
    match whole {
        Some(Ok((target, leftover))) => {
            assert!(matches!(target, Target::Tcp { .. }) && target.is_normal(), "{target:?}");
            assert_eq!(target.to_string().parse(), Ok(target));
            assert!(bytes.ends_with(&leftover));
        }
        Some(Err(error)) => {
            let reply = error.reply();
            assert!(reply.starts_with(b"HTTP/1.1 4"));
            // The head of the answer does not depend on the client's bytes.
            let head = reply.split(|&byte| byte == b'\n').take_while(|&line| line != b"\r").count();
            assert_eq!(head, if matches!(error, Error::Method(_)) { 5 } else { 4 });
        }
        None => {}
    }
}
