//! Services: a trait, a server, a client, and the exceptions of each function.

use callosum_thrift_idl::{DefId, Field, Function, Kind, Schema, Service};

use crate::analysis::is_optional_argument;
use crate::constants;
use crate::derived::Derived;
use crate::error::BuildError;
use crate::names;
use crate::structs::{or, places, required};
use crate::text::push;
use crate::types::{borrowed, module, owned, path, written};

/// Methods that a client has besides the functions of its service.
const TAKEN: [&str; 1] = ["new"];

/// Everything that is made of a service.
pub(crate) fn service(
    schema: &Schema,
    derived: &Derived,
    id: DefId,
    name: &str,
    service: &Service,
) -> Result<String, BuildError> {
    let functions = &service.functions;
    names::check(name, functions.iter().map(|function| names::of_value(&function.name)))?;
    let parent = service.extends.as_ref().map(|parent| path(schema, parent.target()));
    let mut code = declaration(schema, derived, id, name, parent.as_deref(), functions);
    code.push_str(&server(schema, derived, id, name, service)?);
    code.push_str(&client(schema, derived, id, name)?);
    for function in functions.iter().filter(|function| !function.throws.is_empty()) {
        code.push_str(&exceptions(schema, derived, id, function)?);
    }
    Ok(code)
}

/// The path of the enum of a function's exceptions, from within a module beside the service's.
fn exceptions_path(schema: &Schema, derived: &Derived, service: DefId, function: &Function) -> String {
    format!("{}::{}", module(schema, service), derived.service(service).exceptions(function))
}

fn result(schema: &Schema, function: &Function) -> String {
    function.result.as_ref().map_or("()".into(), |ty| owned(schema, ty))
}

/// The type of an argument as a server is given it.
fn argument(schema: &Schema, field: &Field) -> String {
    let ty = owned(schema, &field.ty);
    if is_optional_argument(field) { format!("::std::option::Option<{ty}>") } else { ty }
}

fn declaration(
    schema: &Schema,
    derived: &Derived,
    id: DefId,
    name: &str,
    parent: Option<&str>,
    functions: &[Function],
) -> String {
    let bounds = match parent {
        Some(parent) => parent.to_owned(),
        None => "::std::marker::Send + ::std::marker::Sync + 'static".into(),
    };
    let mut methods = String::new();
    for function in functions {
        let (arguments, context) = derived.arguments(id.file(), function);
        let arguments: String = arguments
            .iter()
            .zip(&function.arguments)
            .map(|(name, field)| format!("{name}: {}, ", argument(schema, field)))
            .collect();
        let error = match function.throws.is_empty() {
            true => "::callosum_thrift::runtime::HandlerError".into(),
            false => {
                format!("::callosum_thrift::MethodError<{}>", exceptions_path(schema, derived, id, function))
            }
        };
        push(
            &mut methods,
            format_args!(
                "{}fn {}(&self, {arguments}{context}: &::callosum_thrift::runtime::Context) -> impl ::std::future::Future<Output = \
                 ::std::result::Result<{}, {error}>> + ::std::marker::Send;\n",
                names::docs(&function.docs),
                names::of_value(&function.name),
                result(schema, function)
            ),
        );
    }
    format!("pub trait {name}: {bounds} {{\n{methods}}}\n\n")
}

fn server(
    schema: &Schema,
    derived: &Derived,
    id: DefId,
    name: &str,
    service: &Service,
) -> Result<String, BuildError> {
    let mut arms = String::new();
    for function in &service.functions {
        push(
            &mut arms,
            format_args!("{:?} => {}\n", function.name, arm(schema, derived, id, name, function)?),
        );
    }
    let server = &derived.service(id).server;
    let signatures = signatures(schema, id);
    let otherwise = match &service.extends {
        Some(parent) => {
            let parent = parent.target();
            let server = &derived.service(parent).server;
            format!("{}::{server}::dispatch(__service, __request).await", module(schema, parent))
        }
        None => "__request.unknown()".into(),
    };
    let answer = "::std::result::Result<::callosum_thrift::Bytes, ::callosum_thrift::runtime::HandlerError>";
    Ok(format!(
        "/// Serves an implementation of [`{name}`].
pub struct {server}<__S>(::std::sync::Arc<__S>);

impl<__S: {name}> {server}<__S> {{
/// Serves it.
pub fn new(__implementation: __S) -> Self {{
Self(::std::sync::Arc::new(__implementation))
}}

#[doc(hidden)]
pub async fn dispatch(
__service: &__S,
__request: ::callosum_thrift::Request,
) -> {answer} {{
match __request.method() {{
{arms}_ => {otherwise},
}}
}}
}}

impl<__S: {name}> ::std::convert::From<::std::sync::Arc<__S>> for {server}<__S> {{
fn from(__implementation: ::std::sync::Arc<__S>) -> Self {{
Self(__implementation)
}}
}}

impl<__S: {name}> ::callosum_thrift::Service for {server}<__S> {{
fn call(
&self,
__request: ::callosum_thrift::Request,
) -> impl ::std::future::Future<Output = {answer}> + ::std::marker::Send {{
Self::dispatch(&self.0, __request)
}}

fn functions(&self) -> &'static str {{
{signatures:?}
}}
}}

"
    ))
}

/// The functions of a service and of those that it extends, each with its service. One of a child hides that of its parent.
fn callable(schema: &Schema, id: DefId) -> Vec<(DefId, &Function)> {
    let mut callable: Vec<(DefId, &Function)> = Vec::new();
    for service in schema.lineage(id) {
        let Kind::Service(content) = &schema.definition(service).kind else { continue };
        for function in &content.functions {
            if callable.iter().all(|(_, known)| known.name != function.name) {
                callable.push((service, function));
            }
        }
    }
    callable
}

/// The functions of a service and of those that it extends, as a file has them, one a line; comments as they are.
fn signatures(schema: &Schema, id: DefId) -> String {
    let mut lines = Vec::new();
    for (_, function) in callable(schema, id) {
        lines.extend(function.docs.lines().map(|line| format!("// {line}")));
        lines.push(signature(function));
    }
    lines.join("\n")
}

fn signature(function: &Function) -> String {
    let fields = |fields: &[Field]| {
        let fields = fields.iter().map(|field| {
            let optional = if is_optional_argument(field) { "optional " } else { "" };
            format!("{}: {optional}{} {}", field.id, written(&field.ty), field.name)
        });
        fields.collect::<Vec<_>>().join(", ")
    };
    let oneway = if function.oneway { "oneway " } else { "" };
    let result = function.result.as_ref().map_or("void".into(), written);
    let throws = match function.throws.is_empty() {
        true => String::new(),
        false => format!(" throws ({})", fields(&function.throws)),
    };
    format!("{oneway}{result} {}({}){throws}", function.name, fields(&function.arguments))
}

/// Reads the arguments of a function, and calls it.
fn arm(
    schema: &Schema,
    derived: &Derived,
    id: DefId,
    service: &str,
    function: &Function,
) -> Result<String, BuildError> {
    let reading = places(function.arguments.iter().map(|field| (field, owned(schema, &field.ty))));
    let (mut values, mut variables) = (String::new(), String::new());
    for (place, field) in function.arguments.iter().enumerate() {
        let value = match &field.default {
            _ if is_optional_argument(field) => format!("__{place}"),
            Some(default) => or(place, &constants::default(schema, &field.name, &field.ty, default, false)?),
            None => required(place, &function.name, &field.name),
        };
        push(&mut values, format_args!("{value}, "));
        push(&mut variables, format_args!("__{place}, "));
    }
    let error = match function.throws.is_empty() {
        true => "::std::convert::Infallible".into(),
        false => exceptions_path(schema, derived, id, function),
    };
    let method = names::of_value(&function.name);
    Ok(format!(
        "__request.answer(
|__from| {{
{reading}::std::result::Result::Ok(({values}))
}},
|__arguments, __context| async move {{
let ({variables}) = __arguments;
{service}::{method}(__service, {variables}&__context).await.map_err(::callosum_thrift::MethodError::<{error}>::from)
}},
).await,"
    ))
}

fn client(schema: &Schema, derived: &Derived, id: DefId, name: &str) -> Result<String, BuildError> {
    let functions = callable(schema, id);
    let methods: String = functions
        .iter()
        .map(|(service, function)| call(schema, derived, (id.file(), *service), function))
        .collect();
    names::check(name, functions.iter().map(|(_, function)| method_name(&function.name)))?;
    let client = &derived.service(id).client;
    Ok(format!(
        "/// Calls a [`{name}`].
#[derive(Clone, Debug)]
pub struct {client}(::callosum_thrift::Client);

impl {client} {{
/// Calls the service that a peer has under an alias.
pub fn new(
__peer: ::callosum_thrift::runtime::Peer,
__alias: impl ::std::convert::Into<::std::sync::Arc<str>>,
) -> Self {{
Self(::callosum_thrift::Client::new(__peer, __alias))
}}

{methods}}}

impl ::std::convert::From<::callosum_thrift::Client> for {client} {{
fn from(__client: ::callosum_thrift::Client) -> Self {{
Self(__client)
}}
}}

"
    ))
}

/// The name of a client's method.
fn method_name(function: &str) -> String {
    names::free(names::of_value(function), |name| TAKEN.contains(&name))
}

/// A method of a client in this file, for a function of this service.
fn call(schema: &Schema, derived: &Derived, (file, service): (usize, DefId), function: &Function) -> String {
    let (mut arguments, mut writes) = (String::new(), String::new());
    for (name, field) in derived.arguments(file, function).0.iter().zip(&function.arguments) {
        let (number, ty) = (field.id, borrowed(schema, &field.ty));
        match is_optional_argument(field) {
            true => {
                push(&mut arguments, format_args!(", {name}: ::std::option::Option<{ty}>"));
                push(&mut writes, format_args!("__to.optional({number}, {name}.as_ref());\n"));
            }
            false => {
                push(&mut arguments, format_args!(", {name}: {ty}"));
                push(&mut writes, format_args!("__to.field({number}, &{name});\n"));
            }
        }
    }
    let error = match function.throws.is_empty() {
        true => String::new(),
        false => format!(", {}", exceptions_path(schema, derived, service, function)),
    };
    let name = method_name(&function.name);
    let call = if function.oneway { "call_oneway" } else { "call" };
    format!(
        "{}pub fn {name}(&self{arguments}) -> ::callosum_thrift::ThriftInvocation<{}{error}> {{\n\
         self.0.{call}({:?}, |__to| {{\n{writes}}})\n}}\n\n",
        names::docs(&function.docs),
        result(schema, function),
        function.name
    )
}

/// The exceptions of a function.
fn exceptions(
    schema: &Schema,
    derived: &Derived,
    id: DefId,
    function: &Function,
) -> Result<String, BuildError> {
    let name = derived.service(id).exceptions(function);
    names::check(name, function.throws.iter().map(|field| names::of_type(&field.name)))?;
    let [mut variants, mut writes, mut reads, mut texts, mut from] = [const { String::new() }; 5];
    for field in &function.throws {
        let (variant, number, ty) = (names::of_type(&field.name), field.id, owned(schema, &field.ty));
        push(&mut variants, format_args!("{}{variant}({ty}),\n", names::docs(&field.docs)));
        push(&mut writes, format_args!("Self::{variant}(__value) => __to.field({number}, __value),\n"));
        push(
            &mut texts,
            format_args!("Self::{variant}(__value) => ::std::fmt::Display::fmt(__value, __f),\n"),
        );
        push(
            &mut reads,
            format_args!(
                "{number} => {{\nlet mut __place = ::std::option::Option::None;\n__from.field(__wire_type, &mut __place)?;\n\
                 ::std::result::Result::Ok(__place.map(Self::{variant}))\n}}\n"
            ),
        );
        let underlying = |field: &Field| owned(schema, schema.underlying(&field.ty));
        let twice = function.throws.iter().filter(|other| underlying(other) == underlying(field)).count() > 1;
        if !twice {
            push(
                &mut from,
                format_args!(
                    "impl ::std::convert::From<{ty}> for {name} {{\nfn from(__exception: {ty}) -> Self {{\nSelf::{variant}(__exception)\n}}\n}}\n\n\
                     impl ::std::convert::From<{ty}> for ::callosum_thrift::MethodError<{name}> {{\nfn from(__exception: {ty}) -> Self {{\n\
                     Self::Exception({name}::{variant}(__exception))\n}}\n}}\n\n"
                ),
            );
        }
    }
    let service = names::of_type(&schema.definition(id).name);
    let function = &function.name;
    Ok(format!(
        "/// What `{service}.{function}` throws.
#[derive(Clone, Debug, PartialEq)]
pub enum {name} {{
{variants}}}

impl ::callosum_thrift::Exceptions for {name} {{
fn write(&self, __to: &mut ::callosum_thrift::Writer) {{
match self {{
{writes}}}
}}

fn read(
__from: &mut ::callosum_thrift::Reader<'_>,
__id: i16,
__wire_type: ::callosum_thrift::WireType,
) -> ::std::result::Result<::std::option::Option<Self>, ::callosum_thrift::ReadError> {{
match __id {{
{reads}_ => {{
__from.skip(__wire_type)?;
::std::result::Result::Ok(::std::option::Option::None)
}}
}}
}}
}}

impl ::std::fmt::Display for {name} {{
fn fmt(&self, __f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {{
match self {{
{texts}}}
}}
}}

impl ::std::error::Error for {name} {{}}

{from}"
    ))
}
