#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/services.md\n")]
//! The macro [`service`], which makes a client and a server of a trait: typed services of Callosum.
//!
//! Use it through an adapter, as `callosum_tokio::service`. What a trait may say, and every attribute, is documented in
//! `callosum_runtime::service`, the module that the generated code calls; `README.md` compares it with the macros of other libraries.
//! The [guide] has a chapter on typed services.
#![forbid(unsafe_code)]

mod attributes;
mod expand;
mod model;
mod output;
mod runtime;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use quote::ToTokens;
use syn::{Error, ItemTrait};

use crate::attributes::ServiceOptions;
use crate::expand::Paths;
use crate::model::Service;

/// Makes a client and a server of a trait. Its options are `prefix`, `codec`, `args_kwargs`, `schema` and `crate`; those of `#[method(…)]`, on its
/// methods, `name`, `key` and `args_kwargs`; and an argument may have `#[default]`. `callosum_runtime::service` explains them.
#[proc_macro_attribute]
pub fn service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    match make(attribute.into(), item.into(), runtime::find) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}

fn make(
    attribute: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
    find_runtime: fn() -> syn::Result<proc_macro2::TokenStream>,
) -> syn::Result<proc_macro2::TokenStream> {
    let options = ServiceOptions::parse(attribute)?;
    let item: ItemTrait = syn::parse2(item).map_err(|error| {
        Error::new(error.span(), format!("`#[service]` belongs on a trait with async methods: {error}"))
    })?;
    let given = options.runtime.as_ref().map(ToTokens::to_token_stream);
    // Errors of the trait come first.
    let service = Service::new(options, item)?;
    let runtime = given.map_or_else(find_runtime, Ok)?;
    Ok(expand::expand(&service, &Paths { runtime }))
}
