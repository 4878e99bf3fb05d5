//! The description of a method: names, types and docs as in the trait.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Expr, ExprLit, Lit, Meta, Type};

use super::{Paths, default_name, optional};
use crate::attributes::Missing;
use crate::model::{Argument, Method, tokens};
use crate::output::{Failure, Framing, Success};

/// An expression that is the description of a method.
pub(super) fn description(method: &Method, schema: bool, paths: &Paths) -> TokenStream {
    let generated = paths.generated();
    let docs = docs(&method.attributes);
    let arguments = method.arguments().map(|argument| {
        let (name, ty) = (argument.name(), text(&argument.ty));
        let required = matches!(argument.missing, Missing::Refused);
        quote!((#name, #ty, #required))
    });
    let (args_kwargs, key) = (method.args_kwargs, optional(&method.key.as_ref().map(text)));
    let streamed_argument = optional(&method.stream().map(|(_, framing)| item_name(framing)));
    let (result, streamed_result) = match &method.output.success {
        Success::Value(value) => (text(value), false),
        Success::Stream { framing, .. } => (item_name(framing), true),
    };
    let error = optional(&match &method.output.error {
        Failure::Declared(error) => Some(text(error)),
        Failure::Any => None,
    });
    let (arguments_schema, result_schema) = match schema {
        true => schemas(method, paths),
        false => (optional(&None::<Expr>), optional(&None::<Expr>)),
    };
    quote! {
        #generated::Description {
            docs: #docs,
            arguments: &[#(#arguments),*],
            args_kwargs: #args_kwargs,
            key: #key,
            streamed_argument: #streamed_argument,
            result: #result,
            streamed_result: #streamed_result,
            error: #error,
            arguments_schema: #arguments_schema,
            result_schema: #result_schema,
        }
    }
}

/// Functions that make JSON Schemas of arguments and result.
fn schemas(method: &Method, paths: &Paths) -> (TokenStream, TokenStream) {
    let (generated, schemars) = (paths.generated(), paths.text("schemars"));
    let fields = tokens(method.arguments().map(|Argument { attributes, ident, ty, missing }| {
        let default = match missing {
            Missing::Refused => None,
            Missing::Default => Some(quote!(#[serde(default)])),
            Missing::Value(_) => {
                let function = default_name(ident).to_string();
                Some(quote!(#[serde(default = #function)]))
            }
        };
        quote!(#default #(#attributes)* #ident: #ty,)
    }));
    let title = format!("Arguments of {}", method.name);
    let arguments = quote! {
        ::core::option::Option::Some({
            // Not `__Arguments`, which may have another shape.
            #[derive(#generated::schemars::JsonSchema)]
            #[schemars(crate = #schemars, title = #title)]
            #[allow(dead_code, reason = "only its shape matters")]
            struct __Schema {
                #fields
            }
            #generated::schema::<__Schema>
        })
    };
    let result: Option<&Type> = match &method.output.success {
        Success::Value(value) => Some(value),
        Success::Stream { framing: Framing::Items(item), .. } => Some(item),
        Success::Stream { framing: Framing::Pieces, .. } => None,
    };
    (arguments, optional(&result.map(|result| quote!(#generated::schema::<#result>))))
}

fn item_name(framing: &Framing) -> String {
    match framing {
        Framing::Items(item) => text(item),
        Framing::Pieces => "Bytes".into(),
    }
}

/// As a person would write it: spaces only between words.
fn text(of: &impl ToTokens) -> String {
    let mut text = String::new();
    let tokens = of.to_token_stream().to_string();
    for word in tokens.split(' ') {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let touches = text.ends_with(is_word) && word.starts_with(is_word) || text.ends_with(',');
        if touches {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// The lines of a doc comment, without the space that they begin with.
fn docs(attributes: &[Attribute]) -> String {
    let lines: Vec<_> = attributes.iter().filter_map(line).collect();
    lines.join("\n")
}

fn line(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => {
                let line = line.value();
                Some(line.strip_prefix(' ').unwrap_or(&line).into())
            }
            _ => None,
        },
        _ => None,
    }
}
