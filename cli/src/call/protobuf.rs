//! `callosum call --proto`: a method of a `.proto` file, with JSON in and out.
//!
//! The idea: the file is compiled when the command runs, and its messages are known by their descriptors only.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use callosum_protobuf::prost::Message;
use callosum_protobuf::prost_types::Any;
use callosum_protobuf::{Status, framing};
use callosum_runtime::{CallError, CodecError};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::value::RawValue;

use crate::exit::Failure;
use crate::value::{ToLine, hex};

pub(super) struct Protobuf {
    method: MethodDescriptor,
    pool: DescriptorPool,
}

impl Protobuf {
    /// The method of this name, as `package.Service/Method`, in a file. What the file imports is looked for in `includes` or, if there are
    /// none, in its folder.
    ///
    /// # Errors
    /// If the file can't be read or compiled, or there is no such method.
    pub(super) fn open(method: &str, file: &Path, includes: &[PathBuf]) -> Result<Self, Failure> {
        let folder = match file.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let includes = if includes.is_empty() { &[folder][..] } else { includes };
        let pool = compile(file, includes)
            .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
        let method = find(&pool, method).map_err(|there_are| {
            let missing = format!("{} has no method `{method}`", file.display());
            Failure::Usage(match there_are.is_empty() {
                true => format!("{missing}, and no other"),
                false => format!("{missing}; it has {}", there_are.join(", ")),
            })
        })?;
        Ok(Self { method, pool })
    }

    /// # Errors
    /// If the method takes a stream and there is none, or the other way round.
    pub(super) fn check_input(&self, is_stream: bool) -> Result<(), Failure> {
        let name = self.method.full_name();
        match (self.method.is_client_streaming(), is_stream) {
            (true, false) => {
                Err(Failure::Usage(format!("{name} takes a stream of messages: give them with --input")))
            }
            (false, true) => Err(Failure::Usage(format!("{name} takes no stream: leave --input out"))),
            _ => Ok(()),
        }
    }

    pub(super) fn streams_result(&self) -> bool {
        self.method.is_server_streaming()
    }

    pub(super) fn argument(&self, json: &RawValue) -> Result<Bytes, Failure> {
        let message = message_of(self.method.input(), json.get())?;
        Ok(message.encode_to_vec().into())
    }

    pub(super) fn item(&self, json: &RawValue) -> Result<Bytes, Failure> {
        self.argument(json).map(|message| framing::to_item(&message))
    }

    pub(super) fn line(&self, body: Bytes) -> Result<String, Failure> {
        line_of(self.method.output(), &body).map_err(unreadable)
    }

    pub(super) fn item_line(&self, item: Bytes) -> Result<String, Failure> {
        let message = framing::from_item(item).map_err(|error| unreadable(error.into()))?;
        self.line(message)
    }

    /// A failure of the handler is a status. Its details are shown as far as the file has their types.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let Failure::Remote(info) = failure else { return failure };
        let status = Status::from(CallError::Remote(info));
        let details = status.details().iter().map(|detail| self.detail(detail)).collect();
        Failure::Status { status, details }
    }

    fn detail(&self, detail: &Any) -> String {
        let name = detail.type_url.rsplit('/').next().unwrap_or_default();
        let known = self.pool.get_message_by_name(name).map(|known| line_of(known, &detail.value));
        match known {
            Some(Ok(line)) => format!("{name} {line}"),
            Some(Err(_)) | None => format!("{} {}", detail.type_url, hex(&detail.value)),
        }
    }
}

fn compile(file: &Path, includes: &[PathBuf]) -> Result<DescriptorPool, protox::Error> {
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(true).open_file(file)?;
    Ok(compiler.descriptor_pool())
}

/// # Errors
/// The names of the methods that there are.
fn find(pool: &DescriptorPool, name: &str) -> Result<MethodDescriptor, Vec<String>> {
    let full_name =
        |method: &MethodDescriptor| format!("{}/{}", method.parent_service().full_name(), method.name());
    let methods: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    let found = methods.iter().find(|method| full_name(method) == name);
    found.cloned().ok_or_else(|| methods.iter().map(full_name).collect())
}

/// A message of its JSON; `null`, which is what no argument is, has no fields.
fn message_of(descriptor: MessageDescriptor, json: &str) -> Result<DynamicMessage, Failure> {
    if json == "null" && descriptor.full_name() != "google.protobuf.Value" {
        return Ok(DynamicMessage::new(descriptor));
    }
    let name = descriptor.full_name().to_owned();
    let mut json = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(descriptor, &mut json)
        .map_err(|error| Failure::Usage(format!("the argument is not a {name}: {error}")))
}

/// A message as one line of JSON.
fn line_of(descriptor: MessageDescriptor, bytes: &[u8]) -> Result<String, CodecError> {
    let custom = |error: Box<dyn std::error::Error + Send + Sync>| CodecError::Custom(error);
    let message = DynamicMessage::decode(descriptor, bytes).map_err(|error| custom(error.into()))?;
    let json = serde_json::to_string(&message).map_err(CodecError::Json)?;
    RawValue::from_string(json).map(ToLine::to_line).map_err(CodecError::Json)
}

fn unreadable(error: CodecError) -> Failure {
    Failure::Call(CallError::Decode(error))
}
