// Made by callosum-thrift-build.

#[allow(clippy::all, dead_code, missing_docs, non_camel_case_types, non_upper_case_globals, rustdoc::all, unreachable_code, unreachable_pub, unused_mut, unused_variables)]
pub mod calculator {
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Overflow {
pub message: ::std::option::Option<::std::string::String>,
}

impl ::std::default::Default for Overflow {
fn default() -> Self {
Self {
message: ::std::default::Default::default(),
}
}
}

impl ::callosum_thrift::Encode for Overflow {
const WIRE_TYPE: ::callosum_thrift::WireType = ::callosum_thrift::WireType::Struct;

fn encode(&self, __to: &mut ::callosum_thrift::Writer) {
__to.optional(1, self.message.as_ref());
__to.stop();
}
}

impl ::callosum_thrift::Decode for Overflow {
const WIRE_TYPE: ::callosum_thrift::WireType = ::callosum_thrift::WireType::Struct;

fn decode(
__from: &mut ::callosum_thrift::Reader<'_>,
) -> ::std::result::Result<Self, ::callosum_thrift::ReadError> {
let mut __0: ::std::option::Option<::std::string::String> = ::std::option::Option::None;
__from.structure(|__from, __id, __wire_type| match __id {
1 => __from.field(__wire_type, &mut __0),
_ => __from.skip(__wire_type),
})?;
::std::result::Result::Ok(Self {
message: __0,
})
}
}

impl ::std::fmt::Display for Overflow {
fn fmt(&self, __f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
match &self.message {
::std::option::Option::Some(__message) => ::std::write!(__f, "Overflow: {__message}"),
::std::option::Option::None => __f.write_str("Overflow"),
}
}
}

impl ::std::error::Error for Overflow {}

pub trait Calculator: ::std::marker::Send + ::std::marker::Sync + 'static {
fn add(&self, a: i64, b: i64, context: &::callosum_thrift::runtime::Context) -> impl ::std::future::Future<Output = ::std::result::Result<i64, ::callosum_thrift::MethodError<super::calculator::CalculatorAddException>>> + ::std::marker::Send;
}

/// Serves an implementation of [`Calculator`].
pub struct CalculatorServer<__S>(::std::sync::Arc<__S>);

impl<__S: Calculator> CalculatorServer<__S> {
/// Serves it.
pub fn new(__implementation: __S) -> Self {
Self(::std::sync::Arc::new(__implementation))
}

#[doc(hidden)]
pub async fn dispatch(
__service: &__S,
__request: ::callosum_thrift::Request,
) -> ::std::result::Result<::callosum_thrift::Bytes, ::callosum_thrift::runtime::HandlerError> {
match __request.method() {
"add" => __request.answer(
|__from| {
let mut __0: ::std::option::Option<i64> = ::std::option::Option::None;
let mut __1: ::std::option::Option<i64> = ::std::option::Option::None;
__from.structure(|__from, __id, __wire_type| match __id {
1 => __from.field(__wire_type, &mut __0),
2 => __from.field(__wire_type, &mut __1),
_ => __from.skip(__wire_type),
})?;
::std::result::Result::Ok((__0.ok_or(::callosum_thrift::ReadError::MissingField("add.a"))?, __1.ok_or(::callosum_thrift::ReadError::MissingField("add.b"))?, ))
},
|__arguments, __context| async move {
let (__0, __1, ) = __arguments;
Calculator::add(__service, __0, __1, &__context).await.map_err(::callosum_thrift::MethodError::<super::calculator::CalculatorAddException>::from)
},
).await,
_ => __request.unknown(),
}
}
}

impl<__S: Calculator> ::std::convert::From<::std::sync::Arc<__S>> for CalculatorServer<__S> {
fn from(__implementation: ::std::sync::Arc<__S>) -> Self {
Self(__implementation)
}
}

impl<__S: Calculator> ::callosum_thrift::Service for CalculatorServer<__S> {
fn call(
&self,
__request: ::callosum_thrift::Request,
) -> impl ::std::future::Future<Output = ::std::result::Result<::callosum_thrift::Bytes, ::callosum_thrift::runtime::HandlerError>> + ::std::marker::Send {
Self::dispatch(&self.0, __request)
}

fn functions(&self) -> &'static str {
"i64 add(1: i64 a, 2: i64 b) throws (1: Overflow overflow)"
}
}

/// Calls a [`Calculator`].
#[derive(Clone, Debug)]
pub struct CalculatorClient(::callosum_thrift::Client);

impl CalculatorClient {
/// Calls the service that a peer has under an alias.
pub fn new(
__peer: ::callosum_thrift::runtime::Peer,
__alias: impl ::std::convert::Into<::std::sync::Arc<str>>,
) -> Self {
Self(::callosum_thrift::Client::new(__peer, __alias))
}

pub fn add(&self, a: i64, b: i64) -> ::callosum_thrift::ThriftInvocation<i64, super::calculator::CalculatorAddException> {
self.0.call("add", |__to| {
__to.field(1, &a);
__to.field(2, &b);
})
}

}

impl ::std::convert::From<::callosum_thrift::Client> for CalculatorClient {
fn from(__client: ::callosum_thrift::Client) -> Self {
Self(__client)
}
}

/// What `Calculator.add` throws.
#[derive(Clone, Debug, PartialEq)]
pub enum CalculatorAddException {
Overflow(super::calculator::Overflow),
}

impl ::callosum_thrift::Exceptions for CalculatorAddException {
fn write(&self, __to: &mut ::callosum_thrift::Writer) {
match self {
Self::Overflow(__value) => __to.field(1, __value),
}
}

fn read(
__from: &mut ::callosum_thrift::Reader<'_>,
__id: i16,
__wire_type: ::callosum_thrift::WireType,
) -> ::std::result::Result<::std::option::Option<Self>, ::callosum_thrift::ReadError> {
match __id {
1 => {
let mut __place = ::std::option::Option::None;
__from.field(__wire_type, &mut __place)?;
::std::result::Result::Ok(__place.map(Self::Overflow))
}
_ => {
__from.skip(__wire_type)?;
::std::result::Result::Ok(::std::option::Option::None)
}
}
}
}

impl ::std::fmt::Display for CalculatorAddException {
fn fmt(&self, __f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
match self {
Self::Overflow(__value) => ::std::fmt::Display::fmt(__value, __f),
}
}
}

impl ::std::error::Error for CalculatorAddException {}

impl ::std::convert::From<super::calculator::Overflow> for CalculatorAddException {
fn from(__exception: super::calculator::Overflow) -> Self {
Self::Overflow(__exception)
}
}

impl ::std::convert::From<super::calculator::Overflow> for ::callosum_thrift::MethodError<CalculatorAddException> {
fn from(__exception: super::calculator::Overflow) -> Self {
Self::Exception(CalculatorAddException::Overflow(__exception))
}
}


}

