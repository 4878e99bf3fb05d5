//! Adapts replies to the peer's limits.

use crate::Text;
use crate::error::Refusal;
use crate::reply::Replied;
use crate::send::ReplyBody;
use crate::wire::{self, Failure, Number};

/// Reduces a reply to what the peer accepts: removes the traceback of an error that is too large, and
/// replaces a reply that is still too large by the ERROR `ReplyTooLarge` (E-5).
#[inline]
pub(super) fn fit(number: Number, body: &mut ReplyBody, limit: usize) -> Replied {
    let limit = match body {
        ReplyBody::Failure(_) => limit.min(wire::max_texts(number)),
        ReplyBody::Result { .. } | ReplyBody::Stream { .. } => limit,
    };
    if body.size() <= limit { Replied::AsGiven } else { shorten(body, limit) }
}

#[cold]
fn shorten(body: &mut ReplyBody, limit: usize) -> Replied {
    if let ReplyBody::Failure(failure) = body
        && let Failure::Failure(info) | Failure::Error(info) = &mut **failure
    {
        // E-5: name and text say more to a caller than the traceback, and nearly always fit without it.
        info.traceback = Text::default();
    }
    let size = body.size();
    if size <= limit {
        return Replied::AsGiven;
    }
    // E-5: this ERROR is short, and is sent even if it is over the limit itself.
    let detail = format!("the reply has {size} bytes; the peer takes at most {limit}");
    *body = Failure::Error(Refusal::ReplyTooLarge.to_error(&detail)).into();
    Replied::TooLarge { size, limit }
}
