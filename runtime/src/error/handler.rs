//! What a handler fails with, and how other errors become that.

use callosum_proto::ErrorInfo;

/// What a handler fails with. Any error converts into it with `?`.
///
/// It travels as a FAILURE: the error's type, its `Display`, and its chain of sources.
#[derive(Debug)]
pub struct HandlerError(pub(crate) ErrorInfo);

/// The result of a handler that fails with [`HandlerError`].
pub type HandlerResult<T> = Result<T, HandlerError>;

impl HandlerError {
    /// An error with a name of your choice, such as that of a Python exception.
    pub fn new(name: &str, message: &str) -> Self {
        Self(ErrorInfo {
            name: name.into(),
            repr: message.into(),
            traceback: format!("{name}: {message}\n").into(),
        })
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let path = std::any::type_name::<E>();
        let mut traceback = format!("{path}: {error}\n");
        let mut source = error.source();
        while let Some(cause) = source {
            traceback.push_str(&format!("caused by: {cause}\n"));
            source = cause.source();
        }
        Self(ErrorInfo {
            name: short_type_name(path).into(),
            repr: error.to_string().into(),
            traceback: traceback.into(),
        })
    }
}

/// `a::b::Name<c::D>` without the path and the parameters: `Name`.
fn short_type_name(path: &str) -> &str {
    let bare = path.split('<').next().unwrap_or(path);
    bare.rsplit("::").next().unwrap_or(bare)
}
