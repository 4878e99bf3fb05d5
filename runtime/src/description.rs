//! How an endpoint describes its methods.
//!
//! The idea: a description belongs to the method that it describes, so that both are removed together.

use serde::{Deserialize, Serialize};

/// The name of the method that describes the others. See [`Builder::describe_services`](crate::Builder::describe_services).
pub const DESCRIBE: &str = "callosum.describe";

/// The description of a method: of a [typed service](mod@crate::service), or of an upper layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MethodDescription {
    /// As callers use it.
    pub name: String,
    /// Its doc comment.
    pub docs: String,
    /// In the order in which they are declared.
    pub arguments: Vec<ArgumentDescription>,
    /// Whether they travel as `{"args": […], "kwargs": {…}}`.
    pub args_kwargs: bool,
    /// Which argument, or field of one, the ordering key should be.
    pub key: Option<String>,
    /// The type of the items that follow the arguments as a stream, if any do.
    pub streamed_argument: Option<String>,
    /// The type of the result, or of its items, as the trait has it.
    pub result: String,
    /// Whether the result is a stream.
    pub streamed_result: bool,
    /// The type of the error, if it is data.
    pub error: Option<String>,
    /// JSON Schema of the arguments as one object, as text; `None` unless the service says `#[service(schema)]`.
    pub arguments_schema: Option<String>,
    /// JSON Schema of the result, or of an item of it, as text; `None` unless the service says `#[service(schema)]`, and for bytes.
    pub result_schema: Option<String>,
}

/// The description of an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArgumentDescription {
    /// As the trait has it.
    pub name: String,
    /// As the trait has it.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Whether it has no default. One of an `Option` may be missing even so.
    pub required: bool,
}
