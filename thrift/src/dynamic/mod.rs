//! Calls of methods that are known only at run time: a `.thrift` file, and JSON in and out. Feature `dynamic`.
//!
//! ```
//! use callosum_thrift::dynamic::{DynamicMethod, Loader};
//! use serde_json::json;
//!
//! let schema = Loader::new().parse("simple", "service Simple { i64 add(1: i64 a, 2: i64 b) }")?;
//! let add = DynamicMethod::find(schema.into(), None, "add")?;
//! let message = add.request(1, &json!({"a": 1, "b": 2}))?;
//! assert_eq!(&message[..11], b"\x80\x01\x00\x01\x00\x00\x00\x03add");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The message is to be sent as it is, by `Peer::invoke_raw` to the alias of the service, and what comes back is for
//! [`DynamicMethod::response`].
//!
//! | Thrift | JSON |
//! | --- | --- |
//! | `bool`, `byte`, `i16`, `i32`, `i64` | `true` and `false`, numbers |
//! | `double` | a number, or one of the texts `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `string` | a text |
//! | `binary` | a text: base64 with padding |
//! | `uuid` | a text such as `"00112233-4455-6677-8899-aabbccddeeff"` |
//! | an enum | the name of its value, or a number that has none; both are taken |
//! | a struct, an exception | an object of its fields; those that are missing are left out |
//! | a union | an object of one field |
//! | `list`, `set` | an array |
//! | `map` with keys that are texts, numbers, `bool`s or enums | an object |
//! | any other `map` | an array of arrays of key and value; taken for every map |

mod error;
mod read;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use callosum_thrift_idl::{DefId, Function, IdlError};
pub use callosum_thrift_idl::{Loader, Schema};
use serde_json::{Map, Value};

pub use error::{CallJsonError, FindError, JsonError};

use crate::call_error::ReplyError;
use crate::error::ReadError;
use crate::limits::Limits;
use crate::message::{Message, MessageKind};
use crate::protocol::Protocol;
use crate::reply::{Opened, open};

/// The error of a [`Loader`].
pub type LoadError = IdlError;

/// A method of a service in a file.
#[derive(Clone, Debug)]
pub struct DynamicMethod {
    schema: Arc<Schema>,
    service: DefId,
    name: String,
    protocol: Protocol,
    limits: Limits,
}

impl DynamicMethod {
    /// Looks for a method in a service of the file itself, inherited ones included; without a service, in all of them.
    ///
    /// # Errors
    /// If there is none, or without a service, several.
    pub fn find(schema: Arc<Schema>, service: Option<&str>, method: &str) -> Result<Self, FindError> {
        let services: Vec<_> =
            schema.services().filter(|(_, name)| service.is_none_or(|service| service == *name)).collect();
        if let (true, Some(service)) = (services.is_empty(), service) {
            return Err(FindError::NoSuchService(service.to_owned()));
        }
        let mut having = services.iter().filter(|(id, _)| schema.function(*id, method).is_some());
        let found = having.next().ok_or_else(|| FindError::NoSuchMethod(method.to_owned()))?.0;
        let others: Vec<_> = having.map(|(_, name)| (*name).to_owned()).collect();
        if !others.is_empty() {
            let first = schema.definition(found).name.clone();
            return Err(FindError::Ambiguous {
                method: method.to_owned(),
                services: [vec![first], others].concat().join(", "),
            });
        }
        let (schema, name) = (schema.clone(), method.to_owned());
        Ok(Self { schema, service: found, name, protocol: Protocol::Binary, limits: Limits::DEFAULT })
    }

    /// Speaks this protocol. Default: [`Protocol::Binary`].
    pub fn protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// Limits the responses that are read.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    fn function(&self) -> &Function {
        self.schema.function(self.service, &self.name).expect("the function was looked up when this was made")
    }

    /// The message of a call with this number. The arguments are an object by their names; `null` is one without any.
    ///
    /// # Errors
    /// If an argument is none of its type, is unknown, or is missing where it has to be there.
    pub fn request(&self, sequence: i32, arguments: &Value) -> Result<Bytes, JsonError> {
        let function = self.function();
        let kind = if function.oneway { MessageKind::Oneway } else { MessageKind::Call };
        let mut writer = Message { kind, method: &self.name, sequence }.write(self.protocol);
        let nothing = Value::Object(Map::new());
        let arguments = if arguments.is_null() { &nothing } else { arguments };
        write::arguments(&self.schema, &function.arguments, arguments, &mut writer)?;
        writer.finish().map_err(JsonError::from)
    }

    /// Reads the response to that call: the result as JSON, or an error.
    ///
    /// # Errors
    /// If the method has thrown an exception, or the response can't be read, or is none to this call.
    pub fn response(&self, sequence: i32, message: &Bytes) -> Result<Value, CallJsonError> {
        let function = self.function();
        if function.oneway && message.is_empty() {
            return Ok(Value::Null);
        }
        let mut reader = match open(message, &self.name, sequence, (self.protocol, self.limits))? {
            Opened::Result(reader) => reader,
            Opened::Exception(exception) => return Err(CallJsonError::Application(exception)),
        };
        let (mut result, mut thrown) = (None, None);
        reader.structure(|reader, id, wire_type| {
            let exception = function.throws.iter().find(|field| field.id == id);
            match (id, &function.result, exception) {
                (0, Some(ty), _) if read::wire_type(&self.schema, ty) == wire_type => {
                    result = Some(read::value(&self.schema, ty, reader)?);
                }
                (_, _, Some(field)) if read::wire_type(&self.schema, &field.ty) == wire_type => {
                    thrown = Some((field.name.clone(), read::value(&self.schema, &field.ty, reader)?));
                }
                _ => reader.skip(wire_type)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        match (thrown, result, &function.result) {
            (Some((name, value)), _, _) => Err(CallJsonError::Exception { name, value }),
            (None, Some(result), _) => Ok(result),
            (None, None, None) => Ok(Value::Null),
            (None, None, Some(_)) => Err(ReplyError::MissingResult.into()),
        }
    }
}

impl From<ReadError> for CallJsonError {
    fn from(error: ReadError) -> Self {
        Self::Reply(error.into())
    }
}

#[cfg(test)]
mod tests;
