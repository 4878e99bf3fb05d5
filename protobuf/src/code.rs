//! The codes of a status, as gRPC has them.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $code:ident = $number:literal, $name:literal, $new:ident;)*) => {
        /// The outcome of a call: the codes of gRPC, with their numbers and names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            /// The call has succeeded. No error has this code: an error that is given it becomes [`Unknown`](Self::Unknown).
            Ok = 0,
            $($(#[doc = $doc])+ $code = $number,)*
        }

        impl Code {
            /// All of them, by number.
            pub const ALL: &[Self] = &[Self::Ok, $(Self::$code),*];

            /// Its name, such as `NOT_FOUND`: that of the failure that travels.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Ok => "OK",
                    $(Self::$code => $name,)*
                }
            }
        }

        impl crate::Status {
            $(
                #[doc = concat!("An error with the code [`", stringify!($code), "`](Code::", stringify!($code), ").")]
                pub fn $new(message: impl Into<String>) -> Self {
                    Self::new(Code::$code, message)
                }
            )*
        }
    };
}

codes! {
    /// The call was cancelled, usually by its caller.
    Cancelled = 1, "CANCELLED", cancelled;
    /// An error of which no more is known, such as one of a handler that is no [`Status`](crate::Status), or a panic.
    Unknown = 2, "UNKNOWN", unknown;
    /// The argument is wrong, whatever the state of the system.
    InvalidArgument = 3, "INVALID_ARGUMENT", invalid_argument;
    /// The time was over before the call was done.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED", deadline_exceeded;
    /// The requested entity does not exist.
    NotFound = 5, "NOT_FOUND", not_found;
    /// The entity to create exists already.
    AlreadyExists = 6, "ALREADY_EXISTS", already_exists;
    /// The caller is known, and may not do this.
    PermissionDenied = 7, "PERMISSION_DENIED", permission_denied;
    /// A quota or a limit has been reached.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED", resource_exhausted;
    /// The system is not in the state that the call needs. Trying again helps only once that has changed.
    FailedPrecondition = 9, "FAILED_PRECONDITION", failed_precondition;
    /// The call was aborted, as by a conflict with another. It may be tried again at a higher level.
    Aborted = 10, "ABORTED", aborted;
    /// The argument is outside of the valid range in the present state of the system.
    OutOfRange = 11, "OUT_OF_RANGE", out_of_range;
    /// The method does not exist, or is not supported.
    Unimplemented = 12, "UNIMPLEMENTED", unimplemented;
    /// Something is broken.
    Internal = 13, "INTERNAL", internal;
    /// The service can't be reached at the moment.
    Unavailable = 14, "UNAVAILABLE", unavailable;
    /// Data are lost or corrupt, and can't be recovered.
    DataLoss = 15, "DATA_LOSS", data_loss;
    /// The caller is not known.
    Unauthenticated = 16, "UNAUTHENTICATED", unauthenticated;
}

impl Code {
    /// Its number, as `google.rpc.Status` has it.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The code of a number; [`Unknown`](Self::Unknown) if there is none.
    pub fn from_number(number: i32) -> Self {
        Self::ALL.iter().copied().find(|code| code.number() == number).unwrap_or(Self::Unknown)
    }

    /// The code of a name, such as `NOT_FOUND`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }

    /// The code of an error, which is never [`Ok`](Self::Ok).
    pub(crate) const fn of_error(self) -> Self {
        match self {
            Self::Ok => Self::Unknown,
            other => other,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
