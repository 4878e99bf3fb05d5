//! Errors of the local application's calls and replies, and errors that are sent to the peer.

use crate::Text;

/// Why a call was not accepted. Nothing was sent, and there will be no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
    /// This side accepts no new calls, because it is draining.
    #[error("the connection is shutting down and accepts no new calls")]
    Draining,
    /// The peer accepts no new calls, because it is draining.
    #[error("the peer is shutting down and accepts no new calls")]
    PeerDraining,
    /// Metadata and streamed arguments need dialect 2, which the peer does not speak.
    #[error("the peer does not speak dialect 2, which metadata and streams need")]
    NeedsDialect2,
    /// Too many bytes already wait to be sent to the peer: see
    /// [`max_outgoing_bytes`](crate::ConnectionConfig::max_outgoing_bytes).
    #[error("{queued} bytes already wait to be sent to the peer; the limit is {limit}")]
    QueueFull {
        /// Bytes that wait.
        queued: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is larger than the peer accepts.
    #[error("the body has {size} bytes; the peer accepts at most {limit}")]
    BodyTooLarge {
        /// Bytes of the body.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The method's name and the key are larger than 32 KiB together.
    #[error("the method's name and the key have {size} bytes together; the limit is {limit}")]
    NameTooLong {
        /// Bytes of both.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Why a reply was not sent, or not begun. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The request was already answered, its connection has ended, or it is a request of another connection; or
    /// a streamed reply was to begin before the request has started.
    #[error("this request is not waiting for a reply")]
    NotOpen,
    /// A streamed result and metadata need dialect 2, which the peer does not speak. Answer with the ERROR
    /// [`Unsupported`](Refusal::Unsupported).
    #[error("the peer does not speak dialect 2, which metadata and streams need")]
    NeedsDialect2,
    /// A streamed reply to this request has already begun.
    #[error("the reply to this request has already begun")]
    AlreadyBegun,
}

/// Why a side answered a request with an ERROR instead of a handler's reply (PROTOCOL.md, E-2).
///
/// Its name is the `name` of the ERROR, so that a peer that knows the name gets a typed error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No handler is registered under this name.
    NoSuchMethod,
    /// Too many requests are open or waiting.
    Busy,
    /// The endpoint is shutting down.
    ShuttingDown,
    /// The body can't be read.
    MalformedBody,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The handler ran, but its reply is larger than the peer accepts, or exceeds the limit on replies that
    /// wait for their order.
    ReplyTooLarge,
    /// The handler exceeded the execution timeout and was stopped.
    ExecutionTimedOut,
    /// The application could not read the argument.
    InvalidArgument,
    /// The call, or its answer, needs something that one of the sides does not support, such as dialect 2.
    Unsupported,
}

impl Refusal {
    pub(crate) const ALL: [Self; 9] = [
        Self::NoSuchMethod,
        Self::Busy,
        Self::ShuttingDown,
        Self::MalformedBody,
        Self::BodyTooLarge,
        Self::ReplyTooLarge,
        Self::ExecutionTimedOut,
        Self::InvalidArgument,
        Self::Unsupported,
    ];

    /// The `name` of the ERROR.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSuchMethod => "NoSuchMethod",
            Self::Busy => "Busy",
            Self::ShuttingDown => "ShuttingDown",
            Self::MalformedBody => "MalformedBody",
            Self::BodyTooLarge => "BodyTooLarge",
            Self::ReplyTooLarge => "ReplyTooLarge",
            Self::ExecutionTimedOut => "ExecutionTimedOut",
            Self::InvalidArgument => "InvalidArgument",
            Self::Unsupported => "Unsupported",
        }
    }

    /// The refusal with the name of this ERROR, if there is one.
    pub fn of(info: &ErrorInfo) -> Option<Self> {
        // By bytes: `Text::as_str` would check the UTF-8 again. E-2: the name must match exactly.
        Self::ALL.into_iter().find(|refusal| refusal.name().as_bytes() == info.name.as_bytes())
    }

    /// Whether a handler may have run.
    pub const fn may_have_run(self) -> bool {
        matches!(self, Self::ReplyTooLarge | Self::ExecutionTimedOut | Self::Unsupported)
    }

    /// The ERROR for the peer, with `detail` as its text.
    pub fn to_error(self, detail: &str) -> ErrorInfo {
        ErrorInfo::new(Text::from_static(self.name()), detail)
    }
}

/// An error on the wire: three texts, modelled on Python's exceptions.
///
/// Displayed as `name: repr`, or as `repr` alone if that starts with the name, as for most Python exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_line(name, repr))]
pub struct ErrorInfo {
    /// The class, such as `ZeroDivisionError`.
    pub name: Text,
    /// One line for people.
    pub repr: Text,
    /// The origin of the error; may be empty.
    pub traceback: Text,
}

fn one_line(name: &str, repr: &str) -> String {
    // `Error 5` does not say the name `Err`.
    let says_it = repr.strip_prefix(name).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    match (name, repr) {
        (name, "") => name.into(),
        ("", repr) => repr.into(),
        (_, repr) if says_it => repr.into(),
        (name, repr) => format!("{name}: {repr}"),
    }
}

impl ErrorInfo {
    /// An error without a traceback.
    pub fn new(name: impl Into<Text>, repr: impl Into<Text>) -> Self {
        Self { name: name.into(), repr: repr.into(), traceback: Text::default() }
    }

    /// Bytes of the three texts together.
    pub fn size(&self) -> usize {
        self.name.as_bytes().len() + self.repr.as_bytes().len() + self.traceback.as_bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_name_once() {
        for (name, repr, text) in [
            ("MountError", "no such volume", "MountError: no such volume"),
            ("KeyError", "KeyError('k')", "KeyError('k')"),
            ("Err", "Error 5", "Err: Error 5"),
            ("", "no such volume", "no such volume"),
            ("MountError", "", "MountError"),
        ] {
            assert_eq!(ErrorInfo::new(name, repr).to_string(), text);
        }
    }
}
