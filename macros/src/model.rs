//! A service as its trait declares it, checked.
//!
//! Responsible for all errors that have a place in the trait. The idea: what the rest of the macro works on can't be wrong any more, and
//! everything that is wrong with a trait is reported at once.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::{
    Attribute, Error, Expr, FnArg, Ident, ItemTrait, Pat, PatType, Result, Safety, TraitItem, TraitItemFn,
    Type, TypeImplTrait, Visibility,
};

use crate::attributes::{Bounds, MethodOptions, Missing, ServiceOptions, plain_name, renamed, root_of};
use crate::output::{Framing, Output, item_of};

/// Names that the generated code uses itself.
const CLIENT_METHODS: [&str; 2] = ["new", "peer"];
const TRAIT_METHODS: [&str; 1] = ["into_service"];

/// A service.
pub(crate) struct Service {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) ident: Ident,
    pub(crate) supertraits: Bounds,
    pub(crate) codec: Option<Expr>,
    /// Whether it tells JSON Schemas of its methods.
    pub(crate) schema: bool,
    pub(crate) methods: Vec<Method>,
}

/// A method of a service.
pub(crate) struct Method {
    /// Docs and whatever else is not ours.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) ident: Ident,
    /// As it travels, with the service's prefix.
    pub(crate) name: String,
    /// The span of what the name comes from.
    pub(crate) name_span: Span,
    pub(crate) key: Option<Expr>,
    pub(crate) args_kwargs: bool,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) output: Output,
}

/// A parameter besides `&self`.
pub(crate) enum Parameter {
    /// `&Context`, which the caller does not give.
    Context { ident: Ident, ty: Box<Type> },
    /// A value that travels.
    Argument(Argument),
    /// A stream that follows the arguments, with its type as the trait has it: `impl Stream<Item = T>`.
    Stream { ident: Ident, ty: TypeImplTrait, framing: Framing },
}

/// An argument.
pub(crate) struct Argument {
    /// `#[serde(…)]`.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) ident: Ident,
    pub(crate) ty: Box<Type>,
    pub(crate) missing: Missing,
}

impl Argument {
    /// The name under which a caller sends it.
    pub(crate) fn name(&self) -> String {
        renamed(&self.attributes).unwrap_or_else(|| plain_name(&self.ident))
    }
}

impl Method {
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Argument> {
        self.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Argument(argument) => Some(argument),
            _ => None,
        })
    }

    pub(crate) fn stream(&self) -> Option<(&Ident, &Framing)> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Stream { ident, framing, .. } => Some((ident, framing)),
            _ => None,
        })
    }
}

/// Errors, of which all are reported.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    fn check(&mut self, wrong: bool, at: impl ToTokens, what: &str) {
        if wrong {
            self.add(Error::new_spanned(at, what));
        }
    }

    fn or<T>(self, value: T) -> Result<T> {
        self.0.map_or(Ok(value), Err)
    }
}

impl Service {
    pub(crate) fn new(options: ServiceOptions, item: ItemTrait) -> Result<Self> {
        let mut errors = Errors::default();
        let (parameters, clause) = (&item.generics.params, &item.generics.where_clause);
        errors.check(
            !parameters.is_empty(),
            parameters,
            "a service can't be generic: its methods are looked up by name",
        );
        errors.check(clause.is_some(), clause, "a service has no `where` clause");
        errors.check(item.unsafety.is_some(), item.unsafety, "a service is a safe trait");
        let prefix = match &options.prefix {
            Some(prefix) => prefix.value(),
            None => format!("{}.", plain_name(&item.ident)),
        };
        let mut methods = Vec::new();
        for member in item.items {
            let method = match member {
                TraitItem::Fn(method) => Method::new(&prefix, options.args_kwargs, method),
                other => Err(Error::new_spanned(other, "a service can only have methods")),
            };
            methods.extend(errors.note(method));
        }
        for (n, method) in methods.iter().enumerate() {
            // Methods under conditions may exclude each other. If they don't, the endpoint refuses the second handler of the name.
            let is_cfg = |attribute: &Attribute| attribute.path().is_ident("cfg");
            let is_same = |earlier: &Method| {
                earlier.name == method.name
                    && !earlier.attributes.iter().chain(&method.attributes).any(is_cfg)
            };
            if methods[..n].iter().any(is_same) {
                let what = format!("two methods travel as `{}`", method.name);
                errors.add(Error::new(method.name_span, what));
            }
        }
        errors.or(Self {
            attributes: item.attrs,
            visibility: item.vis,
            ident: item.ident,
            supertraits: item.supertraits,
            codec: options.codec,
            schema: options.schema,
            methods,
        })
    }
}

impl Method {
    fn new(prefix: &str, args_kwargs: bool, mut item: TraitItemFn) -> Result<Self> {
        let mut errors = Errors::default();
        let options = errors.note(MethodOptions::take_from(&mut item.attrs)).unwrap_or_default();
        check_shape(&mut errors, &item);
        let signature = item.sig;
        let name = plain_name(&signature.ident);
        let mut parameters = Vec::new();
        for input in signature.inputs {
            if let FnArg::Typed(input) = input {
                parameters.extend(errors.note(Parameter::new(input)));
            }
        }
        check_one_of_a_kind(&mut errors, &parameters);
        let (name, name_span) = match &options.name {
            Some(name) => (name.value(), name.span()),
            None => (name, signature.ident.span()),
        };
        let output = errors.note(Output::new(&signature.output));
        let method = output.map(|output| Self {
            attributes: item.attrs,
            ident: signature.ident,
            name: format!("{prefix}{name}"),
            name_span,
            key: options.key,
            args_kwargs: args_kwargs || options.args_kwargs,
            parameters,
            output,
        });
        if let Some(method) = &method {
            errors.note(method.check_key());
        }
        match (errors.0, method) {
            (None, Some(method)) => Ok(method),
            (error, _) => Err(error.expect("without an output there is an error")),
        }
    }

    fn check_key(&self) -> Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        let Some(root) = root_of(key) else {
            return Err(Error::new_spanned(key, "the key is an argument, or a field of one"));
        };
        match self.arguments().any(|argument| argument.ident == *root) {
            true => Ok(()),
            false => {
                Err(Error::new(root.span(), format!("there is no argument `{root}` to take the key from")))
            }
        }
    }
}

/// Checks a method, except for its types.
fn check_shape(errors: &mut Errors, item: &TraitItemFn) {
    let signature = &item.sig;
    let name = plain_name(&signature.ident);
    errors.check(
        CLIENT_METHODS.contains(&&*name) || TRAIT_METHODS.contains(&&*name),
        &signature.ident,
        &format!("`{name}` is the name of a generated method: rename this one, and add `#[method(name = \"{name}\")]`"),
    );
    errors.check(
        signature.asyncness.is_none(),
        signature.fn_token,
        "a service's methods are async: write `async fn`",
    );
    errors.check(
        item.default.is_some(),
        &item.default,
        "a service's methods have no body: implement them in an `impl` of the trait",
    );
    errors.check(
        matches!(signature.safety, Safety::Unsafe(_)),
        &signature.safety,
        "a service's methods can't be unsafe: a remote caller can't uphold their conditions",
    );
    let generics = &signature.generics;
    errors.check(
        !generics.params.is_empty(),
        &generics.params,
        "a service's methods can't be generic: a call names no types",
    );
    errors.check(
        generics.where_clause.is_some(),
        &generics.where_clause,
        "a service's methods have no `where` clause",
    );
    match signature.receiver() {
        Some(receiver) => {
            let by_reference = receiver.to_token_stream().to_string().replace(' ', "") == "&self";
            errors.check(!by_reference, receiver, "a service's methods take `&self`: calls run concurrently");
        }
        None => errors.add(Error::new(signature.ident.span(), "a service's methods take `&self`")),
    }
}

fn check_one_of_a_kind(errors: &mut Errors, parameters: &[Parameter]) {
    let (mut contexts, mut streams) = (0, 0);
    for parameter in parameters {
        let (seen, ident, what) = match parameter {
            Parameter::Context { ident, .. } => (&mut contexts, ident, "a method is given one `&Context`"),
            Parameter::Stream { ident, .. } => (&mut streams, ident, "a method has one streamed argument"),
            Parameter::Argument(_) => continue,
        };
        *seen += 1;
        errors.check(*seen > 1, ident, what);
    }
}

impl Parameter {
    fn new(mut input: PatType) -> Result<Self> {
        let Pat::Ident(pattern) = &*input.pat else {
            return Err(Error::new_spanned(
                &input.pat,
                "an argument needs a name: it is sent under that name",
            ));
        };
        if pattern.by_ref.is_some() || pattern.mutability.is_some() || pattern.subpat.is_some() {
            return Err(Error::new_spanned(
                &input.pat,
                "an argument needs a plain name, without `mut`, `ref` or a pattern",
            ));
        }
        let ident = pattern.ident.clone();
        match &*input.ty {
            Type::Reference(reference) if is_context(&reference.elem) && reference.mutability.is_none() => {
                return Ok(Self::Context { ident, ty: input.ty });
            }
            Type::Reference(_) => {
                let what = "an argument is owned, as it comes from the wire: `String` rather than `&str`";
                return Err(Error::new_spanned(&input.ty, what));
            }
            Type::ImplTrait(implementation) => {
                let framing = Framing::of(item_of(implementation)?);
                return Ok(Self::Stream { ident, ty: implementation.clone(), framing });
            }
            _ => {}
        }
        let missing = Missing::take_from(&mut input.attrs)?;
        if let Some(other) = input.attrs.iter().find(|attribute| !attribute.path().is_ident("serde")) {
            return Err(Error::new_spanned(
                other,
                "an argument has the attributes `#[default]` and `#[serde(…)]`",
            ));
        }
        Ok(Self::Argument(Argument { attributes: input.attrs, ident, ty: input.ty, missing }))
    }
}

fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Context"))
}

/// Tokens of several things after each other.
pub(crate) fn tokens<T: ToTokens>(items: impl IntoIterator<Item = T>) -> TokenStream {
    let mut tokens = TokenStream::new();
    items.into_iter().for_each(|item| item.to_tokens(&mut tokens));
    tokens
}
