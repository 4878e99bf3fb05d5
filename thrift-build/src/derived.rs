//! Names of what a file does not name itself: servers, clients and exceptions of services, and arguments.
//!
//! The idea: what the file defines keeps its name. A derived name that is taken gets a `_`, and so does an argument that is named like a
//! constant: in Rust, a parameter of that name would be a pattern to compare with the constant. Two definitions whose names have become the
//! same are refused, as either of them would have to be renamed.

use std::collections::{BTreeMap, BTreeSet};

use callosum_thrift_idl::{DefId, Function, Kind, Schema, Service};
use heck::ToUpperCamelCase;

use crate::error::BuildError;
use crate::names;

/// The names of a schema.
pub(crate) struct Derived {
    services: BTreeMap<DefId, ServiceNames>,
    /// Those of each file.
    constants: Vec<BTreeSet<String>>,
}

/// The names of the items that are generated for a service, besides its trait.
pub(crate) struct ServiceNames {
    pub(crate) server: String,
    pub(crate) client: String,
    /// By the functions that throw them.
    exceptions: BTreeMap<String, String>,
}

impl Derived {
    /// Finds names for everything.
    ///
    /// # Errors
    /// If two definitions of a file have the same name in Rust, or a constant one of generated code.
    pub(crate) fn of(schema: &Schema) -> Result<Self, BuildError> {
        let mut derived = Self { services: BTreeMap::new(), constants: Vec::new() };
        for file in 0..schema.files().len() {
            let constants = constants(schema, file)?;
            let mut taken = types(schema, file)?;
            taken.extend(constants.iter().cloned());
            for (id, definition) in schema.definitions(file) {
                if let Kind::Service(service) = &definition.kind {
                    let names = ServiceNames::of(&names::of_type(&definition.name), service, &mut taken);
                    derived.services.insert(id, names);
                }
            }
            derived.constants.push(constants);
        }
        Ok(derived)
    }

    pub(crate) fn service(&self, id: DefId) -> &ServiceNames {
        &self.services[&id]
    }

    /// The arguments of a function, in code of this file, and one more, which is the context of the call.
    pub(crate) fn arguments(&self, file: usize, function: &Function) -> (Vec<String>, String) {
        let mut taken = self.constants[file].clone();
        // The writer of a client's arguments.
        taken.insert("__to".into());
        let arguments = function.arguments.iter();
        let arguments =
            arguments.map(|field| names::take(names::of_value(&field.name), &mut taken)).collect();
        (arguments, names::take("context".into(), &mut taken))
    }
}

impl ServiceNames {
    fn of(name: &str, service: &Service, taken: &mut BTreeSet<String>) -> Self {
        let mut free = |name| names::take(name, taken);
        let (server, client) = (free(format!("{name}Server")), free(format!("{name}Client")));
        let throwing = service.functions.iter().filter(|function| !function.throws.is_empty());
        let exceptions = throwing.map(|function| {
            let camel = function.name.to_upper_camel_case();
            (function.name.clone(), free(format!("{name}{camel}Exception")))
        });
        Self { server, client, exceptions: exceptions.collect() }
    }

    /// The enum of the exceptions of a function that throws some.
    pub(crate) fn exceptions(&self, function: &Function) -> &str {
        &self.exceptions[&function.name]
    }
}

/// The types of a file; a service is a trait.
fn types(schema: &Schema, file: usize) -> Result<BTreeSet<String>, BuildError> {
    let types =
        schema.definitions(file).filter(|(_, definition)| !matches!(definition.kind, Kind::Const(..)));
    names::check(&place(schema, file), types.map(|(_, definition)| names::of_type(&definition.name)))
}

fn constants(schema: &Schema, file: usize) -> Result<BTreeSet<String>, BuildError> {
    let definitions = || schema.definitions(file).map(|(_, definition)| definition);
    let constants = || definitions().filter(|definition| matches!(definition.kind, Kind::Const(..)));
    if let Some(reserved) = constants().find(|constant| names::of_constant(&constant.name).starts_with("__"))
    {
        return Err(BuildError::Reserved { name: reserved.name.clone(), file: place(schema, file) });
    }
    let names = || constants().map(|constant| names::of_constant(&constant.name));
    // An enum is a value too: the function that makes it of a number.
    let enums = definitions().filter(|definition| matches!(definition.kind, Kind::Enum(_)));
    names::check(
        &place(schema, file),
        names().chain(enums.map(|definition| names::of_type(&definition.name))),
    )?;
    Ok(names().collect())
}

/// A file, as errors name it.
fn place(schema: &Schema, file: usize) -> String {
    schema.files()[file].path().display().to_string()
}
