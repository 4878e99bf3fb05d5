//! Errors of calls in JSON.

use serde_json::Value;

use crate::call_error::ReplyError;
use crate::error::WriteError;
use crate::exception::ApplicationException;

/// Why a method is not found in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The file has no service of this name.
    #[error("there is no service {0} in the file")]
    NoSuchService(String),
    /// No service has a method of this name.
    #[error("there is no method {0} in the file")]
    NoSuchMethod(String),
    /// More than one service has.
    #[error("several services have a method {method}: {services}")]
    Ambiguous {
        /// The method.
        method: String,
        /// The services.
        services: String,
    },
}

/// Why JSON can't be sent as arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// A value of another type.
    #[error("{path}: expected {expected}")]
    WrongType {
        /// Where it is, such as `points[2].x`.
        path: String,
        /// What it should be.
        expected: String,
    },
    /// A field that is not in the file.
    #[error("there is no field {0}")]
    UnknownField(String),
    /// A required field.
    #[error("the field {0} is missing")]
    MissingField(String),
    /// A text or a container is too long.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why a response holds no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallJsonError {
    /// The method has thrown an exception that it declares.
    #[error("{name}: {value}")]
    Exception {
        /// Its name among those that the method throws.
        name: String,
        /// Its fields.
        value: Value,
    },
    /// The other side's Thrift has answered, and not the method.
    #[error(transparent)]
    Application(ApplicationException),
    /// The response is not a valid reply.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}
