//! The error of a handler, and conversions from other errors.
//!
//! The idea: an error of this side is kept as it is until it is answered, since only the endpoint knows
//! ([`Builder::expose_tracebacks`](crate::Builder::expose_tracebacks)) how much of it its caller may learn.

use std::any::type_name;
use std::error::Error;
use std::fmt;

use callosum_proto::ErrorInfo;

use super::CallError;

/// What a handler fails with. Every error converts into it with `?`: one that is a [`std::error::Error`], an `anyhow::Error`, a
/// `Box<dyn Error + Send + Sync>`, or a text.
///
/// It travels as a FAILURE, and arrives as [`CallError::Remote`]. Its caller learns its name and its text, which is its `Display`; the
/// name is that of its type without the path, or `Error` where the type is not known, as that of a boxed error or a text. The full
/// path of the type and the chain of sources travel only if the endpoint
/// [says so](crate::Builder::expose_tracebacks).
///
/// An [`ErrorInfo`] converts into it as it is, with its own name, text and traceback.
pub struct HandlerError(Origin);

/// The result of a handler that fails with [`HandlerError`].
pub type HandlerResult<T> = Result<T, HandlerError>;

enum Origin {
    /// An error of this side, and what its type is called.
    Error { type_name: &'static str, error: Box<dyn Error + Send + Sync> },
    /// An error that has only a name and a text.
    Named { name: String, text: String },
    /// An error that travels as it is.
    Info(ErrorInfo),
}

impl HandlerError {
    /// An error with a name of your choice, such as that of a Python exception.
    pub fn new(name: &str, message: &str) -> Self {
        Self(Origin::Named { name: name.into(), text: message.into() })
    }

    /// Passes what another peer has reported on to this handler's caller: name, text and traceback arrive unchanged, whatever the
    /// endpoint [exposes](crate::Builder::expose_tracebacks) of its own errors. What another peer has [rejected](CallError::Rejected)
    /// arrives as a failure of this handler, which has run, and not as a refusal of its endpoint.
    ///
    /// An error that no other peer has reported, such as [`CallError::TimedOut`], becomes what `?` makes of it: a failure named
    /// `CallError`. So does every `CallError` with `?` alone, whose text then tells which side has failed.
    ///
    /// ```
    /// # use callosum_runtime::{Context, HandlerError, HandlerResult, Peer};
    /// async fn read(agent: &Peer, file: String, _: Context) -> HandlerResult<String> {
    ///     agent.invoke("read", &file).await.map_err(HandlerError::relay)
    /// }
    /// ```
    pub fn relay(error: CallError) -> Self {
        match error {
            CallError::Remote(info) | CallError::Rejected(info) => Self(Origin::Info(info)),
            error => error.into(),
        }
    }

    /// The error that the caller receives.
    pub(crate) fn into_info(self, expose_traceback: bool) -> ErrorInfo {
        match self.0 {
            Origin::Error { type_name, error } => ErrorInfo {
                name: name_of(type_name).into(),
                repr: error.to_string().into(),
                traceback: if expose_traceback { traceback(type_name, &*error) } else { String::new() }
                    .into(),
            },
            Origin::Named { name, text } => ErrorInfo {
                traceback: if expose_traceback { format!("{name}: {text}\n") } else { String::new() }.into(),
                ..ErrorInfo::new(name, text)
            },
            Origin::Info(info) => info,
        }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let error: Box<dyn Error + Send + Sync> = error.into();
        match error.downcast::<ErrorInfo>() {
            Ok(info) => Self(Origin::Info(*info)),
            Err(error) => Self(Origin::Error { type_name: type_name::<E>(), error }),
        }
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origin::Error { error, .. } => f.debug_tuple("HandlerError").field(error).finish(),
            Origin::Named { name, text } => f.debug_tuple("HandlerError").field(name).field(text).finish(),
            Origin::Info(info) => f.debug_tuple("HandlerError").field(info).finish(),
        }
    }
}

/// `a::b::Name<c::D>` without the path and the parameters: `Name`. What `std` turns into a boxed error besides errors, and boxed errors,
/// are an `Error`.
pub(crate) fn name_of(path: &str) -> &str {
    let bare = path.split('<').next().unwrap_or(path);
    match bare.rsplit("::").next().unwrap_or(bare) {
        "Box" | "String" | "&str" | "Cow" => "Error",
        name => name,
    }
}

fn traceback(path: &str, error: &(dyn Error + 'static)) -> String {
    let mut traceback = format!("{path}: {error}\n");
    for cause in std::iter::successors(error.source(), |cause| (*cause).source()) {
        traceback.push_str(&format!("caused by: {cause}\n"));
    }
    traceback
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NotSent;

    #[derive(Debug, thiserror::Error)]
    #[error("the volume {volume} can't be mounted")]
    struct MountError {
        volume: &'static str,
        source: std::io::Error,
    }

    fn mount() -> MountError {
        MountError { volume: "data", source: std::io::Error::other("the disk is on fire") }
    }

    fn fail<E>(error: E) -> ErrorInfo
    where
        HandlerError: From<E>,
    {
        HandlerError::from(error).into_info(true)
    }

    #[test]
    fn every_error_converts() {
        let boxed: Box<dyn Error + Send + Sync> = mount().into();
        let anyhow = anyhow::Error::new(mount()).context("no container");
        for (info, name, repr) in [
            (fail(mount()), "MountError", "the volume data can't be mounted"),
            (fail(boxed), "Error", "the volume data can't be mounted"),
            (fail(anyhow), "Error", "no container"),
            (fail("a text"), "Error", "a text"),
            (fail(String::from("a text")), "Error", "a text"),
        ] {
            assert_eq!((&*info.name, &*info.repr), (name, repr));
        }
    }

    #[test]
    fn sources_are_in_the_traceback_and_nowhere_else() {
        let anyhow = || HandlerError::from(anyhow::Error::new(mount()).context("no container"));
        assert_eq!(
            &*anyhow().into_info(true).traceback,
            "anyhow::Error: no container\ncaused by: the volume data can't be mounted\ncaused by: the disk is on fire\n"
        );
        for error in [anyhow(), mount().into(), HandlerError::new("Disk", "is full")] {
            let info = error.into_info(false);
            assert_eq!(&*info.traceback, "");
            assert!(!info.to_string().contains("fire"), "{info}");
        }
    }

    #[test]
    fn what_another_peer_reported_is_passed_on_unchanged() {
        let info =
            || ErrorInfo { traceback: "line 1\n".into(), ..ErrorInfo::new("KeyError", "KeyError('k')") };
        for exposes in [false, true] {
            for error in [CallError::Remote(info()), CallError::Rejected(info())] {
                assert_eq!(HandlerError::relay(error).into_info(exposes), info());
            }
            assert_eq!(HandlerError::from(info()).into_info(exposes), info());
            let other = HandlerError::relay(NotSent::NotConnected.into()).into_info(exposes);
            assert_eq!(&*other.name, "CallError");
            let unrelayed = HandlerError::from(CallError::Remote(info())).into_info(exposes);
            assert_eq!(
                (&*unrelayed.name, &*unrelayed.repr),
                ("CallError", "the remote handler failed: KeyError('k')")
            );
        }
    }
}
