//! `callosum call --thrift`: JSON in, a Thrift message on the wire, JSON out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use callosum_runtime::{CallError, CodecError, ErrorInfo};
use callosum_thrift::Protocol;
use callosum_thrift::dynamic::{CallJsonError, DynamicMethod, Loader};
use serde_json::Value;

use crate::args::ThriftArgs;
use crate::exit::Failure;

/// The number of the call in its message. There is one call.
const SEQUENCE: i32 = 1;

/// A method of a service in a `.thrift` file, and the alias that the service is called by.
pub(super) struct Thrift {
    alias: String,
    method: DynamicMethod,
}

impl Thrift {
    /// The method of this name, as `ALIAS.METHOD`, of a service in a file, or of the only one that has it.
    ///
    /// # Errors
    /// If the file is wrong, or has no such method.
    pub(super) fn open(
        name: &str,
        path: &Path,
        includes: &[PathBuf],
        args: &ThriftArgs,
    ) -> Result<Self, Failure> {
        Self::find(path, includes, args, name).map_err(Failure::Usage)
    }

    fn find(path: &Path, includes: &[PathBuf], args: &ThriftArgs, name: &str) -> Result<Self, String> {
        let (alias, method) = name
            .rsplit_once('.')
            .ok_or_else(|| format!("{name:?} names no method of a Thrift service: write ALIAS.METHOD"))?;
        let loader = includes.iter().fold(Loader::new(), Loader::include_folder);
        let schema = loader.load(path).map_err(|error| error.to_string())?;
        let method = DynamicMethod::find(Arc::new(schema), args.thrift_service.as_deref(), method)
            .map_err(|error| error.to_string())?;
        let protocol = if args.thrift_compact { Protocol::Compact } else { Protocol::Binary };
        Ok(Self { alias: alias.to_owned(), method: method.protocol(protocol) })
    }

    /// The method of Callosum.
    pub(super) fn alias(&self) -> &str {
        &self.alias
    }

    /// The argument as it travels.
    ///
    /// # Errors
    /// If it is not what the file says.
    pub(super) fn request(&self, arguments: &str) -> Result<Bytes, Failure> {
        let arguments: Value =
            serde_json::from_str(arguments).map_err(|error| Failure::Usage(error.to_string()))?;
        self.method.request(SEQUENCE, &arguments).map_err(|error| Failure::Usage(error.to_string()))
    }

    /// The result as one line of JSON.
    ///
    /// # Errors
    /// With what the method throws, or what is wrong with the reply.
    pub(super) fn result(&self, body: &Bytes) -> Result<String, Failure> {
        match self.method.response(SEQUENCE, body) {
            Ok(value) => Ok(crate::value::line(&value)),
            Err(CallJsonError::Exception { name, value }) => {
                Err(Failure::Remote(ErrorInfo::new(name, value.to_string())))
            }
            Err(CallJsonError::Application(exception)) => {
                Err(Failure::Refused(ErrorInfo::new("TApplicationException", exception.to_string())))
            }
            Err(error) => Err(Failure::Call(CallError::Decode(CodecError::Custom(error.into())))),
        }
    }
}
