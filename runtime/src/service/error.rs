//! Errors of methods as data: how they are told apart from other failures, and how they travel.
//!
//! The idea: a FAILURE has three texts, and a peer that knows nothing of this reads the first two, the name and the line for people. The
//! third, which is where a traceback is otherwise, holds the serialized value. So it travels in both dialects, and through peers that
//! [relay](crate::HandlerError::relay) it.

use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use callosum_proto::{ErrorInfo, ReadError, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::variant::variant_of;
use crate::error::{CallError, HandlerError, name_of};
use crate::stream::BodyError;
use crate::{Codec, Context};

/// Prefix of the third text if the value that follows is text in its codec, as in JSON.
const TEXT: &str = "callosum-data text ";
/// The same for any other value, in base64 with padding (RFC 4648, section 4).
const BASE64: &str = "callosum-data base64 ";

/// How a call of a typed service fails.
///
/// ```
/// # use callosum_runtime::service::ServiceError;
/// # #[derive(Debug)]
/// # enum AgentError { NoSuchImage { image: String } }
/// fn image_to_pull(started: Result<u64, ServiceError<AgentError>>) -> Option<String> {
///     match started {
///         Err(ServiceError::Failed(AgentError::NoSuchImage { image })) => Some(image),
///         _ => None,
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ServiceError<E> {
    /// The method has failed with the error that it declares.
    #[error("{0}")]
    Failed(E),
    /// Anything else. A [`CallError::Remote`] in here is a failure that is not of the declared type: the method panicked, the other side
    /// declares another error, or the error's data were over the limit.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl<E> ServiceError<E> {
    /// Whether the remote handler may have been started; see [`CallError::may_have_run`].
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Failed(_) => true,
            Self::Call(error) => error.may_have_run(),
        }
    }

    /// The method's own error, if it is that.
    pub fn failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Call(_) => None,
        }
    }
}

/// What a method of a [service](mod@crate::service) fails with: data, which is [`Serialize`], [`DeserializeOwned`] and [`Display`], or a
/// [`HandlerError`].
///
/// The name that travels is that of the enum's variant, as serde has it, or of the type, where it is no enum or one that is not
/// externally tagged; the text is its `Display`. Data that can't be serialized, or are over 64 KiB with the two texts, stay behind: the
/// caller then has a [`CallError::Remote`] with name and text.
pub trait MethodError: Send + 'static {
    /// The failure that the caller receives. With `exposes`, it includes the traceback, if there is one.
    #[doc(hidden)]
    fn into_failure(self, codec: &Codec, exposes: bool) -> ErrorInfo;
}

/// What a call of a [service](mod@crate::service) fails with: a [`CallError`], or a [`ServiceError`] where the method declares an error.
/// [Upper layers](mod@crate::service#upper-layers) have errors of their own.
pub trait CallFailure: From<CallError> + Send + 'static {
    /// The caller's error for a [`CallError::Remote`]: the handler of the call has failed. `codec` is that of the call.
    fn remote(info: ErrorInfo, codec: &Codec) -> Self;
}

impl MethodError for HandlerError {
    fn into_failure(self, _: &Codec, exposes: bool) -> ErrorInfo {
        self.into_info(exposes)
    }
}

impl<E: Serialize + DeserializeOwned + Display + Send + 'static> MethodError for E {
    fn into_failure(self, codec: &Codec, _: bool) -> ErrorInfo {
        let name = variant_of(&self).unwrap_or_else(|| name_of(std::any::type_name::<E>()));
        let info = ErrorInfo::new(name, self.to_string());
        match codec.encode(&self) {
            Ok(data) => ErrorInfo { traceback: carry(&data).into(), ..info },
            Err(error) => {
                tracing::debug!(name, %error, "the data of a method's error can't be serialized");
                info
            }
        }
    }
}

impl CallFailure for CallError {
    fn remote(info: ErrorInfo, _: &Codec) -> Self {
        Self::Remote(info)
    }
}

impl<E: DeserializeOwned + Send + 'static> CallFailure for ServiceError<E> {
    fn remote(info: ErrorInfo, codec: &Codec) -> Self {
        match data(&info.traceback).and_then(|data| codec.decode(&data).ok()) {
            Some(error) => Self::Failed(error),
            None => Self::Call(CallError::Remote(info)),
        }
    }
}

/// The failure that a method of a service makes of this error, for [layers](mod@crate::layer) and hand-written handlers: a caller of a
/// method that declares the error has it as [`ServiceError::Failed`].
///
/// It is written in the endpoint's codec. Callers of a service with another one are told name and text.
pub fn failure_reply(error: impl MethodError, context: &Context) -> Reply {
    Reply::Failure(error.into_failure(context.codec(), context.exposes_tracebacks()).into())
}

/// The caller's error for what ended a call.
pub(super) fn failure<E: CallFailure>(error: CallError, codec: &Codec) -> E {
    match error {
        CallError::Remote(info) => E::remote(info, codec),
        error => error.into(),
    }
}

/// The same for a result that can't be read to its end.
pub(super) fn unreadable<E: CallFailure>(error: BodyError, codec: &Codec) -> E {
    match error {
        BodyError::Call(error) => failure(error, codec),
        BodyError::Read(error) => CallError::Incomplete(error).into(),
        BodyError::Item(error) => CallError::Decode(error).into(),
        BodyError::ItemTooLarge { size, limit } => {
            CallError::Incomplete(ReadError::TooLarge { size: size as u64, limit }).into()
        }
        BodyError::Write(_) => CallError::Incomplete(ReadError::NotOpen).into(),
    }
}

/// Binary data as the text that goes into [`ErrorInfo::traceback`], as T-7 of the protocol has it for data that are no text.
/// [`data_of_error`] reads it.
pub fn binary_data_text(data: &[u8]) -> String {
    format!("{BASE64}{}", STANDARD.encode(data))
}

/// The data that a text in [`ErrorInfo::traceback`] carries, whichever way T-7 of the protocol has them; `None` if there are none.
pub fn data_of_error(traceback: &str) -> Option<Vec<u8>> {
    data(traceback)
}

/// A serialized value as a text.
fn carry(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) => format!("{TEXT}{text}"),
        Err(_) => binary_data_text(data),
    }
}

/// The serialized value in a text, if there is one.
fn data(text: &str) -> Option<Vec<u8>> {
    match (text.strip_prefix(TEXT), text.strip_prefix(BASE64)) {
        (Some(text), _) => Some(text.into()),
        (None, Some(base64)) => STANDARD.decode(base64).ok(),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
