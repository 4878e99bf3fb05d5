use proc_macro2::TokenStream;
use quote::quote;

use super::make;

/// What a trait with this method becomes, without spaces and docs.
fn agent(attribute: TokenStream, method: TokenStream) -> String {
    let expanded = make(attribute, quote!(pub trait Agent { #method }), || Ok(quote!(::c)));
    expanded.expect("it is a service").to_string().replace(' ', "")
}

#[track_caller]
fn assert_has(expanded: &str, parts: &[&str]) {
    for part in parts {
        assert!(expanded.contains(&part.replace(' ', "")), "there is no\n{part}\nin\n{expanded}");
    }
}

#[test]
fn a_client_returns_an_invocation_and_takes_the_key_from_an_argument() {
    let start = agent(
        quote!(),
        quote! {
            #[method(key = spec.name)]
            async fn start(&self, spec: Spec, context: &Context) -> Result<u64, AgentError>;
        },
    );
    assert_has(
        &start,
        &[
            "fn start(&self, spec: Spec, context: &Context) -> impl ::core::future::Future<Output = Result<u64, AgentError>>",
            "pub fn start(&self, spec: Spec) -> ::c::Invocation<u64, ::c::service::ServiceError<AgentError>>",
            "let __key = ::std::string::ToString::to_string(&spec.name);",
            "invoke(&self.peer, \"Agent.start\", &__arguments).key(__key)",
            "<Self as Agent>::start(&*__service, spec, &__context).await",
            "pub struct AgentClient",
        ],
    );
}

#[test]
fn names_prefix_and_codec_are_those_of_the_attributes() {
    let stop = agent(
        quote!(prefix = "agent/", codec = Codec::MsgPack, crate = crate::rpc),
        quote! {
            #[method(name = "halt")]
            async fn r#stop(&self);
        },
    );
    assert_has(
        &stop,
        &[
            "\"agent/halt\"",
            "peer.with_codec(Codec::MsgPack)",
            "Some(Codec::MsgPack)",
            "crate::rpc::Invocation<()>",
        ],
    );
    assert!(!stop.contains("::c::"), "{stop}");
    assert_has(
        &agent(
            quote!(prefix = ""),
            quote!(
                async fn r#move(&self);
            ),
        ),
        &["invoke(&self.peer, \"move\""],
    );
}

#[test]
fn results_that_are_no_data_fail_with_a_call_error() {
    for (returned, declared) in [
        (quote!(-> HandlerResult<u8>), "Output = HandlerResult<u8>"),
        (quote!(-> c::Result<u8, c::HandlerError>), "Output = c::Result<u8, c::HandlerError>"),
        (quote!(-> u8), "Output = u8"),
    ] {
        let get = agent(quote!(), quote!(async fn get(&self) #returned;));
        assert_has(&get, &[declared, "pub fn get(&self,) -> ::c::Invocation<u8> {"]);
    }
}

#[test]
fn streams_are_items_or_bytes_and_may_end_with_an_error() {
    let client = "::c::service::StreamInvocation<::c::service::ResultStream<";
    for (item, reader, call) in [
        (quote!(Line), "::c::stream::Items<Line>", "items::<::c::service::generated::InItems<Line>, E>"),
        (quote!(bytes::Bytes), "::c::BodyReader", "items::<::c::service::generated::InPieces, E>"),
        (
            quote!(Result<Line, E>),
            "::c::stream::Items<Result<Line, E>>",
            "items::<::c::service::generated::InItems<Result<Line, E>>, E>",
        ),
        (
            quote!(Result<Bytes, E>),
            "::c::BodyReader",
            "fallible_items::<::c::service::generated::InPieces, E>",
        ),
    ] {
        let logs = agent(quote!(), quote!(async fn logs(&self) -> Result<impl Stream<Item = #item>, E>;));
        assert_has(
            &logs,
            &[
                &format!("{client}{reader}, ::c::service::ServiceError<E>>"),
                &format!("__replying.{call}("),
                "+ ::core::marker::Send, E>",
            ],
        );
    }
    let upload = agent(
        quote!(),
        quote!(
            async fn upload(&self, name: String, data: impl Stream<Item = Bytes>) -> u64;
        ),
    );
    assert_has(
        &upload,
        &[
            "fn upload(&self, name: String, data: ::c::BodyReader)",
            "pub fn upload(&self, name: String, data: impl Stream<Item = Bytes> + ::core::marker::Send + 'static)",
            "-> ::c::service::StreamInvocation<u64>",
            "::c::service::generated::Argument::FirstItem",
        ],
    );
}

#[test]
fn defaults_hold_where_an_argument_is_read_and_not_where_it_is_sent() {
    let method = quote!(
        async fn run(&self, #[default] a: u8, #[default = 3] b: u8, #[serde(rename = "type")] c: u8);
    );
    let run = agent(quote!(), method.clone());
    assert_has(
        &run,
        &[
            "struct __Arguments { a: u8, b: u8, #[serde(rename = \"type\")] c: u8, }",
            "struct __Arguments { #[serde(default)] a: u8, #[serde(default = \"__default_b\")] b: u8, #[serde(rename = \"type\")] c: u8, }",
            "fn __default_b() -> u8 { 3 }",
        ],
    );
    let either = agent(quote!(args_kwargs), method);
    assert_has(
        &either,
        &[
            "ArgsKwargs { args: [(); 0], kwargs: __arguments }",
            "#[serde(rename = \"type\")] c: ::c::service::generated::Given<u8>",
            "Some(__default_b)",
            "merge(\"type\", __called.args.c, __called.kwargs.c,",
        ],
    );
}

#[test]
fn arguments_are_described_by_the_names_that_are_read() {
    let run = agent(
        quote!(),
        quote!(
            async fn run(
                &self,
                r#in: u8,
                #[serde(alias = "t", rename = "type")] b: u8,
                #[serde(with = "hex")]
                #[serde(rename(serialize = "sent", deserialize = "read"))]
                c: u8,
                #[serde(rename(serialize = "sent"))] d: u8,
            );
        ),
    );
    let described = r#"&[("in", "u8", true), ("type", "u8", true), ("read", "u8", true), ("d", "u8", true)]"#;
    assert_has(&run, &[described]);
}

#[test]
fn what_is_conditional_is_so_everywhere() {
    let both = agent(
        quote!(),
        quote!(
            #[cfg(unix)]
            #[deprecated]
            async fn f(&self);
        ),
    );
    assert_eq!(both.matches("#[cfg(unix)]").count(), 4, "trait, Arc, registration and client: {both}");
    assert_eq!(both.matches("#[deprecated]").count(), 2, "trait and client: {both}");
    let either = quote! {
        #[cfg(unix)]
        async fn f(&self);
        #[cfg(not(unix))]
        async fn f(&self, a: u8);
    };
    assert_has(&agent(quote!(), either), &["pub fn f(&self,)", "pub fn f(&self, a: u8)"]);
}

#[test]
fn all_that_is_wrong_is_reported_at_once() {
    let wrong = make(
        quote!(),
        quote! {
            trait Agent {
                fn start(&self, name: &str);
                async fn stop(&mut self) -> Result<u8>;
                const N: u8;
            }
        },
        || unreachable!("nothing is expanded"),
    );
    let errors: Vec<_> =
        wrong.expect_err("there is much").into_iter().map(|error| error.to_string()).collect();
    assert_eq!(errors.len(), 5, "{errors:#?}");
}
