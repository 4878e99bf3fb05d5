//! Properties of types that the generated code depends on: whether a type has an order, a default, and whether it contains itself.

use callosum_thrift_idl::{DefId, Field, Flavour, Kind, Requiredness, Schema, Struct, Type};

fn structure<'a>(schema: &'a Schema, ty: &'a Type) -> Option<(DefId, &'a Struct)> {
    let Type::Named(reference) = schema.underlying(ty) else { return None };
    match &schema.definition(reference.target()).kind {
        Kind::Struct(structure) => Some((reference.target(), structure)),
        _ => None,
    }
}

/// Whether it can be in a `BTreeSet`: whether there is no double in it.
pub(crate) fn has_order(schema: &Schema, ty: &Type) -> bool {
    ordered(schema, ty, &mut Vec::new())
}

/// The same for all fields of a struct.
pub(crate) fn fields_have_order(schema: &Schema, id: DefId, fields: &[Field]) -> bool {
    let mut seen = vec![id];
    fields.iter().all(|field| ordered(schema, &field.ty, &mut seen))
}

fn ordered(schema: &Schema, ty: &Type, seen: &mut Vec<DefId>) -> bool {
    match schema.underlying(ty) {
        Type::Double => false,
        Type::List(element) | Type::Set(element) => ordered(schema, element, seen),
        Type::Map(key, value) => ordered(schema, key, seen) && ordered(schema, value, seen),
        ty => match structure(schema, ty) {
            Some((id, structure)) if !seen.contains(&id) => {
                seen.push(id);
                structure.fields.iter().all(|field| ordered(schema, &field.ty, seen))
            }
            _ => true,
        },
    }
}

/// Whether a field of this struct has to be boxed: whether the struct is part of itself through it, without a container between.
pub(crate) fn is_boxed(schema: &Schema, owner: DefId, ty: &Type) -> bool {
    let mut seen = Vec::new();
    let mut types = vec![ty];
    while let Some(ty) = types.pop() {
        if let Some((id, structure)) = structure(schema, ty)
            && !seen.contains(&id)
        {
            if id == owner {
                return true;
            }
            seen.push(id);
            types.extend(structure.fields.iter().map(|field| &field.ty));
        }
    }
    false
}

/// Whether a field is an `Option`: it may be missing, and nothing says what it is then.
pub(crate) fn is_option(field: &Field) -> bool {
    match field.requiredness {
        Requiredness::Required => false,
        Requiredness::Optional => true,
        Requiredness::Default => field.default.is_none(),
    }
}

/// Whether an argument is an `Option`: only if the file says so.
pub(crate) fn is_optional_argument(field: &Field) -> bool {
    field.requiredness == Requiredness::Optional && field.default.is_none()
}

/// Whether a struct has a `Default`: whether what it must have has one.
pub(crate) fn fields_have_default(schema: &Schema, id: DefId, fields: &[Field]) -> bool {
    defaulted(schema, fields, &mut vec![id])
}

fn defaulted(schema: &Schema, fields: &[Field], path: &mut Vec<DefId>) -> bool {
    let mut must_have = fields.iter().filter(|field| !is_option(field) && field.default.is_none());
    must_have.all(|field| match structure(schema, &field.ty) {
        None => true,
        Some((_, structure)) if structure.flavour == Flavour::Union => false,
        Some((id, _)) if path.contains(&id) => false,
        Some((id, structure)) => {
            path.push(id);
            let has = defaulted(schema, &structure.fields, path);
            path.pop();
            has
        }
    })
}
