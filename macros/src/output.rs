//! The return type of a method: a value or a stream of items, and perhaps an error.

use syn::{
    Error, GenericArgument, PathArguments, PathSegment, Result, ReturnType, Type, TypeImplTrait,
    TypeParamBound, parse_quote,
};

/// The return type of a method.
pub(crate) struct Output {
    /// As the trait says, with what a stream needs besides.
    pub(crate) declared: Type,
    /// Whether it is a `Result`.
    pub(crate) is_result: bool,
    pub(crate) success: Success,
    pub(crate) error: Failure,
}

/// The result of a successful call.
pub(crate) enum Success {
    Value(Box<Type>),
    Stream {
        framing: Framing,
        /// Whether it is one of bytes that may end with an error. An item that is a `Result` travels as any other.
        fallible: bool,
    },
}

/// The error of a method.
pub(crate) enum Failure {
    /// Data of this type.
    Declared(Box<Type>),
    /// A `HandlerError`, of which the caller learns name and text.
    Any,
}

/// How a stream travels.
pub(crate) enum Framing {
    /// Items of this type.
    Items(Box<Type>),
    /// Bytes.
    Pieces,
}

impl Framing {
    pub(crate) fn of(item: &Type) -> Self {
        match last(item) {
            Some(last) if last.ident == "Bytes" => Self::Pieces,
            _ => Self::Items(Box::new(item.clone())),
        }
    }
}

impl Output {
    pub(crate) fn new(declared: &ReturnType) -> Result<Self> {
        let mut declared: Type = match declared {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        };
        let (is_result, value, outer) = match result_of(&mut declared)? {
            Some((value, error)) => (true, value, Some(error)),
            None => (false, &mut declared, None),
        };
        let (success, inner) = Success::of(value)?;
        let error = outer.or(inner).unwrap_or(Failure::Any);
        Ok(Self { declared, is_result, success, error })
    }
}

impl Success {
    /// Adds `Send` to a stream. Returns the error of its items too, if they have one.
    fn of(value: &mut Type) -> Result<(Self, Option<Failure>)> {
        let Type::ImplTrait(implementation) = value else {
            return match value {
                Type::Reference(_) => Err(Error::new_spanned(
                    value,
                    "a result must be owned: it is serialized after the method returns",
                )),
                _ => Ok((Self::Value(Box::new(value.clone())), None)),
            };
        };
        let mut item = item_of(implementation)?.clone();
        let (framing, fallible, error) = match (Framing::of(&item), fallible_bytes(&mut item)) {
            (_, Some(error)) => (Framing::Pieces, true, Some(error)),
            (framing, None) => (framing, false, None),
        };
        implementation.bounds.push(parse_quote!(::core::marker::Send));
        Ok((Self::Stream { framing, fallible }, error))
    }
}

/// The item of an `impl Stream<Item = T>`.
pub(crate) fn item_of(implementation: &TypeImplTrait) -> Result<&Type> {
    let wrong =
        || Error::new_spanned(implementation, "only streams can be `impl` here: `impl Stream<Item = T>`");
    let mut bounds = implementation.bounds.iter();
    let (Some(TypeParamBound::Trait(bound)), None) = (bounds.next(), bounds.next()) else {
        return Err(wrong());
    };
    let stream = bound.path.segments.last().filter(|last| last.ident == "Stream").ok_or_else(wrong)?;
    let PathArguments::AngleBracketed(arguments) = &stream.arguments else { return Err(wrong()) };
    arguments
        .args
        .iter()
        .find_map(|argument| match argument {
            GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
            _ => None,
        })
        .ok_or_else(wrong)
}

/// Value and error, if a type is a `Result`.
fn result_of(ty: &mut Type) -> Result<Option<(&mut Type, Failure)>> {
    let handler_result = match last(ty) {
        Some(last) if last.ident == "HandlerResult" => true,
        Some(last) if last.ident == "Result" => false,
        _ => return Ok(None),
    };
    let wrong = Error::new_spanned(
        &*ty,
        "name the error as well: `Result<T, E>`, or `HandlerResult<T>` if the error is not data",
    );
    let Type::Path(path) = ty else { return Ok(None) };
    let Some(PathSegment { arguments: PathArguments::AngleBracketed(arguments), .. }) =
        path.path.segments.last_mut()
    else {
        return Err(wrong);
    };
    let mut arguments = arguments.args.iter_mut();
    match (handler_result, arguments.next(), arguments.next(), arguments.next()) {
        (true, Some(GenericArgument::Type(value)), None, None) => Ok(Some((value, Failure::Any))),
        (false, Some(GenericArgument::Type(value)), Some(GenericArgument::Type(error)), None) => {
            let failure = match last(error) {
                Some(last) if last.ident == "HandlerError" => Failure::Any,
                _ => Failure::Declared(Box::new(error.clone())),
            };
            Ok(Some((value, failure)))
        }
        _ => Err(wrong),
    }
}

/// The error, if an item is a `Result<Bytes, E>`.
fn fallible_bytes(item: &mut Type) -> Option<Failure> {
    match result_of(item) {
        Ok(Some((value, error))) if matches!(Framing::of(value), Framing::Pieces) => Some(error),
        _ => None,
    }
}

/// The last segment of a path: macros see names, not types.
fn last(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}
