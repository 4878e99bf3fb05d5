//! Constants and defaults as expressions, checked against their types.

use std::cell::RefCell;

use callosum_thrift_idl::{DefId, Field, Flavour, Kind, Schema, Struct, Type, Value};

use crate::analysis::{has_order, is_boxed, is_option};
use crate::error::BuildError;
use crate::names;
use crate::text::push;
use crate::types::{owned, path};

/// A constant of a file.
pub(crate) fn definition(
    schema: &Schema,
    name: &str,
    ty: &Type,
    value: &Value,
) -> Result<String, BuildError> {
    let rust_name = names::of_constant(name);
    let constants = Constants::new(schema, name);
    Ok(match schema.underlying(ty) {
        Type::String => format!("pub const {rust_name}: &str = {:?};\n", constants.text(value)?),
        Type::Binary => format!("pub const {rust_name}: &[u8] = {:?}.as_bytes();\n", constants.text(value)?),
        Type::List(_) | Type::Set(_) | Type::Map(..) => constants.lazy(&rust_name, ty, value)?,
        Type::Named(reference) if !matches!(schema.definition(reference.target()).kind, Kind::Enum(_)) => {
            constants.lazy(&rust_name, ty, value)?
        }
        _ => {
            format!("pub const {rust_name}: {} = {};\n", owned(schema, ty), constants.expression(ty, value)?)
        }
    })
}

/// The default of a field.
pub(crate) struct FieldDefault {
    /// Its value.
    pub(crate) expression: String,
    /// The bytes that the value takes besides those of its type; nothing for none.
    memory: String,
}

impl FieldDefault {
    /// The arm of a `match` for a field that is missing in a message, whose value is `taken` then. A struct without its fields takes a byte on
    /// the wire, so the default's memory comes out of the same budget as that of a value that is sent.
    pub(crate) fn arm(&self, taken: &str) -> String {
        match &*self.memory {
            "" => format!("::std::option::Option::None => {taken},"),
            memory => {
                format!("::std::option::Option::None => {{\n__from.charge(0{memory})?;\n{taken}\n}}")
            }
        }
    }
}

/// The default of a field, in a box or not.
pub(crate) fn default(
    schema: &Schema,
    name: &str,
    ty: &Type,
    value: &Value,
    boxed: bool,
) -> Result<FieldDefault, BuildError> {
    let constants = Constants::new(schema, name);
    let expression = constants.expression(ty, value)?;
    let expression = if boxed { constants.boxed(ty, &expression) } else { expression };
    Ok(FieldDefault { expression, memory: constants.memory.into_inner() })
}

/// Room of a node of a tree, of which a set or a map has one at least.
const NODE: usize = 11;

struct Constants<'a> {
    schema: &'a Schema,
    /// For errors.
    name: &'a str,
    /// Fields whose defaults are being generated, to detect one that contains itself.
    defaults: RefCell<Vec<(DefId, i16)>>,
    /// The heap memory of the value so far, as the reader counts it: a sum, as Rust code.
    memory: RefCell<String>,
}

impl<'c> Constants<'c> {
    fn new(schema: &'c Schema, name: &'c str) -> Self {
        Self { schema, name, defaults: RefCell::default(), memory: RefCell::default() }
    }

    /// Counts the memory of so many values of a type.
    fn charge(&self, count: usize, ty: &str) {
        if count > 0 {
            push(&mut self.memory.borrow_mut(), format_args!(" + {count} * ::std::mem::size_of::<{ty}>()"));
        }
    }

    fn boxed(&self, ty: &Type, expression: &str) -> String {
        self.charge(1, &owned(self.schema, ty));
        format!("::std::boxed::Box::new({expression})")
    }

    fn wrong<T>(&self, expected: impl Into<String>) -> Result<T, BuildError> {
        Err(BuildError::Constant { name: self.name.into(), expected: expected.into() })
    }

    fn lazy(&self, rust_name: &str, ty: &Type, value: &Value) -> Result<String, BuildError> {
        let (ty, value) = (owned(self.schema, ty), self.expression(ty, value)?);
        Ok(format!(
            "pub static {rust_name}: ::std::sync::LazyLock<{ty}> = ::std::sync::LazyLock::new(|| {value});\n"
        ))
    }

    /// The value of a constant that `value` names.
    fn followed<'a>(&'a self, mut value: &'a Value) -> &'a Value {
        while let Value::Named(name) = value
            && name.enum_value().is_none()
            && let Kind::Const(_, target) = &self.schema.definition(name.reference.target()).kind
        {
            value = target;
        }
        value
    }

    fn text<'a>(&'a self, value: &'a Value) -> Result<&'a str, BuildError> {
        match self.followed(value) {
            Value::Text(text) => Ok(text),
            _ => self.wrong("a string"),
        }
    }

    fn int(&self, value: &Value) -> Option<i64> {
        match self.followed(value) {
            Value::Int(number) => Some(*number),
            Value::Bool(value) => Some(i64::from(*value)),
            Value::Named(name) => match &self.schema.definition(name.reference.target()).kind {
                Kind::Enum(values) => name.enum_value().map(|place| i64::from(values[place].number)),
                _ => None,
            },
            _ => None,
        }
    }

    fn number(&self, value: &Value, bits: u32) -> Result<String, BuildError> {
        let most = i64::MAX >> (64 - bits);
        match self.int(value) {
            Some(number) if (-most - 1..=most).contains(&number) => Ok(format!("{number}")),
            _ => self.wrong(format!("an integer of {bits} bits")),
        }
    }

    fn expression(&self, ty: &Type, value: &Value) -> Result<String, BuildError> {
        match self.schema.underlying(ty) {
            Type::Bool => match self.int(value) {
                Some(number @ (0 | 1)) => Ok((number == 1).to_string()),
                _ => self.wrong("a bool"),
            },
            Type::I8 => self.number(value, 8),
            Type::I16 => self.number(value, 16),
            Type::I32 => self.number(value, 32),
            Type::I64 => self.number(value, 64),
            Type::Double => match (self.followed(value), self.int(value)) {
                (Value::Double(number), _) => Ok(format!("{number:?}")),
                (_, Some(number)) => Ok(format!("{:?}", number as f64)),
                _ => self.wrong("a number"),
            },
            Type::String => {
                let text = self.text(value)?;
                self.charge(text.len(), "u8");
                Ok(format!("::std::string::String::from({text:?})"))
            }
            Type::Binary => {
                Ok(format!("::callosum_thrift::Bytes::from_static({:?}.as_bytes())", self.text(value)?))
            }
            Type::Uuid => self.uuid(value),
            Type::List(element) => Ok(format!("::std::vec![{}]", self.items(element, value, 1)?)),
            Type::Set(element) => {
                let ordered = has_order(self.schema, element);
                let items = self.items(element, value, if ordered { NODE } else { 1 })?;
                Ok(match ordered {
                    true => format!("::std::collections::BTreeSet::from([{items}])"),
                    false => format!("::callosum_thrift::SetVec(::std::vec![{items}])"),
                })
            }
            Type::Map(key, element) => self.map(key, element, value),
            Type::Named(reference) => self.named(reference.target(), value),
        }
    }

    fn uuid(&self, value: &Value) -> Result<String, BuildError> {
        let digits: String = self.text(value)?.chars().filter(|digit| *digit != '-').collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(number) if digits.len() == 32 && !digits.starts_with('+') => {
                Ok(format!("{:?}", number.to_be_bytes()))
            }
            _ => self.wrong("a UUID"),
        }
    }

    /// The elements of a container that has room for `room` of them at least, unless it is empty.
    fn items(&self, element: &Type, value: &Value, room: usize) -> Result<String, BuildError> {
        let Value::List(items) = self.followed(value) else { return self.wrong("a list") };
        if !items.is_empty() {
            self.charge(items.len().max(room), &owned(self.schema, element));
        }
        let items = items.iter().map(|item| self.expression(element, item));
        Ok(items.collect::<Result<Vec<_>, _>>()?.join(", "))
    }

    fn map(&self, key: &Type, element: &Type, value: &Value) -> Result<String, BuildError> {
        let entries: &[_] = match self.followed(value) {
            Value::Map(entries) => entries,
            Value::List(items) if items.is_empty() => &[],
            _ => return self.wrong("a map"),
        };
        let ordered = has_order(self.schema, key);
        if !entries.is_empty() {
            let entry = format!("({}, {})", owned(self.schema, key), owned(self.schema, element));
            self.charge(entries.len().max(if ordered { NODE } else { 1 }), &entry);
        }
        let entry = |(name, value): &(Value, Value)| {
            Ok(format!("({}, {})", self.expression(key, name)?, self.expression(element, value)?))
        };
        let entries = entries.iter().map(entry).collect::<Result<Vec<_>, BuildError>>()?.join(", ");
        Ok(match ordered {
            true => format!("::std::collections::BTreeMap::from([{entries}])"),
            false => format!("::callosum_thrift::MapVec(::std::vec![{entries}])"),
        })
    }

    fn named(&self, id: DefId, value: &Value) -> Result<String, BuildError> {
        let path = path(self.schema, id);
        match &self.schema.definition(id).kind {
            Kind::Struct(structure) => self.structure(id, &path, structure, value),
            Kind::Enum(_) => Ok(format!("{path}({})", self.number(value, 32)?)),
            _ => self.wrong("a constant of this type"),
        }
    }

    /// The default of a field that a constant says nothing of.
    fn default(&self, id: DefId, field: &Field, value: &Value) -> Result<String, BuildError> {
        let place = (id, field.id);
        if self.defaults.borrow().contains(&place) {
            return self.wrong(format!("finite: the default of {} contains itself", field.name));
        }
        self.defaults.borrow_mut().push(place);
        let expression = self.expression(&field.ty, value);
        self.defaults.borrow_mut().pop();
        expression
    }

    fn structure(
        &self,
        id: DefId,
        path: &str,
        structure: &Struct,
        value: &Value,
    ) -> Result<String, BuildError> {
        let Value::Map(entries) = self.followed(value) else { return self.wrong("a map of fields") };
        let mut given = Vec::new();
        for (name, value) in entries {
            let name = self.text(name)?;
            if !structure.fields.iter().any(|field| field.name == name) {
                return self.wrong(format!("a {path}, which has no field {name}"));
            }
            if given.iter().any(|(earlier, _)| *earlier == name) {
                return self.wrong(format!("a {path}: it has the field {name} twice"));
            }
            given.push((name, value));
        }
        if structure.flavour == Flavour::Union && given.len() != 1 {
            return self.wrong("a union of one field");
        }
        let mut fields = Vec::new();
        for field in &structure.fields {
            let value = given.iter().find(|(name, _)| *name == field.name).map(|(_, value)| *value);
            let expression = match (value, &field.default) {
                (Some(value), _) => Some(self.expression(&field.ty, value)?),
                (None, Some(default)) => Some(self.default(id, field, default)?),
                (None, None) => None,
            };
            let boxed = is_boxed(self.schema, id, &field.ty);
            let expression = expression
                .map(|expression| if boxed { self.boxed(&field.ty, &expression) } else { expression });
            match (structure.flavour, expression) {
                (Flavour::Union, Some(expression)) => {
                    return Ok(format!("{path}::{}({expression})", names::of_type(&field.name)));
                }
                (Flavour::Union, None) => {}
                (_, Some(expression)) if is_option(field) => {
                    fields.push(format!(
                        "{}: ::std::option::Option::Some({expression})",
                        names::of_value(&field.name)
                    ));
                }
                (_, Some(expression)) => {
                    fields.push(format!("{}: {expression}", names::of_value(&field.name)))
                }
                (_, None) if is_option(field) => {
                    fields.push(format!("{}: ::std::option::Option::None", names::of_value(&field.name)));
                }
                (_, None) => return self.wrong(format!("a {path}: it lacks the field {}", field.name)),
            }
        }
        Ok(format!("{path} {{ {} }}", fields.join(", ")))
    }
}
