//! Generates the code of a service: a trait to implement, and a client.
//!
//! The idea: what is generated holds names and types, and calls generic functions of `callosum_protobuf`, which hold the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use heck::ToUpperCamelCase;
use proc_macro2::{Ident, Span, TokenStream};
use prost_build::{Comments, Method, Service, ServiceGenerator};
use prost_types::FileDescriptorSet;
use quote::{format_ident, quote};

/// Names that the generated items have besides their methods.
const TAKEN: [&str; 3] = ["new", "peer", "into_service"];

/// Generates clients and services, for those who drive [`prost_build`] themselves: give it to
/// [`service_generator`](prost_build::Config::service_generator).
#[derive(Clone, Debug)]
pub struct Services {
    codec: String,
    clients: bool,
    servers: bool,
    /// By package and service, as the file has them.
    names: BTreeMap<(String, String), Names>,
}

impl Default for Services {
    fn default() -> Self {
        let codec = "::callosum_protobuf::Prost".into();
        Self { codec, clients: true, servers: true, names: BTreeMap::new() }
    }
}

impl Services {
    /// Takes another codec than prost's; see [`Builder::codec`](crate::Builder::codec).
    pub fn codec(mut self, path: impl Into<String>) -> Self {
        self.codec = path.into();
        self
    }

    /// Whether there are clients. Default: yes.
    pub fn clients(mut self, generate: bool) -> Self {
        self.clients = generate;
        self
    }

    /// Whether there are traits to implement. Default: yes.
    pub fn servers(mut self, generate: bool) -> Self {
        self.servers = generate;
        self
    }

    /// Names what is generated beside everything in these files, which are those that are compiled. In any order of the files and of what
    /// is in them, messages and enums have the names that prost-build gives them, then traits those of their services, and then come clients.
    pub fn beside(mut self, files: &FileDescriptorSet) -> Self {
        let mut taken = BTreeSet::new();
        let mut services = BTreeSet::new();
        for file in &files.file {
            let messages = file.message_type.iter().map(|message| message.name());
            for name in messages.chain(file.enum_type.iter().map(|values| values.name())) {
                taken.insert((file.package().to_owned(), type_name(name)));
            }
            services.extend(file.service.iter().map(|service| (file.package(), service.name())));
        }
        // A name, with as many `_` after it as it takes until it is free.
        let mut free = |package: &str, name: String| {
            let mut name = (package.to_owned(), name);
            while !taken.insert(name.clone()) {
                name.1.push('_');
            }
            name.1
        };
        let traits: Vec<_> =
            services.iter().map(|(package, service)| free(package, type_name(service))).collect();
        for ((package, service), name) in services.into_iter().zip(traits) {
            let client = free(package, type_name(&format!("{service}Client")));
            self.names.insert((package.into(), service.into()), Names { service: name, client });
        }
        self
    }

    /// # Panics
    /// If the codec's path is none.
    fn codec_path(&self) -> TokenStream {
        TokenStream::from_str(&self.codec)
            .unwrap_or_else(|error| panic!("the codec `{}` is not a path: {error}", self.codec))
    }
}

impl ServiceGenerator for Services {
    fn generate(&mut self, service: Service, buf: &mut String) {
        let codec = self.codec_path();
        let methods: Vec<_> = service.methods.iter().map(|method| Rpc::new(&service, method)).collect();
        let id = (service.package.clone(), service.proto_name.clone());
        let names = self.names.get(&id).cloned().unwrap_or_else(|| Names::alone(&service.name));
        if self.servers {
            buf.push_str(&server(&service, &ident(&names.service), &methods, &codec).to_string());
        }
        if self.clients {
            buf.push_str(&client(&service, &ident(&names.client), &methods, &codec).to_string());
        }
    }
}

/// A name as prost-build gives it to a type.
fn type_name(name: &str) -> String {
    match &*name.to_upper_camel_case() {
        "Self" => "Self_".into(),
        name if name.starts_with(|first: char| first.is_ascii_digit()) => format!("_{name}"),
        name => name.into(),
    }
}

/// The names of the trait and of the client of a service.
#[derive(Clone, Debug)]
struct Names {
    service: String,
    client: String,
}

impl Names {
    /// The names of a service whose neighbours in the package are unknown.
    fn alone(service: &str) -> Self {
        Self { service: service.to_owned(), client: format!("{service}Client") }
    }
}

/// A method, as its code needs it.
struct Rpc {
    docs: TokenStream,
    ident: Ident,
    /// As it travels: `package.Service/Method`.
    name: String,
    input: TokenStream,
    output: TokenStream,
    description: TokenStream,
    shape: Shape,
}

/// Which of argument and result are streams.
#[derive(Clone, Copy)]
enum Shape {
    Unary,
    ServerStreaming,
    ClientStreaming,
    Bidirectional,
}

impl Rpc {
    fn new(service: &Service, method: &Method) -> Self {
        let shape = match (method.client_streaming, method.server_streaming) {
            (false, false) => Shape::Unary,
            (false, true) => Shape::ServerStreaming,
            (true, false) => Shape::ClientStreaming,
            (true, true) => Shape::Bidirectional,
        };
        Self {
            docs: docs(&method.comments),
            ident: ident(&method.name),
            name: format!("{}/{}", full_name(service), method.proto_name),
            input: rust_type(&method.input_type),
            output: rust_type(&method.output_type),
            description: description(method),
            shape,
        }
    }

    /// The function of `callosum_protobuf::generated` for this shape, and the method of its `Methods`.
    fn function(&self) -> Ident {
        format_ident!(
            "{}",
            match self.shape {
                Shape::Unary => "unary",
                Shape::ServerStreaming => "server_streaming",
                Shape::ClientStreaming => "client_streaming",
                Shape::Bidirectional => "bidirectional",
            }
        )
    }

    fn streams_argument(&self) -> bool {
        matches!(self.shape, Shape::ClientStreaming | Shape::Bidirectional)
    }

    fn streams_result(&self) -> bool {
        matches!(self.shape, Shape::ServerStreaming | Shape::Bidirectional)
    }

    /// The type of a handler's argument.
    fn request(&self) -> TokenStream {
        let input = &self.input;
        match self.streams_argument() {
            true => quote!(::callosum_protobuf::Request<::callosum_protobuf::Streaming<#input>>),
            false => quote!(::callosum_protobuf::Request<#input>),
        }
    }

    /// The method of the trait, up to its body.
    fn signature(&self) -> TokenStream {
        let (ident, request, output) = (&self.ident, self.request(), &self.output);
        let message = match self.streams_result() {
            true => quote! {
                impl ::callosum_protobuf::generated::Stream<
                    Item = ::core::result::Result<#output, ::callosum_protobuf::Status>,
                > + ::core::marker::Send
            },
            false => quote!(#output),
        };
        quote! {
            fn #ident(&self, request: #request) -> impl ::core::future::Future<
                Output = ::core::result::Result<
                    ::callosum_protobuf::Response<#message>,
                    ::callosum_protobuf::Status,
                >,
            > + ::core::marker::Send
        }
    }

    /// Adds it to `methods`.
    fn registration(&self) -> TokenStream {
        let Self { ident, name, description, .. } = self;
        let (function, request) = (self.function(), self.request());
        match self.streams_result() {
            true => quote! {
                methods.#function(#name, #description, |implementation: ::std::sync::Arc<Self>, request: #request, replying| async move {
                    replying.items(Self::#ident(&*implementation, request).await).await
                });
            },
            false => quote! {
                methods.#function(#name, #description, |implementation: ::std::sync::Arc<Self>, request: #request| async move {
                    Self::#ident(&*implementation, request).await
                });
            },
        }
    }

    /// The method of the client.
    fn call(&self, codec: &TokenStream) -> TokenStream {
        let Self { docs, ident, name, input, output, .. } = self;
        let function = self.function();
        let result = match (self.streams_argument(), self.streams_result()) {
            (false, false) => quote!(::callosum_protobuf::Call<#output>),
            (true, false) => quote!(::callosum_protobuf::StreamCall<#output>),
            (_, true) => quote!(::callosum_protobuf::StreamCall<::callosum_protobuf::Streaming<#output>>),
        };
        let (argument, types) = match self.streams_argument() {
            true => (
                quote! {
                    requests: impl ::callosum_protobuf::generated::Stream<Item = #input> + ::core::marker::Send + 'static
                },
                quote!(requests),
            ),
            false => (quote!(request: &#input), quote!(request)),
        };
        quote! {
            #docs
            pub fn #ident(&self, #argument) -> #result {
                ::callosum_protobuf::generated::#function::<#codec, #input, #output>(&self.peer, #name, #types)
            }
        }
    }
}

fn server(service: &Service, name: &Ident, methods: &[Rpc], codec: &TokenStream) -> TokenStream {
    let (docs, full_name) = (docs(&service.comments), full_name(service));
    let signatures = methods.iter().map(|method| {
        let (docs, signature) = (&method.docs, method.signature());
        quote! { #docs #signature; }
    });
    let delegates = methods.iter().map(|method| {
        let (ident, signature) = (&method.ident, method.signature());
        quote! { #signature { <__T as #name>::#ident(&**self, request) } }
    });
    let registrations = methods.iter().map(Rpc::registration);
    let binding = match methods {
        [] => quote!(let methods),
        _ => quote!(let mut methods),
    };
    let note = format!(" The methods of `{full_name}`, to be served by a builder or on live handlers.");
    quote! {
        #docs
        pub trait #name: ::core::marker::Send + ::core::marker::Sync + 'static {
            #(#signatures)*

            #[doc = #note]
            fn into_service(self) -> ::callosum_protobuf::generated::Service
            where
                Self: ::core::marker::Sized,
            {
                #binding = ::callosum_protobuf::generated::Methods::<Self, #codec>::new(self);
                #(#registrations)*
                methods.finish()
            }
        }

        #[allow(non_camel_case_types)]
        impl<__T: #name> #name for ::std::sync::Arc<__T> {
            #(#delegates)*
        }
    }
}

fn client(service: &Service, name: &Ident, methods: &[Rpc], codec: &TokenStream) -> TokenStream {
    let docs = docs(&service.comments);
    let calls = methods.iter().map(|method| method.call(codec));
    quote! {
        #docs
        #[derive(Clone, Debug)]
        pub struct #name {
            peer: ::callosum_protobuf::generated::Peer,
        }

        // Not every program calls every method.
        #[allow(dead_code)]
        impl #name {
            /// Calls the methods of this peer.
            pub fn new(peer: ::callosum_protobuf::generated::Peer) -> Self {
                Self { peer }
            }

            /// Whose methods are called.
            pub fn peer(&self) -> &::callosum_protobuf::generated::Peer {
                &self.peer
            }

            #(#calls)*
        }
    }
}

/// `package.Service`.
fn full_name(service: &Service) -> String {
    match &*service.package {
        "" => service.proto_name.clone(),
        package => format!("{package}.{}", service.proto_name),
    }
}

/// The description of a method.
fn description(method: &Method) -> TokenStream {
    let docs = method.comments.leading.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n");
    let name = |path: &str| path.trim_start_matches('.').to_owned();
    let (docs, argument, result) =
        (docs.trim(), name(&method.input_proto_type), name(&method.output_proto_type));
    quote! {
        ::callosum_protobuf::generated::Description { docs: #docs, argument: #argument, result: #result }
    }
}

/// Comments as docs.
fn docs(comments: &Comments) -> TokenStream {
    // As prost has them on messages: brackets and links escaped. Comments that belong to nothing are left out.
    let own = Comments { leading_detached: Vec::new(), ..comments.clone() };
    let mut text = String::new();
    own.append_with_indent(0, &mut text);
    let lines = text.lines().filter_map(|line| line.strip_prefix("///"));
    quote! { #(#[doc = #lines])* }
}

/// prost-build has escaped what is a keyword; names of ours get a `_`.
fn ident(name: &str) -> Ident {
    match name.strip_prefix("r#") {
        Some(keyword) => Ident::new_raw(keyword, Span::call_site()),
        None if TAKEN.contains(&name) => format_ident!("{name}_"),
        None => Ident::new(name, Span::call_site()),
    }
}

/// # Panics
/// If prost-build's path of a type is none.
fn rust_type(path: &str) -> TokenStream {
    TokenStream::from_str(path).unwrap_or_else(|error| panic!("prost-build's type `{path}`: {error}"))
}
