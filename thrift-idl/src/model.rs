//! The model of files, with all names resolved.
//!
//! The idea: definitions live in the files of a [`Schema`], and whatever names one holds a [`DefId`], so that types may be recursive.

use std::path::{Path, PathBuf};

use crate::error::Position;

/// Files, and everything that they include.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Those that were asked for are the first.
    pub(crate) files: Vec<File>,
    /// How many were.
    pub(crate) roots: usize,
}

/// Names a definition of one [`Schema`]; it means nothing to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DefId {
    pub(crate) file: usize,
    pub(crate) index: usize,
}

impl DefId {
    /// The number of its file in [`Schema::files`].
    pub fn file(self) -> usize {
        self.file
    }
}

impl Schema {
    /// All files: those that were asked for first, then those that they include.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The files that were asked for.
    pub fn roots(&self) -> &[File] {
        &self.files[..self.roots]
    }

    /// A definition.
    pub fn definition(&self, id: DefId) -> &Definition {
        &self.files[id.file].definitions[id.index]
    }

    /// All definitions of a file.
    pub fn definitions(&self, file: usize) -> impl Iterator<Item = (DefId, &Definition)> {
        let definitions = self.files[file].definitions.iter().enumerate();
        definitions.map(move |(index, definition)| (DefId { file, index }, definition))
    }

    /// A type without the typedefs around it.
    pub fn underlying<'a>(&'a self, mut ty: &'a Type) -> &'a Type {
        while let Type::Named(reference) = ty
            && let Kind::Typedef(target) = &self.definition(reference.target()).kind
        {
            ty = target;
        }
        ty
    }

    /// A service, and those that it extends, nearest first.
    pub fn lineage(&self, service: DefId) -> Vec<DefId> {
        let mut lineage = vec![service];
        let mut last = service;
        while let Kind::Service(Service { extends: Some(parent), .. }) = &self.definition(last).kind {
            last = parent.target();
            lineage.push(last);
        }
        lineage
    }

    /// The services of the files that were asked for.
    pub fn services(&self) -> impl Iterator<Item = (DefId, &str)> {
        (0..self.roots)
            .flat_map(|file| self.definitions(file))
            .filter(|(_, definition)| matches!(definition.kind, Kind::Service(_)))
            .map(|(id, definition)| (id, &*definition.name))
    }

    /// A function of a service or of those that it extends, by its name.
    pub fn function(&self, service: DefId, name: &str) -> Option<&Function> {
        self.lineage(service).into_iter().find_map(|id| match &self.definition(id).kind {
            Kind::Service(service) => service.functions.iter().find(|function| function.name == name),
            _ => None,
        })
    }
}

/// One file.
#[derive(Clone, Debug)]
pub struct File {
    pub(crate) path: PathBuf,
    pub(crate) stem: String,
    pub(crate) name: String,
    pub(crate) includes: Vec<usize>,
    pub(crate) definitions: Vec<Definition>,
}

impl File {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name without its ending, by which those that include it name what is in it.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// A name that no other file of the schema has. It is the stem, for all but the later ones of several files of the same stem: they
    /// have the name of their folder before it, as in `shared_types` for `shared/types.thrift`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files that it includes, as numbers in [`Schema::files`].
    pub fn includes(&self) -> &[usize] {
        &self.includes
    }
}

/// Something that has a name.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The name.
    pub name: String,
    /// The comment before it.
    pub docs: String,
    /// Where its name stands.
    pub position: Position,
    /// What it is.
    pub kind: Kind,
}

/// What a definition is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A constant.
    Const(Type, Value),
    /// Another name for a type.
    Typedef(Type),
    /// Named numbers.
    Enum(Vec<EnumValue>),
    /// A struct, a union or an exception.
    Struct(Struct),
    /// Functions.
    Service(Service),
}

/// A value of an enum.
#[derive(Clone, Debug)]
pub struct EnumValue {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: i32,
    /// The comment before it.
    pub docs: String,
}

/// Fields.
#[derive(Clone, Debug)]
pub struct Struct {
    /// Of what.
    pub flavour: Flavour,
    /// In the order of the file.
    pub fields: Vec<Field>,
}

/// What has fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// All of them.
    Struct,
    /// One of them.
    Union,
    /// All of them, to be thrown.
    Exception,
}

/// A field of a struct, an argument of a function, or an exception that one throws.
#[derive(Clone, Debug)]
pub struct Field {
    /// What it is known by on the wire. A field without a number in the file has a negative one: -1, -2 and so on.
    pub id: i16,
    /// Its name.
    pub name: String,
    /// Whether it may be missing.
    pub requiredness: Requiredness,
    /// Its type.
    pub ty: Type,
    /// What it is if it is missing.
    pub default: Option<Value>,
    /// The comment before it.
    pub docs: String,
    /// Where it stands.
    pub position: Position,
}

/// Whether a field may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requiredness {
    /// Never.
    Required,
    /// Always.
    Optional,
    /// The file does not say: it should be written, and may be missing.
    Default,
}

/// Functions.
#[derive(Clone, Debug)]
pub struct Service {
    /// Whose functions it has too.
    pub extends: Option<Reference>,
    /// Its own.
    pub functions: Vec<Function>,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Whether its caller waits for no answer.
    pub oneway: bool,
    /// What it returns; `None` for `void`.
    pub result: Option<Type>,
    /// Its arguments.
    pub arguments: Vec<Field>,
    /// Its exceptions.
    pub throws: Vec<Field>,
    /// The comment before it.
    pub docs: String,
    /// Where its name stands.
    pub position: Position,
}

/// A type.
#[derive(Clone, Debug)]
pub enum Type {
    /// `bool`
    Bool,
    /// `byte`, `i8`
    I8,
    /// `i16`
    I16,
    /// `i32`
    I32,
    /// `i64`
    I64,
    /// `double`
    Double,
    /// `string`: UTF-8
    String,
    /// `binary`
    Binary,
    /// `uuid`
    Uuid,
    /// `list<T>`
    List(Box<Type>),
    /// `set<T>`
    Set(Box<Type>),
    /// `map<K, V>`
    Map(Box<Type>, Box<Type>),
    /// A typedef, an enum, a struct, a union or an exception.
    Named(Reference),
}

/// The name of a definition.
#[derive(Clone, Debug)]
pub struct Reference {
    /// As it is written, with the name of its file before it, if it is in another.
    pub name: String,
    /// Where.
    pub position: Position,
    pub(crate) target: Option<DefId>,
}

impl Reference {
    /// What it names.
    pub fn target(&self) -> DefId {
        self.target.expect("all names of a schema are resolved")
    }
}

/// A constant, or the default of a field. What uses it checks it against its type.
#[derive(Clone, Debug)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// Any other number.
    Double(f64),
    /// A text.
    Text(String),
    /// `true` or `false`
    Bool(bool),
    /// Items in order.
    List(Vec<Value>),
    /// Entries in order; the fields of a struct by their names.
    Map(Vec<(Value, Value)>),
    /// Another constant, or a value of an enum.
    Named(Name),
}

/// The name of a constant or of a value of an enum.
#[derive(Clone, Debug)]
pub struct Name {
    /// The constant or the enum.
    pub reference: Reference,
    /// The number of the value in the enum's.
    pub(crate) value: Option<usize>,
}

impl Name {
    /// The place of the value in the list of its enum; `None` for a constant.
    pub fn enum_value(&self) -> Option<usize> {
        self.value
    }
}
