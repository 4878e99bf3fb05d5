//! The side that answers.
//!
//! The idea: a service is one method of Callosum, its alias; the message names the method of the service. What is
//! generated matches on its name, and answers the [`Request`] with that method; everything that is the same for all methods is here. The
//! calls of all methods are one future, so that a call has one allocation for it, whatever it calls.

use std::fmt;
use std::future::{Future, ready};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use callosum_runtime::service::{ArgumentDescription, MethodDescription};
use callosum_runtime::{Builder, Context, HandlerError, HandlerExists, Handlers, Method};
use futures_util::FutureExt;
use futures_util::future::Either;

use crate::call_error::MethodError;
use crate::error::ReadError;
use crate::exception::{ApplicationException, ExceptionKind, Exceptions};
use crate::limits::Limits;
use crate::message::{Message, MessageKind};
use crate::protocol::Protocol;
use crate::reader::Reader;
use crate::value::Output;
use crate::writer::{Encode, Writer};

/// A service of Thrift. What implements a generated trait becomes one with the `…Server` beside it.
pub trait Service: Send + Sync + 'static {
    /// Answers a call with a message: that of [`Request::answer`], or of [`Request::unknown`] if there is no such method.
    ///
    /// The future has room for that of any method, so each call takes as much memory as the largest: a method that holds far more than
    /// the others across an `await`, such as an array, should box it.
    fn call(&self, request: Request) -> impl Future<Output = Result<Bytes, HandlerError>> + Send;

    /// The functions as the `.thrift` file has them, one a line, for endpoints that describe their services.
    fn functions(&self) -> &'static str {
        ""
    }
}

/// A call, whose method is known, and whose arguments are not read yet.
pub struct Request {
    message: Bytes,
    /// The position of the method's name in the message.
    method: Range<usize>,
    sequence: i32,
    /// Where the arguments begin.
    arguments: usize,
    protocol: Protocol,
    limits: Limits,
    context: Context,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = (self.method(), self.sequence);
        f.debug_struct("Request")
            .field("method", &fields.0)
            .field("sequence", &fields.1)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Reads the envelope of a call.
    fn new(message: Bytes, protocol: Protocol, limits: Limits, context: Context) -> Result<Self, ReadError> {
        let (envelope, reader) = Message::read(&message, protocol, limits)?;
        if !matches!(envelope.kind, MessageKind::Call | MessageKind::Oneway) {
            return Err(ReadError::BadKind(envelope.kind as u8));
        }
        let arguments = message.len() - reader.remaining();
        let sequence = envelope.sequence;
        // The bytes between the name and the arguments.
        let between = match protocol {
            Protocol::Binary => size_of_val(&sequence),
            Protocol::Compact => 0,
        };
        let name_end = arguments - between;
        let method = name_end - envelope.method.len()..name_end;
        Ok(Self { message, method, sequence, arguments, protocol, limits, context })
    }

    /// The method that is called.
    pub fn method(&self) -> &str {
        text(&self.message[self.method.clone()])
    }

    /// Reads the arguments, which are one struct, and answers with what the handler returns: a message, or an error of the handler that it
    /// does not declare. Arguments that can't be read fail the call, too.
    pub fn answer<A, R, E, F, Fut>(
        self,
        arguments: impl FnOnce(&mut Reader<'_>) -> Result<A, ReadError>,
        handler: F,
    ) -> impl Future<Output = Result<Bytes, HandlerError>>
    where
        R: Output,
        E: Exceptions,
        F: FnOnce(A, Context) -> Fut,
        Fut: Future<Output = Result<R, MethodError<E>>>,
    {
        let mut reader = Reader::resume(&self.message, self.arguments, self.protocol, self.limits);
        let read = arguments(&mut reader).and_then(|arguments| reader.finish().map(|()| arguments));
        let arguments = match read {
            Ok(arguments) => arguments,
            Err(error) => return Either::Left(ready(Err(refusal(&error)))),
        };
        let (message, method) = (self.message, self.method);
        let (sequence, protocol) = (self.sequence, self.protocol);
        // Combinators, as an `async` block would hold many of these values twice.
        Either::Right(handler(arguments, self.context).map(move |returned| {
            let mut writer = reply(MessageKind::Reply, text(&message[method]), sequence, protocol);
            match returned {
                Ok(result) => result.write(&mut writer),
                Err(MethodError::Exception(exception)) => exception.write(&mut writer),
                Err(MethodError::Undeclared(error)) => return Err(error),
            }
            writer.stop();
            Ok(writer.finish()?)
        }))
    }

    /// Answers that there is no such method.
    ///
    /// # Errors
    /// If the name of the method is too long to be repeated.
    pub fn unknown(self) -> Result<Bytes, HandlerError> {
        let mut writer = reply(MessageKind::Exception, self.method(), self.sequence, self.protocol);
        ApplicationException { kind: ExceptionKind::UnknownMethod, message: None }.encode(&mut writer);
        Ok(writer.finish()?)
    }
}

/// The name of a method.
fn text(method: &[u8]) -> &str {
    std::str::from_utf8(method).expect("the name was checked when the envelope was read")
}

fn reply(kind: MessageKind, method: &str, sequence: i32, protocol: Protocol) -> Writer {
    Message { kind, method, sequence }.write(protocol)
}

/// A FAILURE, with the name that Python's server gives it.
fn refusal(error: &ReadError) -> HandlerError {
    HandlerError::new("TProtocolException", &error.to_string())
}

/// A service as a method of Callosum, to be added to a builder or to handlers, or to replace another one.
pub fn method(service: impl Service) -> Method {
    method_with(service, Protocol::Binary, Limits::DEFAULT)
}

/// The same, with a protocol that its callers have to speak too, and with limits on the messages that it reads.
pub fn method_with(service: impl Service, protocol: Protocol, limits: Limits) -> Method {
    let mut description = MethodDescription::default();
    let mut message = ArgumentDescription::default();
    (message.name, message.type_name, message.required) = ("message".into(), "Thrift".into(), true);
    (description.docs, description.result) = (service.functions().into(), "Thrift".into());
    description.arguments = vec![message];
    let service = Arc::new(service);
    let method = Method::raw(move |message: Bytes, context: Context| {
        let service = service.clone();
        // Where it is polled, and not where it is called: a slow method is polled in a task of its own, large arguments and all.
        async move {
            let request =
                Request::new(message, protocol, limits, context).map_err(|error| refusal(&error))?;
            service.call(request).await
        }
    });
    method.described(description)
}

/// Adds a service under an alias, which is the method of Callosum that its callers name.
///
/// With a `Builder`, it returns the builder; with `&Handlers`, whether the alias was free.
pub fn register<T: Registry>(registry: T, alias: impl Into<String>, service: impl Service) -> T::Registered {
    registry.add(alias.into(), method(service))
}

mod sealed {
    /// Keeps other crates from implementing [`Registry`](super::Registry), so that it can get further methods.
    pub trait Sealed {}
}

impl<S> sealed::Sealed for Builder<S> {}
impl sealed::Sealed for &Handlers {}

/// Where a service can be [registered](register): a `Builder`, or the `Handlers` of an endpoint that runs. Sealed: no
/// other type implements it.
pub trait Registry: sealed::Sealed + Sized {
    /// The type that registering returns.
    type Registered;

    /// Adds a method under a name.
    fn add(self, name: String, method: Method) -> Self::Registered;
}

impl<S> Registry for Builder<S> {
    type Registered = Self;

    fn add(self, name: String, method: Method) -> Self {
        self.handle_method(name, method)
    }
}

impl Registry for &Handlers {
    type Registered = Result<(), HandlerExists>;

    fn add(self, name: String, method: Method) -> Result<(), HandlerExists> {
        self.add_method(name, method)
    }
}
