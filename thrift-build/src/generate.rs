//! A module for each file.

use std::collections::BTreeSet;

use callosum_thrift_idl::{EnumValue, Flavour, Kind, Schema};

use crate::derived::Derived;
use crate::error::BuildError;
use crate::names;
use crate::text::push;
use crate::{constants, services, structs, types};

/// Lints that don't apply to generated code, whose names and docs are those of the file.
const ALLOWED: &str = "clippy::all, dead_code, missing_docs, non_camel_case_types, non_upper_case_globals, rustdoc::all, \
                       unreachable_code, unreachable_pub, unused_mut, unused_variables";

/// Makes Rust of files and of those that they include: a module for each, named after the file. Each has to be beside the others.
///
/// # Errors
/// If a constant is none of its type, or two names are the same in Rust.
pub fn generate(schema: &Schema) -> Result<String, BuildError> {
    let modules = schema.files().iter().map(|file| names::of_module(file.name()));
    names::check("the names of the files", modules)?;
    let derived = Derived::of(schema)?;
    let mut code = String::from("// Made by callosum-thrift-build.\n\n");
    for (number, file) in schema.files().iter().enumerate() {
        let module = names::of_module(file.name());
        push(
            &mut code,
            format_args!(
                "#[allow({ALLOWED})]\npub mod {module} {{\n{}}}\n\n",
                content(schema, &derived, number)?
            ),
        );
    }
    Ok(code)
}

fn content(schema: &Schema, derived: &Derived, file: usize) -> Result<String, BuildError> {
    let mut code = String::new();
    for (id, definition) in schema.definitions(file) {
        code.push_str(&names::docs(&definition.docs));
        let name = names::of_type(&definition.name);
        code.push_str(&match &definition.kind {
            Kind::Const(ty, value) => constants::definition(schema, &definition.name, ty, value)?,
            Kind::Typedef(ty) => format!("pub type {name} = {};\n", types::owned(schema, ty)),
            Kind::Enum(values) => enumeration(&name, values)?,
            Kind::Struct(structure) if structure.flavour == Flavour::Union => {
                structs::union(schema, id, &name, &structure.fields)?
            }
            Kind::Struct(structure) => structs::structure(schema, id, &name, structure)?,
            Kind::Service(service) => services::service(schema, derived, id, &name, service)?,
        });
        code.push('\n');
    }
    Ok(code)
}

/// A number with names: one without a name is kept as it came.
fn enumeration(name: &str, values: &[EnumValue]) -> Result<String, BuildError> {
    let rust_name =
        |value: &EnumValue| names::free(names::of_constant(&value.name), |name| name == "variant_name");
    names::check(name, values.iter().map(rust_name))?;
    let (mut constants, mut arms, mut seen) = (String::new(), String::new(), BTreeSet::new());
    for value in values {
        let EnumValue { name, number, docs } = value;
        let rust_name = rust_name(value);
        push(
            &mut constants,
            format_args!("{}pub const {rust_name}: Self = Self({number});\n", names::docs(docs)),
        );
        if seen.insert(number) {
            push(&mut arms, format_args!("{number} => ::std::option::Option::Some({name:?}),\n"));
        }
    }
    let first = values.first().map_or(0, |value| value.number);
    Ok(format!(
        "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct {name}(pub i32);

impl {name} {{
{constants}
/// The name of this number, if it has one.
pub fn variant_name(self) -> ::std::option::Option<&'static str> {{
match self.0 {{
{arms}_ => ::std::option::Option::None,
}}
}}
}}

impl ::std::default::Default for {name} {{
fn default() -> Self {{
Self({first})
}}
}}

impl ::callosum_thrift::Encode for {name} {{
const WIRE_TYPE: ::callosum_thrift::WireType = ::callosum_thrift::WireType::I32;

fn encode(&self, __to: &mut ::callosum_thrift::Writer) {{
::callosum_thrift::Encode::encode(&self.0, __to);
}}
}}

impl ::callosum_thrift::Decode for {name} {{
const WIRE_TYPE: ::callosum_thrift::WireType = ::callosum_thrift::WireType::I32;

fn decode(
__from: &mut ::callosum_thrift::Reader<'_>,
) -> ::std::result::Result<Self, ::callosum_thrift::ReadError> {{
::std::result::Result::Ok(Self(::callosum_thrift::Decode::decode(__from)?))
}}
}}
"
    ))
}
