//! An error that ends a scene early.

use callosum_runtime::{CallError, DisconnectCause};

/// Why a scene could not be played to its end.
#[derive(Debug)]
pub(super) struct Unexpected(pub(super) String);

impl From<&str> for Unexpected {
    fn from(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl From<CallError> for Unexpected {
    fn from(error: CallError) -> Self {
        Self(format!("a call failed: {error}"))
    }
}

impl From<DisconnectCause> for Unexpected {
    fn from(cause: DisconnectCause) -> Self {
        Self(format!("a connection failed: {cause}"))
    }
}
