//! Errors of file transfers, on either side. Each has a name, which is sent to the other side.

use std::fmt;
use std::io;

use callosum_runtime::{BodyError, HandlerError, ReplyError};
use rustix::io::Errno;

/// Why a file can't be read, written or transferred.
///
/// No `std::error::Error`: it becomes a [`HandlerError`] under its own names.
#[derive(Debug)]
pub(crate) enum FileError {
    InvalidName {
        name: String,
        why: &'static str,
    },
    NotFound(String),
    /// A file of this machine that was to be read.
    NotHere(String),
    Forbidden {
        name: String,
        why: &'static str,
    },
    InUse(String),
    Changed(String),
    /// An unfinished file has lost its name.
    PartialLost(String),
    ChecksumMismatch(String),
    Incomplete,
    InvalidRequest(&'static str),
    InvalidAnswer(&'static str),
    NoSpace(String),
    Io {
        name: String,
        error: io::Error,
    },
    Body(BodyError),
    /// The result could not be begun.
    Reply(ReplyError),
}

impl FileError {
    pub(super) fn invalid(name: &str, why: &'static str) -> Self {
        Self::InvalidName { name: name.to_owned(), why }
    }

    pub(super) fn forbidden(name: &str, why: &'static str) -> Self {
        Self::Forbidden { name: name.to_owned(), why }
    }

    /// The error for a system error on a file of this name.
    pub(super) fn io(name: &str, error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::NotFound(name.to_owned()),
            Some(Errno::ACCESS | Errno::PERM) => Self::forbidden(
                name,
                "permission denied; check the permissions of the file and its directory",
            ),
            Some(Errno::ROFS) => Self::forbidden(name, "its file system is read-only"),
            Some(Errno::LOOP | Errno::MLINK) => Self::link(name),
            Some(Errno::ISDIR) => Self::forbidden(name, "it is a directory; name a file in it"),
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::NoSpace(name.to_owned()),
            Some(Errno::NAMETOOLONG) => {
                Self::invalid(name, "it is too long for the file system; use a shorter one")
            }
            _ => Self::Io { name: name.to_owned(), error },
        }
    }

    /// The error for a system error on a local file that is read.
    pub(super) fn here(name: &str, error: io::Error) -> Self {
        match Self::io(name, error) {
            Self::NotFound(name) => Self::NotHere(name),
            error => error,
        }
    }

    /// The same error, if the invalid message came from the server.
    pub(super) fn of_answer(self) -> Self {
        match self {
            Self::InvalidRequest(why) => Self::InvalidAnswer(why),
            error => error,
        }
    }

    pub(super) fn link(name: &str) -> Self {
        Self::forbidden(
            name,
            "its path has a symbolic link, and links are not followed; name the file that it points to",
        )
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidName",
            Self::NotFound(_) | Self::NotHere(_) => "NotFound",
            Self::Forbidden { .. } => "Forbidden",
            Self::InUse(_) => "InUse",
            Self::Changed(_) => "Changed",
            Self::PartialLost(_) => "PartialLost",
            Self::ChecksumMismatch(_) => "ChecksumMismatch",
            Self::Incomplete => "Incomplete",
            Self::InvalidRequest(_) => "InvalidRequest",
            Self::InvalidAnswer(_) => "InvalidAnswer",
            Self::NoSpace(_) => "NoSpace",
            Self::Io { .. } => "IoError",
            Self::Body(_) | Self::Reply(_) => "TransferError",
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { name, why } => write!(f, "{name:?} is not a valid file name: {why}"),
            Self::NotFound(name) => {
                write!(f, "there is no file {name:?}; `callosum file ls` shows the files")
            }
            Self::NotHere(name) => write!(f, "no such file here: {name:?}; check the path"),
            Self::Forbidden { name, why } => write!(f, "{name:?}: {why}"),
            Self::InUse(name) => {
                write!(
                    f,
                    "another transfer of {name:?} from the same source is in progress; try again once it has ended"
                )
            }
            Self::Changed(name) => {
                write!(f, "{name:?} changed while it was read; try again once nothing writes to it")
            }
            Self::PartialLost(name) => {
                write!(
                    f,
                    "the unfinished file of {name:?} was removed or replaced during the transfer; try again"
                )
            }
            Self::ChecksumMismatch(name) => {
                write!(f, "the checksum of {name:?} does not match, and its data was discarded; try again")
            }
            Self::Incomplete => f.write_str("the transfer is incomplete; try again to resume it"),
            Self::InvalidRequest(why) | Self::InvalidAnswer(why) => f.write_str(why),
            Self::NoSpace(name) => {
                write!(f, "no space is left for {name:?}; free some, then try again to resume")
            }
            Self::Io { name, error } => write!(f, "{name:?}: {error}"),
            Self::Body(error) => error.fmt(f),
            Self::Reply(error) => error.fmt(f),
        }
    }
}

impl From<BodyError> for FileError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<ReplyError> for FileError {
    fn from(error: ReplyError) -> Self {
        Self::Reply(error)
    }
}

impl From<FileError> for HandlerError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Body(error) => error.into(),
            FileError::Reply(error) => error.into(),
            error => Self::new(error.name(), &error.to_string()),
        }
    }
}
