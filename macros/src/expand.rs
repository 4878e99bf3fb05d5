//! Generates the code of a service: its trait, its client, and the registration of its methods.
//!
//! The idea: generated code is thin. It holds names and types, and calls generic functions of the runtime; `Paths` says where those are.
//! Structs of arguments are local to the function that needs them, so that nothing but the trait and the client gets a name.

mod describe;

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Ident, LitStr, Type, parse_quote};

use crate::attributes::Missing;
use crate::model::{Argument, Method, Parameter, Service, tokens};
use crate::output::{Failure, Framing, Output, Success};

/// Where the runtime is.
pub(crate) struct Paths {
    /// The crate of the async API, or one that re-exports it.
    pub(crate) runtime: TokenStream,
}

impl Paths {
    fn generated(&self) -> TokenStream {
        let runtime = &self.runtime;
        quote!(#runtime::service::generated)
    }

    /// For attributes of serde, which hold paths as text.
    fn text(&self, rest: &str) -> String {
        format!("{}::service::generated::{rest}", self.runtime.to_string().replace(' ', ""))
    }
}

pub(crate) fn expand(service: &Service, paths: &Paths) -> TokenStream {
    let (definition, client) = (definition(service, paths), client(service, paths));
    quote!(#definition #client)
}

/// The trait, and its implementation for an `Arc` of one that implements it.
fn definition(service: &Service, paths: &Paths) -> TokenStream {
    let Service { attributes, visibility, ident, supertraits, .. } = service;
    let (runtime, generated) = (&paths.runtime, paths.generated());
    let declared = tokens(service.methods.iter().map(|method| {
        let (attributes, signature) = (&method.attributes, signature(method, paths));
        quote!(#(#attributes)* #signature;)
    }));
    let shared = tokens(service.methods.iter().map(|method| {
        let (cfg, signature, ident) =
            (configured(&method.attributes), signature(method, paths), &method.ident);
        let parameters = method.parameters.iter().map(Parameter::ident);
        quote!(#(#cfg)* #signature { T::#ident(self, #(#parameters),*) })
    }));
    let registered = tokens(service.methods.iter().map(|method| register(service, method, paths)));
    let codec = optional(&service.codec);
    let supertraits = supertraits.iter();
    quote! {
        #(#attributes)*
        #visibility trait #ident: #(#supertraits +)* ::core::marker::Send + ::core::marker::Sync + 'static {
            #declared

            /// Makes of this implementation a service, for `Builder::serve` and `Handlers::serve`. An `Arc` of it does as well.
            fn into_service(self) -> #runtime::service::Service
            where
                Self: ::core::marker::Sized,
            {
                #![allow(deprecated, reason = "callers are told")]
                let mut __methods = #generated::Methods::new(self, #codec);
                #registered
                __methods.finish()
            }
        }

        #[allow(deprecated, reason = "callers are told")]
        impl<T: #ident> #ident for ::std::sync::Arc<T> {
            #shared
        }
    }
}

/// The signature of a method of the trait.
fn signature(method: &Method, paths: &Paths) -> TokenStream {
    let (ident, output) = (&method.ident, &method.output.declared);
    let parameters = method.parameters.iter().map(|parameter| parameter.declared(paths));
    quote! {
        fn #ident(&self, #(#parameters),*) -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
    }
}

impl Parameter {
    fn ident(&self) -> &Ident {
        match self {
            Self::Context { ident, .. } | Self::Stream { ident, .. } => ident,
            Self::Argument(argument) => &argument.ident,
        }
    }

    /// The parameter of the trait's method.
    fn declared(&self, paths: &Paths) -> TokenStream {
        match self {
            Self::Context { ident, ty } => quote!(#ident: #ty),
            Self::Argument(Argument { ident, ty, .. }) => quote!(#ident: #ty),
            Self::Stream { ident, framing, .. } => {
                let reader = framing.reader(paths);
                quote!(#ident: #reader)
            }
        }
    }

    /// The parameter of the client's method; `None` if the client has none.
    fn given(&self) -> Option<TokenStream> {
        match self {
            Self::Context { .. } => None,
            Self::Argument(Argument { ident, ty, .. }) => Some(quote!(#ident: #ty)),
            // With the names of the trait, so that what it imports for them is used.
            Self::Stream { ident, ty, .. } => Some(quote!(#ident: #ty + ::core::marker::Send + 'static)),
        }
    }
}

impl Framing {
    fn path(&self, paths: &Paths) -> TokenStream {
        let generated = paths.generated();
        match self {
            Self::Items(item) => quote!(#generated::InItems<#item>),
            Self::Pieces => quote!(#generated::InPieces),
        }
    }

    fn reader(&self, paths: &Paths) -> TokenStream {
        let runtime = &paths.runtime;
        match self {
            Self::Items(item) => quote!(#runtime::stream::Items<#item>),
            Self::Pieces => quote!(#runtime::BodyReader),
        }
    }
}

impl Failure {
    /// The error type of the handler.
    fn here(&self, paths: &Paths) -> TokenStream {
        let runtime = &paths.runtime;
        match self {
            Self::Declared(error) => error.to_token_stream(),
            Self::Any => quote!(#runtime::HandlerError),
        }
    }

    /// The error type of its caller.
    fn there(&self, paths: &Paths) -> TokenStream {
        let runtime = &paths.runtime;
        match self {
            Self::Declared(error) => quote!(#runtime::service::ServiceError<#error>),
            Self::Any => quote!(#runtime::CallError),
        }
    }
}

/// The client.
fn client(service: &Service, paths: &Paths) -> TokenStream {
    let Service { visibility, ident, .. } = service;
    let (runtime, client) = (&paths.runtime, format_ident!("{ident}Client", span = ident.span()));
    let methods = tokens(service.methods.iter().map(|method| call(method, paths)));
    let docs =
        format!("Calls the methods of [`{ident}`]. Each makes its call when what it returns is awaited.");
    let peer = match &service.codec {
        Some(codec) => quote!(peer.with_codec(#codec)),
        None => quote!(peer),
    };
    quote! {
        #[doc = #docs]
        #[derive(Clone, Debug)]
        #[allow(dead_code, reason = "some programs only serve")]
        #visibility struct #client {
            peer: #runtime::Peer,
        }

        #[allow(dead_code, reason = "some programs call some methods only")]
        impl #client {
            /// Calls the methods of this peer.
            pub fn new(peer: #runtime::Peer) -> Self {
                Self { peer: #peer }
            }

            /// The called peer.
            pub fn peer(&self) -> &#runtime::Peer {
                &self.peer
            }

            #methods
        }
    }
}

/// A method of the client.
fn call(method: &Method, paths: &Paths) -> TokenStream {
    let (ident, name) = (&method.ident, name(method));
    let (generated, docs) = (paths.generated(), documented(method));
    let parameters = method.parameters.iter().filter_map(Parameter::given);
    let returned = method.output.called(method.stream().is_some(), paths);
    let arguments = arguments_to_send(method, paths);
    let function = |name| blamed(&method.output.declared, quote!(#generated::#name));
    let made = match (&method.output.success, method.stream()) {
        (Success::Value(_), None) => {
            let invoke = function(quote!(invoke));
            quote!(#invoke(&self.peer, #name, &__arguments))
        }
        (Success::Value(_), Some((items, framing))) => {
            let (framing, upload) = (framing.path(paths), function(quote!(upload)));
            quote!(#upload::<#framing, _, _, _>(&self.peer, #name, &__arguments, #items))
        }
        (Success::Stream { framing, .. }, items) => {
            let framing = framing.path(paths);
            let items = items.map(|(items, framing)| {
                let framing = framing.path(paths);
                quote!(.with_items::<#framing>(#items))
            });
            let open = function(quote!(open));
            quote!(#open::<#framing, _, _>(&self.peer, #name, &__arguments) #items)
        }
    };
    let (key, with_key) = match &method.key {
        Some(key) => {
            let key = quote_spanned!(key.span()=> ::std::string::ToString::to_string(&#key));
            (quote!(let __key = #key;), quote!(.key(__key)))
        }
        None => (TokenStream::new(), TokenStream::new()),
    };
    quote! {
        #docs
        pub fn #ident(&self, #(#parameters),*) -> #returned {
            #key
            #arguments
            #made #with_key
        }
    }
}

impl Output {
    /// The return type of the client's method.
    fn called(&self, streams_argument: bool, paths: &Paths) -> TokenStream {
        let (runtime, error) = (&paths.runtime, self.error.there(paths));
        let error = match &self.error {
            Failure::Declared(_) => quote!(, #error),
            // The default.
            Failure::Any => TokenStream::new(),
        };
        match &self.success {
            Success::Value(value) if streams_argument => {
                quote!(#runtime::service::StreamInvocation<#value #error>)
            }
            Success::Value(value) => quote!(#runtime::Invocation<#value #error>),
            Success::Stream { framing, .. } => {
                let reader = framing.reader(paths);
                quote!(#runtime::service::StreamInvocation<#runtime::service::ResultStream<#reader #error> #error>)
            }
        }
    }
}

/// A function that is at fault where a type of the trait is: if the type can't travel, the compiler says so there.
fn blamed(ty: &Type, function: TokenStream) -> TokenStream {
    let at = |mut token: TokenTree| {
        token.set_span(ty.span());
        token
    };
    function.into_iter().map(at).collect()
}

/// Statements that make `__arguments`, which is what travels.
fn arguments_to_send(method: &Method, paths: &Paths) -> TokenStream {
    let (generated, serde) = (paths.generated(), paths.text("serde"));
    let fields = tokens(
        method.arguments().map(|Argument { attributes, ident, ty, .. }| quote!(#(#attributes)* #ident: #ty,)),
    );
    let idents = method.arguments().map(|argument| &argument.ident);
    let wrapped = method
        .args_kwargs
        .then(|| quote!(let __arguments = #generated::ArgsKwargs { args: [(); 0], kwargs: __arguments };));
    quote! {
        #[derive(#generated::serde::Serialize)]
        #[serde(crate = #serde)]
        struct __Arguments {
            #fields
        }
        let __arguments = __Arguments { #(#idents),* };
        #wrapped
    }
}

/// Statements that add a method to `__methods`.
fn register(service: &Service, method: &Method, paths: &Paths) -> TokenStream {
    let description = describe::description(method, service.schema, paths);
    let service = &service.ident;
    let (runtime, generated, name) = (&paths.runtime, paths.generated(), name(method));
    let (cfg, ident) = (configured(&method.attributes), &method.ident);
    let arguments = arguments_to_read(method, paths);
    let idents = method.arguments().map(|argument| &argument.ident);
    let given = method.parameters.iter().map(|parameter| match parameter {
        Parameter::Context { .. } => quote!(&__context),
        Parameter::Argument(Argument { ident, .. }) => ident.to_token_stream(),
        Parameter::Stream { framing, .. } => {
            let framing = framing.path(paths);
            quote!(<#framing as #generated::Framing>::read(__body))
        }
    });
    let call = quote!(<Self as #service>::#ident(&*__service, #(#given),*).await);
    let error = method.output.error.here(paths);
    let outcome = match method.output.is_result {
        true => call,
        false => quote!(::core::result::Result::<_, #error>::Ok(#call)),
    };
    let (function, extra, parameters, answered) = match (&method.output.success, method.stream()) {
        (Success::Value(_), None) => (quote!(whole), TokenStream::new(), TokenStream::new(), outcome),
        (success, stream) => {
            let kind = if stream.is_some() { quote!(FirstItem) } else { quote!(Whole) };
            let answered = match success {
                Success::Value(_) => {
                    let whole = blamed(&method.output.declared, quote!(whole));
                    quote!(__replying.#whole(#outcome))
                }
                Success::Stream { framing, fallible } => {
                    let framing = framing.path(paths);
                    let function = if *fallible { quote!(fallible_items) } else { quote!(items) };
                    let function = blamed(&method.output.declared, function);
                    quote!(__replying.#function::<#framing, #error>(#outcome).await)
                }
            };
            let parameters = quote!(__body: #runtime::BodyReader, __replying: #generated::Replying,);
            (quote!(streamed), quote!(#generated::Argument::#kind,), parameters, answered)
        }
    };
    let function = blamed(&method.output.declared, function);
    quote! {
        #(#cfg)*
        {
            #arguments
            __methods.#function(
                #name,
                #description,
                #extra
                |__service: ::std::sync::Arc<Self>, __arguments: __Arguments, #parameters __context: #runtime::Context| async move {
                    let __Arguments { #(#idents),* } = __arguments;
                    #answered
                },
            );
        }
    }
}

/// The struct `__Arguments`, as it is read.
fn arguments_to_read(method: &Method, paths: &Paths) -> TokenStream {
    let (generated, serde) = (paths.generated(), paths.text("serde"));
    let defaults = tokens(method.arguments().filter_map(default_function));
    if method.args_kwargs {
        let shape = given_in_either_way(method, paths);
        return quote!(#defaults #shape);
    }
    if method.arguments().next().is_none() {
        return quote!(use #generated::NoArguments as __Arguments;);
    }
    let fields = tokens(method.arguments().map(|argument| {
        let Argument { attributes, ident, ty, missing } = argument;
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
    quote! {
        #defaults
        #[derive(#generated::serde::Deserialize)]
        #[serde(crate = #serde, expecting = "a map of the arguments by their names")]
        struct __Arguments {
            #fields
        }
    }
}

/// The struct `__Arguments` for arguments by position and by name.
fn given_in_either_way(method: &Method, paths: &Paths) -> TokenStream {
    let (generated, serde) = (paths.generated(), paths.text("serde"));
    let shape = paths.text("ArgsKwargs<__Given, __Given>");
    let (mut fields, mut given, mut merged) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    for argument in method.arguments() {
        let (name, Argument { attributes, ident, ty, missing }) = (argument.name(), argument);
        fields.extend(quote!(#ident: #ty,));
        given.extend(quote!(#(#attributes)* #ident: #generated::Given<#ty>,));
        let default = match missing {
            Missing::Refused => quote!(::core::option::Option::None),
            Missing::Default => {
                quote!(::core::option::Option::Some(<#ty as ::core::default::Default>::default))
            }
            Missing::Value(_) => {
                let function = default_name(ident);
                quote!(::core::option::Option::Some(#function))
            }
        };
        merged.extend(quote!(#ident: #generated::merge(#name, __called.args.#ident, __called.kwargs.#ident, #default)?,));
    }
    quote! {
        #[derive(#generated::serde::Deserialize)]
        #[serde(crate = #serde, try_from = #shape)]
        struct __Arguments {
            #fields
        }
        #[derive(::core::default::Default, #generated::serde::Deserialize)]
        #[serde(crate = #serde, default)]
        struct __Given {
            #given
        }
        impl ::core::convert::TryFrom<#generated::ArgsKwargs<__Given, __Given>> for __Arguments {
            type Error = ::std::string::String;

            fn try_from(__called: #generated::ArgsKwargs<__Given, __Given>) -> ::core::result::Result<Self, Self::Error> {
                ::core::result::Result::Ok(Self { #merged })
            }
        }
    }
}

fn default_function(argument: &Argument) -> Option<TokenStream> {
    let Argument { ident, ty, missing: Missing::Value(value), .. } = argument else { return None };
    let function = default_name(ident);
    Some(quote! {
        fn #function() -> #ty {
            #value
        }
    })
}

fn default_name(ident: &Ident) -> Ident {
    format_ident!("__default_{ident}")
}

/// The name by which a method is called.
fn name(method: &Method) -> LitStr {
    LitStr::new(&method.name, method.name_span)
}

/// Docs for the client, where the trait's own attributes may have no place.
fn documented(method: &Method) -> TokenStream {
    let kept = |attribute: &&Attribute| {
        ["doc", "cfg", "deprecated"].iter().any(|name| attribute.path().is_ident(name))
    };
    let mut attributes: Vec<_> = method.attributes.iter().filter(kept).cloned().collect();
    if !attributes.iter().any(|attribute| attribute.path().is_ident("doc")) {
        let docs = format!("Calls `{}`.", method.name);
        attributes.push(parse_quote!(#[doc = #docs]));
    }
    tokens(attributes)
}

/// Whether a method is there at all.
fn configured(attributes: &[Attribute]) -> Vec<&Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
}

fn optional(value: &Option<impl ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}
