//! Names to definitions, and the checks that need more than one of them.
//!
//! The idea: a table of all names first, then every reference is looked up in it, with the file that it is in. What comes out has no
//! name that is not resolved, no typedef or service that is defined by itself, and no thrown type that is no exception.

use std::collections::BTreeMap;

use crate::error::{IdlError, Position, Problem};
use crate::model::{DefId, Definition, Field, File, Flavour, Kind, Name, Reference, Schema, Type, Value};

type Found<T> = Result<T, (Position, Problem)>;

pub(crate) fn resolve(mut files: Vec<File>, roots: usize) -> Result<Schema, IdlError> {
    let names = Names::of(&files)?;
    for number in 0..files.len() {
        let mut definitions = std::mem::take(&mut files[number].definitions);
        let scope = Scope { names: &names, files: &files, file: number };
        let resolved = definitions.iter_mut().try_for_each(|definition| scope.definition(definition));
        files[number].definitions = definitions;
        resolved.map_err(|(position, problem)| wrong(&files[number], position, problem))?;
    }
    let schema = Schema { files, roots };
    check(&schema)?;
    Ok(schema)
}

fn wrong(file: &File, position: Position, problem: Problem) -> IdlError {
    IdlError::Wrong { path: file.path.clone(), position, problem }
}

/// The definition of a name, with the values of an enum by their names.
enum Named {
    Type,
    Enum(Vec<String>),
    Const,
    Service,
}

struct Names(BTreeMap<(usize, String), (DefId, Named)>);

impl Names {
    fn of(files: &[File]) -> Result<Self, IdlError> {
        let mut names = BTreeMap::new();
        for (file, content) in files.iter().enumerate() {
            for (index, definition) in content.definitions.iter().enumerate() {
                let named = match &definition.kind {
                    Kind::Const(..) => Named::Const,
                    Kind::Enum(values) => {
                        Named::Enum(values.iter().map(|value| value.name.clone()).collect())
                    }
                    Kind::Typedef(_) | Kind::Struct(_) => Named::Type,
                    Kind::Service(_) => Named::Service,
                };
                let twice = names.insert((file, definition.name.clone()), (DefId { file, index }, named));
                if twice.is_some() {
                    return Err(wrong(
                        content,
                        definition.position,
                        Problem::Duplicate(definition.name.clone()),
                    ));
                }
            }
        }
        Ok(Self(names))
    }
}

/// The names that a file knows.
struct Scope<'a> {
    names: &'a Names,
    files: &'a [File],
    file: usize,
}

impl Scope<'_> {
    fn definition(&self, definition: &mut Definition) -> Found<()> {
        match &mut definition.kind {
            Kind::Const(ty, value) => {
                self.ty(ty)?;
                self.value(value)
            }
            Kind::Typedef(ty) => self.ty(ty),
            Kind::Enum(_) => Ok(()),
            Kind::Struct(structure) => self.fields(&mut structure.fields),
            Kind::Service(service) => {
                if let Some(parent) = &mut service.extends {
                    self.reference(parent, "a service", |named| matches!(named, Named::Service))?;
                }
                for function in &mut service.functions {
                    function.result.iter_mut().try_for_each(|ty| self.ty(ty))?;
                    self.fields(&mut function.arguments)?;
                    self.fields(&mut function.throws)?;
                }
                Ok(())
            }
        }
    }

    fn fields(&self, fields: &mut [Field]) -> Found<()> {
        for field in fields {
            self.ty(&mut field.ty)?;
            field.default.iter_mut().try_for_each(|value| self.value(value))?;
        }
        Ok(())
    }

    fn ty(&self, ty: &mut Type) -> Found<()> {
        match ty {
            Type::List(element) | Type::Set(element) => self.ty(element),
            Type::Map(key, value) => {
                self.ty(key)?;
                self.ty(value)
            }
            Type::Named(reference) => {
                self.reference(reference, "a type", |named| matches!(named, Named::Type | Named::Enum(_)))
            }
            _ => Ok(()),
        }
    }

    fn reference(
        &self,
        reference: &mut Reference,
        expected: &'static str,
        fits: fn(&Named) -> bool,
    ) -> Found<()> {
        let name = &reference.name;
        match self.look_up(name) {
            Some((id, named)) if fits(named) => {
                reference.target = Some(*id);
                Ok(())
            }
            Some(_) => Err((reference.position, Problem::WrongKind { name: name.clone(), expected })),
            None => Err((reference.position, Problem::Undefined(name.clone()))),
        }
    }

    fn value(&self, value: &mut Value) -> Found<()> {
        match value {
            Value::List(items) => items.iter_mut().try_for_each(|item| self.value(item)),
            Value::Map(entries) => entries.iter_mut().try_for_each(|(key, value)| {
                self.value(key)?;
                self.value(value)
            }),
            Value::Named(name) => self.name(name),
            _ => Ok(()),
        }
    }

    /// A constant, or `Enum.VALUE`.
    fn name(&self, name: &mut Name) -> Found<()> {
        let Reference { name: text, position, target } = &mut name.reference;
        if let Some((id, Named::Const)) = self.look_up(text) {
            *target = Some(*id);
            return Ok(());
        }
        if let Some((of, value)) = text.rsplit_once('.')
            && let Some((id, Named::Enum(values))) = self.look_up(of)
            && let Some(place) = values.iter().position(|other| other == value)
        {
            *target = Some(*id);
            name.value = Some(place);
            return Ok(());
        }
        Err((*position, Problem::Undefined(text.clone())))
    }

    /// A name of this file, or one of a file that it includes, with that file's name before it.
    fn look_up(&self, name: &str) -> Option<&(DefId, Named)> {
        if let Some(found) = self.names.0.get(&(self.file, name.to_owned())) {
            return Some(found);
        }
        self.files[self.file].includes.iter().find_map(|file| {
            let rest = name.strip_prefix(&*self.files[*file].stem)?.strip_prefix('.')?;
            self.names.0.get(&(*file, rest.to_owned()))
        })
    }
}

/// Exceptions are looked at last: what is thrown may be a typedef, which has to lead somewhere.
fn check(schema: &Schema) -> Result<(), IdlError> {
    for (number, file) in schema.files.iter().enumerate() {
        for (id, definition) in schema.definitions(number) {
            let cycle = || wrong(file, definition.position, Problem::Cycle(definition.name.clone()));
            match &definition.kind {
                Kind::Typedef(_) if contains(schema, id, id, &mut Vec::new()) => return Err(cycle()),
                Kind::Const(_, value) if names_itself(schema, value, &mut vec![id]) => return Err(cycle()),
                Kind::Service(_) if extends_itself(schema, id) => return Err(cycle()),
                _ => {}
            }
        }
    }
    schema.files.iter().try_for_each(|file| check_throws(schema, file))
}

fn check_throws(schema: &Schema, file: &File) -> Result<(), IdlError> {
    for definition in &file.definitions {
        let Kind::Service(service) = &definition.kind else { continue };
        let mut thrown = service.functions.iter().flat_map(|function| &function.throws);
        if let Some(field) = thrown.find(|field| !is_exception(schema, &field.ty)) {
            let problem = Problem::WrongKind { name: field.name.clone(), expected: "an exception" };
            return Err(wrong(file, field.position, problem));
        }
    }
    Ok(())
}

/// Whether a typedef leads to another one, through containers too. Structs may be part of themselves.
fn contains(schema: &Schema, typedef: DefId, wanted: DefId, seen: &mut Vec<DefId>) -> bool {
    let Kind::Typedef(ty) = &schema.definition(typedef).kind else { return false };
    if seen.contains(&typedef) {
        return false;
    }
    seen.push(typedef);
    let mut types = vec![ty];
    while let Some(ty) = types.pop() {
        match ty {
            Type::List(element) | Type::Set(element) => types.push(element),
            Type::Map(key, value) => types.extend([&**key, &**value]),
            Type::Named(reference) => {
                let target = reference.target();
                if target == wanted || contains(schema, target, wanted, seen) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

fn names_itself(schema: &Schema, value: &Value, path: &mut Vec<DefId>) -> bool {
    match value {
        Value::List(items) => items.iter().any(|item| names_itself(schema, item, path)),
        Value::Map(entries) => entries
            .iter()
            .any(|(key, value)| names_itself(schema, key, path) || names_itself(schema, value, path)),
        Value::Named(name) => {
            let target = name.reference.target();
            let Kind::Const(_, value) = &schema.definition(target).kind else { return false };
            if path.contains(&target) {
                return true;
            }
            path.push(target);
            let found = names_itself(schema, value, path);
            path.pop();
            found
        }
        _ => false,
    }
}

fn extends_itself(schema: &Schema, service: DefId) -> bool {
    let mut seen = vec![service];
    let mut last = service;
    while let Kind::Service(crate::Service { extends: Some(parent), .. }) = &schema.definition(last).kind {
        last = parent.target();
        if seen.contains(&last) {
            return true;
        }
        seen.push(last);
    }
    false
}

fn is_exception(schema: &Schema, ty: &Type) -> bool {
    let Type::Named(reference) = schema.underlying(ty) else { return false };
    matches!(&schema.definition(reference.target()).kind, Kind::Struct(structure) if structure.flavour == Flavour::Exception)
}
