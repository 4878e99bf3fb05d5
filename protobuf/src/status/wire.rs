//! How a status travels: as a FAILURE (B-6 and B-7 of PROTOCOL.md).
//!
//! The idea: name and text are the code and the message, so that a peer without this convention gets both; what has details also has
//! the whole `google.rpc.Status` in the third text, as typed services have the data of their errors there.

use callosum_runtime::service::{CallFailure, binary_data_text, data_of_error};
use callosum_runtime::{CallError, Codec, ErrorInfo};
use prost_types::Any;

use super::Status;
use crate::Code;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Proto {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

impl From<&Status> for Proto {
    fn from(status: &Status) -> Self {
        Self { code: status.code.number(), message: status.message.clone(), details: status.details.clone() }
    }
}

impl From<Proto> for Status {
    fn from(proto: Proto) -> Self {
        let Proto { code, message, details } = proto;
        Self { details, ..Self::new(Code::from_number(code), message) }
    }
}

impl Status {
    /// The failure that the caller receives.
    pub(crate) fn into_info(self) -> ErrorInfo {
        let traceback = match self.details.is_empty() {
            true => String::new(),
            false => binary_data_text(&self.encode()),
        };
        ErrorInfo { traceback: traceback.into(), ..ErrorInfo::new(self.code.name(), self.message) }
    }

    /// Reads the status of a handler's failure.
    pub(crate) fn of_failure(info: ErrorInfo) -> Self {
        let Some(code) = Code::from_name(&info.name).filter(|code| *code != Code::Ok) else {
            let status = Self::unknown(info.to_string());
            return Self { cause: Some(CallError::Remote(info).into()), ..status };
        };
        let whole = data_of(&info.traceback).and_then(|data| Self::decode(&data).ok());
        whole.filter(|status| status.code == code).unwrap_or_else(|| Self::new(code, &*info.repr))
    }
}

/// The data in a third text: the whole of it or, as in a Python traceback, what its last line ends with.
fn data_of(traceback: &str) -> Option<Vec<u8>> {
    let last_line = || traceback.trim_end().lines().next_back()?.split_once(": ");
    data_of_error(traceback).or_else(|| data_of_error(last_line()?.1))
}

impl From<Status> for ErrorInfo {
    /// What travels: for handlers that are no methods of a Protocol Buffers service, and pass a status on as a
    /// [`HandlerError`](callosum_runtime::HandlerError).
    fn from(status: Status) -> Self {
        status.into_info()
    }
}

impl CallFailure for Status {
    fn remote(info: ErrorInfo, _: &Codec) -> Self {
        Self::of_failure(info)
    }
}

#[cfg(test)]
mod tests;
