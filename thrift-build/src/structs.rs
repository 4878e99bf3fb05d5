//! Structs, exceptions and unions.

use callosum_thrift_idl::{DefId, Field, Flavour, Requiredness, Schema, Struct, Type};

use crate::analysis::{fields_have_default, fields_have_order, is_boxed, is_option};
use crate::constants::{self, FieldDefault};
use crate::error::BuildError;
use crate::names;
use crate::text::push;
use crate::types::owned;

/// The derives of a struct or union.
fn derives(schema: &Schema, id: DefId, fields: &[Field]) -> &'static str {
    match fields_have_order(schema, id, fields) {
        true => "#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]",
        false => "#[derive(Clone, Debug, PartialEq, PartialOrd)]",
    }
}

/// The type of a field without the `Option` around it.
fn inner(schema: &Schema, id: DefId, field: &Field) -> String {
    let ty = owned(schema, &field.ty);
    if is_boxed(schema, id, &field.ty) { format!("::std::boxed::Box<{ty}>") } else { ty }
}

/// The default of a field, boxed if the field is.
fn default(schema: &Schema, id: DefId, field: &Field) -> Result<Option<FieldDefault>, BuildError> {
    let Some(value) = &field.default else { return Ok(None) };
    constants::default(schema, &field.name, &field.ty, value, is_boxed(schema, id, &field.ty)).map(Some)
}

/// A struct or an exception.
pub(crate) fn structure(
    schema: &Schema,
    id: DefId,
    name: &str,
    structure: &Struct,
) -> Result<String, BuildError> {
    let fields = &structure.fields;
    names::check(name, fields.iter().map(|field| names::of_value(&field.name)))?;
    let (mut members, mut writes, mut defaults) = (String::new(), String::new(), String::new());
    for field in fields {
        let (rust_name, number) = (names::of_value(&field.name), field.id);
        let ty = inner(schema, id, field);
        let (ty, write) = match is_option(field) {
            true => (
                format!("::std::option::Option<{ty}>"),
                format!("optional({number}, self.{rust_name}.as_ref())"),
            ),
            false => (ty, format!("field({number}, &self.{rust_name})")),
        };
        push(&mut members, format_args!("{}pub {rust_name}: {ty},\n", names::docs(&field.docs)));
        push(&mut writes, format_args!("__to.{write};\n"));
        let value = match default(schema, id, field)? {
            Some(default) if is_option(field) => {
                format!("::std::option::Option::Some({})", default.expression)
            }
            Some(default) => default.expression,
            None => "::std::default::Default::default()".into(),
        };
        push(&mut defaults, format_args!("{rust_name}: {value},\n"));
    }
    let derives = derives(schema, id, fields);
    let mut code = format!("{derives}\npub struct {name} {{\n{members}}}\n\n");
    if fields_have_default(schema, id, fields) {
        push(
            &mut code,
            format_args!(
                "impl ::std::default::Default for {name} {{\nfn default() -> Self {{\nSelf {{\n{defaults}}}\n}}\n}}\n\n"
            ),
        );
    }
    code.push_str(&encode(name, &format!("{writes}__to.stop();\n")));
    code.push_str(&decode(name, &reading(schema, id, name, fields)?));
    if structure.flavour == Flavour::Exception {
        code.push_str(&exception(schema, name, fields));
    }
    Ok(code)
}

fn encode(name: &str, body: &str) -> String {
    format!(
        "impl ::callosum_thrift::Encode for {name} {{
const WIRE_TYPE: ::callosum_thrift::WireType = ::callosum_thrift::WireType::Struct;

fn encode(&self, __to: &mut ::callosum_thrift::Writer) {{
{body}}}
}}

"
    )
}

fn decode(name: &str, body: &str) -> String {
    format!(
        "impl ::callosum_thrift::Decode for {name} {{
const WIRE_TYPE: ::callosum_thrift::WireType = ::callosum_thrift::WireType::Struct;

fn decode(
__from: &mut ::callosum_thrift::Reader<'_>,
) -> ::std::result::Result<Self, ::callosum_thrift::ReadError> {{
{body}}}
}}
"
    )
}

/// Places for fields, and the loop that fills them. Those are `__0`, `__1` and so on.
pub(crate) fn places<'a>(types: impl Iterator<Item = (&'a Field, String)>) -> String {
    let (mut places, mut arms) = (String::new(), String::new());
    for (place, (field, ty)) in types.enumerate() {
        let number = field.id;
        push(
            &mut places,
            format_args!("let mut __{place}: ::std::option::Option<{ty}> = ::std::option::Option::None;\n"),
        );
        push(&mut arms, format_args!("{number} => __from.field(__wire_type, &mut __{place}),\n"));
    }
    format!(
        "{places}__from.structure(|__from, __id, __wire_type| match __id {{\n{arms}_ => __from.skip(__wire_type),\n}})?;\n"
    )
}

/// A field that has to be there.
pub(crate) fn required(place: usize, of: &str, field: &str) -> String {
    format!("__{place}.ok_or(::callosum_thrift::ReadError::MissingField({:?}))?", format!("{of}.{field}"))
}

/// A field that has a default.
pub(crate) fn or(place: usize, default: &FieldDefault) -> String {
    let missing = default.arm(&default.expression);
    format!("match __{place} {{\n::std::option::Option::Some(__value) => __value,\n{missing}\n}}")
}

fn reading(schema: &Schema, id: DefId, name: &str, fields: &[Field]) -> Result<String, BuildError> {
    let mut body = places(fields.iter().map(|field| (field, inner(schema, id, field))));
    body.push_str("::std::result::Result::Ok(Self {\n");
    for (place, field) in fields.iter().enumerate() {
        let value = match (is_option(field), default(schema, id, field)?) {
            (true, Some(default)) => {
                let missing = default.arm(&format!("::std::option::Option::Some({})", default.expression));
                format!("match __{place} {{\n{missing}\n__value => __value,\n}}")
            }
            (true, None) => format!("__{place}"),
            (false, Some(default)) if field.requiredness != Requiredness::Required => or(place, &default),
            (false, _) => required(place, name, &field.name),
        };
        push(&mut body, format_args!("{}: {value},\n", names::of_value(&field.name)));
    }
    body.push_str("})\n");
    Ok(body)
}

/// An error whose text is its `message`, if it has one.
fn exception(schema: &Schema, name: &str, fields: &[Field]) -> String {
    let message = fields
        .iter()
        .find(|field| field.name == "message" && matches!(schema.underlying(&field.ty), Type::String));
    let body = match message {
        Some(field) if is_option(field) => format!(
            "match &self.message {{\n::std::option::Option::Some(__message) => ::std::write!(__f, \"{name}: {{__message}}\"),\n\
             ::std::option::Option::None => __f.write_str(\"{name}\"),\n}}\n"
        ),
        Some(_) => format!("::std::write!(__f, \"{name}: {{}}\", self.message)\n"),
        None => format!("__f.write_str(\"{name}\")\n"),
    };
    format!(
        "
impl ::std::fmt::Display for {name} {{
fn fmt(&self, __f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {{
{body}}}
}}

impl ::std::error::Error for {name} {{}}
"
    )
}

/// A union: a variant for each field.
pub(crate) fn union(schema: &Schema, id: DefId, name: &str, fields: &[Field]) -> Result<String, BuildError> {
    names::check(name, fields.iter().map(|field| names::of_type(&field.name)))?;
    let (mut variants, mut writes, mut reads) = (String::new(), String::new(), String::new());
    for field in fields {
        let (variant, number, ty) = (names::of_type(&field.name), field.id, inner(schema, id, field));
        push(&mut variants, format_args!("{}{variant}({ty}),\n", names::docs(&field.docs)));
        push(&mut writes, format_args!("Self::{variant}(__value) => __to.field({number}, __value),\n"));
        push(
            &mut reads,
            format_args!(
                "{number} => {{\nlet mut __place = ::std::option::Option::None;\n__from.field(__wire_type, &mut __place)?;\n\
                 if let ::std::option::Option::Some(__value) = __place {{\nif __found.replace(Self::{variant}(__value)).is_some() {{\n\
                 return ::std::result::Result::Err(::callosum_thrift::ReadError::Union({name:?}));\n}}\n}}\n\
                 ::std::result::Result::Ok(())\n}}\n"
            ),
        );
    }
    let derives = derives(schema, id, fields);
    let mut code = format!("{derives}\npub enum {name} {{\n{variants}}}\n\n");
    code.push_str(&encode(
        name,
        &format!("match *self {{\n{}}}\n__to.stop();\n", writes.replace("(__value) =>", "(ref __value) =>")),
    ));
    code.push_str(&decode(
        name,
        &format!(
            "let mut __found: ::std::option::Option<Self> = ::std::option::Option::None;\n\
             __from.structure(|__from, __id, __wire_type| match __id {{\n{reads}_ => __from.skip(__wire_type),\n}})?;\n\
             __found.ok_or(::callosum_thrift::ReadError::Union({name:?}))\n"
        ),
    ));
    Ok(code)
}
