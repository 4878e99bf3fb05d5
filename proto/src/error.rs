//! Errors of the application with calls and replies, and the refusals that a connection sends to a peer.

use crate::Text;

/// Why a call was not accepted. Nothing was sent, and nothing is retained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
    /// The connection takes no new calls, because it is draining.
    #[error("the connection is shutting down and takes no new calls")]
    Draining,
    /// The peer takes no new calls.
    #[error("the peer is shutting down and takes no new calls")]
    PeerDraining,
    /// Metadata and streamed arguments need dialect 2, which the peer does not speak.
    #[error("the peer does not speak dialect 2, which metadata and streams need")]
    NeedsDialect2,
    /// Too many bytes wait to be sent to the peer already.
    #[error("{queued} bytes already wait to be sent to the peer; the limit is {limit}")]
    QueueFull {
        /// Bytes that wait.
        queued: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is larger than the peer takes.
    #[error("the body has {size} bytes; the peer takes at most {limit}")]
    BodyTooLarge {
        /// Bytes of the body.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The method's name and the key are larger than a header may be.
    #[error("the method's name and the key have {size} bytes together; the limit is {limit}")]
    NameTooLong {
        /// Bytes of both.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Why a reply was not sent, or not begun. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The request was answered already, or its connection is over.
    #[error("this request is not waiting for a reply")]
    NotOpen,
    /// A streamed result and metadata need dialect 2, which the peer does not speak. Answer with the ERROR
    /// [`Unsupported`](Refusal::Unsupported).
    #[error("the peer does not speak dialect 2, which metadata and streams need")]
    NeedsDialect2,
    /// It has begun already.
    #[error("a result had begun")]
    AlreadyBegun,
}

/// Why this side answered a request with an ERROR of its own instead of a handler's reply.
///
/// It travels as the `name` of an ERROR, so that a peer that knows the name has a typed error again.
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
    /// The handler ran, and its reply is larger than the peer takes, or than this side holds until its order comes.
    ReplyTooLarge,
    /// The handler exceeded the execution timeout and was stopped.
    ExecutionTimedOut,
    /// The application could not read the argument.
    InvalidArgument,
    /// The call, or its answer, needs what one of the sides does not have, such as dialect 2.
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

    /// The `name` under which it travels.
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

    /// The refusal that an ERROR stands for, if its name is one of ours.
    pub fn of(info: &ErrorInfo) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.name().as_bytes() == info.name.as_bytes())
    }

    /// Whether a handler may have run before it.
    pub const fn may_have_run(self) -> bool {
        matches!(self, Self::ReplyTooLarge | Self::ExecutionTimedOut | Self::Unsupported)
    }

    /// The ERROR that tells a peer of it.
    pub fn to_error(self, detail: &str) -> ErrorInfo {
        ErrorInfo::new(Text::from_static(self.name()), detail)
    }
}

/// An error as it travels: three texts, after Python's exceptions.
///
/// Its `Display` is `name: repr`, or `repr` alone where that begins with the name, as that of a Python exception does.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_line(name, repr))]
pub struct ErrorInfo {
    /// The class, such as `ZeroDivisionError`.
    pub name: Text,
    /// One line for people.
    pub repr: Text,
    /// Where it came from; may be empty.
    pub traceback: Text,
}

fn one_line(name: &str, repr: &str) -> String {
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

    /// Bytes of the three texts.
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
