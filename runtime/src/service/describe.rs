//! What the macro knows of a method, and its description for callers.

use crate::description::{ArgumentDescription, MethodDescription};

/// What the macro knows of a method.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// See [`MethodDescription`] for all of these.
    pub docs: &'static str,
    /// Names, types, and whether they are required.
    pub arguments: &'static [(&'static str, &'static str, bool)],
    /// As above.
    pub args_kwargs: bool,
    /// As above.
    pub key: Option<&'static str>,
    /// As above.
    pub streamed_argument: Option<&'static str>,
    /// As above.
    pub result: &'static str,
    /// As above.
    pub streamed_result: bool,
    /// As above.
    pub error: Option<&'static str>,
    /// Of the arguments.
    pub arguments_schema: Option<fn() -> String>,
    /// Of the result.
    pub result_schema: Option<fn() -> String>,
}

impl Description {
    pub(super) fn told(self) -> MethodDescription {
        let arguments = self.arguments.iter().map(|(name, type_name, required)| ArgumentDescription {
            name: (*name).into(),
            type_name: (*type_name).into(),
            required: *required,
        });
        MethodDescription {
            // Filled in with the name under which the method is added.
            name: String::new(),
            docs: self.docs.into(),
            arguments: arguments.collect(),
            args_kwargs: self.args_kwargs,
            key: self.key.map(Into::into),
            streamed_argument: self.streamed_argument.map(Into::into),
            result: self.result.into(),
            streamed_result: self.streamed_result,
            error: self.error.map(Into::into),
            arguments_schema: self.arguments_schema.map(|schema| schema()),
            result_schema: self.result_schema.map(|schema| schema()),
        }
    }
}

/// JSON Schema of a type, as text.
#[cfg(feature = "schemars")]
pub fn schema<T: schemars::JsonSchema>() -> String {
    schemars::schema_for!(T).as_value().to_string()
}
