//! The attributes of a service, of its methods and of their arguments.

use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Error, Expr, ExprLit, Ident, Lit, LitStr, Meta, MetaList, MetaNameValue, Path, Result, Token,
};

/// The options of `#[service(…)]`.
#[derive(Default)]
pub(crate) struct ServiceOptions {
    pub(crate) prefix: Option<LitStr>,
    pub(crate) codec: Option<Expr>,
    pub(crate) args_kwargs: bool,
    pub(crate) schema: bool,
    pub(crate) runtime: Option<Path>,
}

impl ServiceOptions {
    pub(crate) fn parse(attribute: proc_macro2::TokenStream) -> Result<Self> {
        let mut options = Self::default();
        let parser = syn::meta::parser(|meta| options.take(&meta));
        parser.parse2(attribute)?;
        Ok(options)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("prefix") {
            once(&mut self.prefix, meta, meta.value()?.parse()?)
        } else if meta.path.is_ident("codec") {
            once(&mut self.codec, meta, meta.value()?.parse()?)
        } else if meta.path.is_ident("crate") {
            once(&mut self.runtime, meta, meta.value()?.call(Path::parse_mod_style)?)
        } else if meta.path.is_ident("args_kwargs") {
            self.args_kwargs = true;
            Ok(())
        } else if meta.path.is_ident("schema") {
            self.schema = true;
            Ok(())
        } else {
            Err(meta
                .error("no such option: there are `prefix`, `codec`, `args_kwargs`, `schema` and `crate`"))
        }
    }
}

/// The options of `#[method(…)]`.
#[derive(Default)]
pub(crate) struct MethodOptions {
    pub(crate) name: Option<LitStr>,
    pub(crate) key: Option<Expr>,
    pub(crate) args_kwargs: bool,
}

impl MethodOptions {
    /// Removes `#[method(…)]` from a method's attributes, and parses it.
    pub(crate) fn take_from(attributes: &mut Vec<Attribute>) -> Result<Self> {
        let mut options = Self::default();
        for attribute in extract(attributes, "method") {
            attribute.parse_nested_meta(|meta| options.take(&meta))?;
        }
        Ok(options)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("name") {
            once(&mut self.name, meta, meta.value()?.parse()?)
        } else if meta.path.is_ident("key") {
            once(&mut self.key, meta, meta.value()?.parse()?)
        } else if meta.path.is_ident("args_kwargs") {
            self.args_kwargs = true;
            Ok(())
        } else {
            Err(meta.error("no such option: there are `name`, `key` and `args_kwargs`"))
        }
    }
}

/// The value of an argument that the caller did not send.
pub(crate) enum Missing {
    /// Nothing: the call is refused, unless the argument is an `Option`.
    Refused,
    /// `Default::default()`.
    Default,
    /// The value of an expression.
    Value(Expr),
}

impl Missing {
    /// Removes `#[default]` from an argument's attributes, and parses it.
    pub(crate) fn take_from(attributes: &mut Vec<Attribute>) -> Result<Self> {
        let mut found = extract(attributes, "default").into_iter();
        let missing = match found.next().map(|attribute| attribute.meta) {
            None => Self::Refused,
            Some(Meta::Path(_)) => Self::Default,
            Some(Meta::NameValue(meta)) => Self::Value(meta.value),
            Some(meta @ Meta::List(_)) => {
                return Err(Error::new_spanned(meta, "write `#[default]` or `#[default = value]`"));
            }
        };
        match found.next() {
            Some(second) => Err(Error::new_spanned(second, "an argument has one default")),
            None => Ok(missing),
        }
    }
}

/// Removes the attributes of this name, and returns them.
fn extract(attributes: &mut Vec<Attribute>, name: &str) -> Vec<Attribute> {
    let (ours, others) =
        std::mem::take(attributes).into_iter().partition(|attribute| attribute.path().is_ident(name));
    *attributes = others;
    ours
}

fn once<T>(place: &mut Option<T>, meta: &ParseNestedMeta<'_>, value: T) -> Result<()> {
    match place.replace(value) {
        Some(_) => Err(meta.error("this option is there twice")),
        None => Ok(()),
    }
}

/// A name as it travels: without the `r#` of a raw identifier.
pub(crate) fn plain_name(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// The name under which serde reads an argument with these attributes, if they rename it. Serde itself reports malformed ones.
pub(crate) fn renamed(attributes: &[Attribute]) -> Option<String> {
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let listed = Punctuated::<Meta, Token![,]>::parse_terminated;
    serde
        .filter_map(|attribute| attribute.parse_args_with(listed).ok())
        .flatten()
        .find_map(|meta| name_read(&meta))
}

/// The name in `rename = "name"`, or in `rename(deserialize = "name")`.
fn name_read(meta: &Meta) -> Option<String> {
    let lists =
        |list: &MetaList| list.parse_args_with(Punctuated::<MetaNameValue, Token![,]>::parse_terminated);
    let value = match meta {
        Meta::NameValue(meta) if meta.path.is_ident("rename") => meta.value.clone(),
        Meta::List(list) if list.path.is_ident("rename") => {
            lists(list).ok()?.into_iter().find(|meta| meta.path.is_ident("deserialize"))?.value
        }
        _ => return None,
    };
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(name), .. }) => Some(name.value()),
        _ => None,
    }
}

/// Whether an expression is an argument's name, or a field of it, and which argument that is.
pub(crate) fn root_of(key: &Expr) -> Option<&Ident> {
    match key {
        Expr::Path(path) => path.path.get_ident(),
        Expr::Field(field) => root_of(&field.base),
        _ => None,
    }
}

/// Parsed so that the compiler's own errors point into it.
pub(crate) type Bounds = syn::punctuated::Punctuated<syn::TypeParamBound, Token![+]>;
