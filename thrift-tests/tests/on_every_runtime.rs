//! Both ends of a service in Rust, on every runtime.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use callosum_hosts::{Host, for_each_host};
use callosum_runtime::service::{DESCRIBE, MethodDescription};
use callosum_runtime::{Binder, Builder, CallError, Connector, Context, HandlerResult, Metadata};
use callosum_thrift::{
    Client, ExceptionKind, Limits, MethodError, Protocol, ReadError, ReplyError, ThriftError, method_with,
    register,
};
use callosum_thrift_tests::everything::{StoreClient, StoreFailException, StoreServer};
use callosum_thrift_tests::names::beside::{Beside, BesideClient, BesideServer, Owner};
use callosum_thrift_tests::names::meeting::{
    self, Foo, FooAddException, FooAddException_, FooBar, FooBarBazException, FooBarBazException_, FooClient,
    FooServer, Level,
};
use callosum_thrift_tests::names::{self, common as two, one_common as one};
use callosum_thrift_tests::rust_only::{
    self, FailError, Keywords, KeywordsClient, KeywordsMatchException, KeywordsServer, Odd, Tree,
};
use callosum_thrift_tests::simple::{SimpleServiceClient, SimpleServiceServer};
use callosum_thrift_tests::{Memory, Simple};

const SOON: Duration = Duration::from_secs(30);

/// Serves, connects, and runs the body with the connection.
fn connected(
    host: Host,
    build: impl FnOnce(Builder) -> Builder,
    body: impl AsyncFnOnce(&Connector, &Binder),
) {
    let executor = host.start().unwrap();
    executor.block_on(async {
        let runtime = host.runtime();
        let (binder, driver) = build(host.builder()).bind("tcp://127.0.0.1:0").await.unwrap();
        runtime.spawn(Box::pin(async { driver.await.unwrap() }));
        let (connector, driver) = host.builder().call_timeout(SOON).connect(&binder.endpoints()[0]).unwrap();
        runtime.spawn(Box::pin(async { driver.await.unwrap() }));
        body(&connector, &binder).await;
        connector.shutdown(SOON).await;
        binder.shutdown(SOON).await;
    });
}

/// Says in its reply's metadata what it knows of the call.
struct Words;

impl Keywords for Words {
    async fn r#match(
        &self,
        self_: i32,
        r#type: i32,
        context: i32,
        context_: &Context,
    ) -> Result<i32, MethodError<KeywordsMatchException>> {
        let told = context_.metadata().get("request").map(|told| String::from_utf8_lossy(told).into_owned());
        let mut metadata = Metadata::new();
        metadata
            .insert("reply", format!("{} {}", told.unwrap_or_default(), context_.method()))
            .map_err(callosum_runtime::HandlerError::from)?;
        context_.set_reply_metadata(metadata).map_err(callosum_runtime::HandlerError::from)?;
        match self_ {
            0 => Err(FailError { reason: Some("zero".into()) }.into()),
            _ => Ok(self_ + r#type + context),
        }
    }

    async fn new(&self, r#async: String, _: &Context) -> HandlerResult<i32> {
        Ok(r#async.len() as i32)
    }

    async fn grow(&self, tree: Tree, _: &Context) -> HandlerResult<Tree> {
        Ok(Tree { value: tree.value + 1, children: Some(vec![tree]), twin: None, cycle: None })
    }

    async fn odd(&self, odd: Odd, _: &Context) -> HandlerResult<Odd> {
        Ok(odd)
    }
}

fn options_and_exceptions(host: Host) {
    let build = |builder| register(builder, "words", KeywordsServer::new(Words));
    connected(host, build, async |connector, _| {
        let words = KeywordsClient::new(connector.peer().clone(), "words");
        let mut metadata = Metadata::new();
        metadata.insert("request", "r7").unwrap();
        let call = words.r#match(1, 2, 3).key("k").timeout(SOON).metadata(metadata).compress(true);
        let (sum, metadata) = call.send_with_metadata().await.unwrap();
        assert_eq!((sum, metadata.get("reply").map(|reply| &**reply)), (6, Some(b"r7 words".as_slice())));
        let thrown = words.r#match(0, 0, 0).await.unwrap_err().exception();
        assert_eq!(thrown, Some(KeywordsMatchException::Fail(FailError { reason: Some("zero".into()) })));
        assert_eq!(words.new_("größe").await.unwrap(), 7);
        let odd = Odd { second_implicit: Some(1), ..Odd::default() };
        assert_eq!(words.odd(&odd).await.unwrap(), odd);
        let tree = words.grow(&Tree { value: 1, children: None, twin: None, cycle: None }).await.unwrap();
        assert_eq!((tree.value, tree.children.unwrap().len()), (2, 1));
    });
}

fn services_beside_each_other(host: Host) {
    let store = Arc::new(Memory::default());
    let build = |builder| register(builder, "store", StoreServer::from(store.clone()));
    connected(host, build, async |connector, binder| {
        // On an endpoint that runs, and the name is taken afterwards.
        register(binder.handlers(), "simple", SimpleServiceServer::new(Simple)).unwrap();
        assert!(register(binder.handlers(), "simple", SimpleServiceServer::new(Simple)).is_err());
        let store = StoreClient::new(connector.peer().clone(), "store");
        let simple = SimpleServiceClient::new(connector.peer().clone(), "simple");
        assert_eq!(store.ping("x").await.unwrap(), "pong x", "of the service that is extended");
        assert_eq!(simple.add(1, 2).await.unwrap(), 3);
        store.tell("x").await.unwrap();
        assert_eq!(store.told().await.unwrap(), ["x"]);
        store.silent().await.unwrap();
        assert_eq!(store.sum(1, 2, None).await.unwrap(), 1003);
        assert!(matches!(store.fail(2).await, Err(ThriftError::Exception(StoreFailException::Busy(_)))));
        let undeclared = store.fail(3).await.unwrap_err();
        assert!(undeclared.may_have_run());
        assert!(
            matches!(undeclared, ThriftError::Call(CallError::Remote(info)) if &*info.name == "ValueError")
        );
        let late = simple.long_delay().timeout(Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(late, ThriftError::Call(CallError::TimedOut { .. })), "{late:?}");
    });
}

fn what_is_not_there(host: Host) {
    let build = |builder| register(builder, "store", StoreServer::new(Memory::default()));
    connected(host, build, async |connector, _| {
        let raw = Client::new(connector.peer().clone(), "store");
        let unknown = raw.call::<i32, Infallible>("nope", |to| to.field(1, &7)).await.unwrap_err();
        assert!(!unknown.may_have_run());
        let ThriftError::Application(exception) = unknown else { panic!("{unknown:?}") };
        assert_eq!(exception.kind, ExceptionKind::UnknownMethod);
        let missing = raw.call::<i64, Infallible>("sum", |to| to.field(2, &7_i64)).await.unwrap_err();
        let ThriftError::Call(CallError::Remote(info)) = missing else { panic!("{missing:?}") };
        assert_eq!((&*info.name, &*info.repr), ("TProtocolException", "the required field sum.a is missing"));
        let other = raw.call::<String, Infallible>("sum", |to| to.field(1, &7_i64)).await.unwrap_err();
        assert!(matches!(other, ThriftError::Reply(ReplyError::MissingResult)), "{other:?}");
        let alias = StoreClient::new(connector.peer().clone(), "nope").silent().await.unwrap_err();
        assert!(matches!(alias, ThriftError::Call(CallError::Rejected(_))), "{alias:?}");
    });
}

fn limits_of_both_ends(host: Host) {
    let limits = Limits::DEFAULT.depth(3);
    let build = |builder: Builder| {
        builder.handle_method("words", method_with(KeywordsServer::new(Words), Protocol::Binary, limits))
    };
    connected(host, build, async |connector, _| {
        let tree = |children| Tree { value: 1, children: Some(children), twin: None, cycle: None };
        let client = Client::new(connector.peer().clone(), "words");
        let words = KeywordsClient::from(client.clone());
        // The arguments, the tree, and the list of its children.
        let grown = words.grow(&tree(vec![])).await.unwrap();
        let deep = words.grow(&grown).await.unwrap_err();
        let ThriftError::Call(CallError::Remote(info)) = deep else { panic!("{deep:?}") };
        assert_eq!(
            (&*info.name, &*info.repr),
            ("TProtocolException", "the message nests more than 3 levels deep")
        );
        let careful = KeywordsClient::from(client.limits(limits));
        let deep = careful.grow(&tree(vec![])).await.unwrap_err();
        assert!(matches!(deep, ThriftError::Reply(ReplyError::Read(ReadError::TooDeep(3)))), "{deep:?}");
    });
}

fn protocols(host: Host) {
    let build = |builder: Builder| {
        let compact = method_with(StoreServer::new(Memory::default()), Protocol::Compact, Limits::DEFAULT);
        register(builder, "binary", StoreServer::new(Memory::default())).handle_method("compact", compact)
    };
    connected(host, build, async |connector, _| {
        let client = |alias| Client::new(connector.peer().clone(), alias);
        let store = StoreClient::from(client("compact").protocol(Protocol::Compact));
        assert_eq!(store.ping("größe").await.unwrap(), "pong größe");
        assert_eq!(store.sum(1, 2, Some(-3)).await.unwrap(), 0);
        store.tell("x").await.unwrap();
        assert!(matches!(store.fail(2).await, Err(ThriftError::Exception(StoreFailException::Busy(_)))));
        let unknown = client("compact").protocol(Protocol::Compact).call::<(), Infallible>("nope", |_| {});
        assert!(matches!(unknown.await, Err(ThriftError::Application(_))));
        // Each side refuses what is of the other protocol.
        for (alias, protocol, other) in
            [("compact", Protocol::Binary, "TCompact"), ("binary", Protocol::Compact, "strict TBinary")]
        {
            let error = StoreClient::from(client(alias).protocol(protocol)).silent().await.unwrap_err();
            let ThriftError::Call(CallError::Remote(info)) = error else { panic!("{error:?}") };
            assert_eq!(&*info.name, "TProtocolException");
            assert!(info.repr.starts_with(&format!("the message is not {other}: ")), "{info:?}");
        }
    });
}

macro_rules! host {
    ($module:ident, $host:ident) => {
        mod $module {
            use callosum_hosts::Host;

            #[test]
            fn options_and_exceptions() {
                super::options_and_exceptions(Host::$host);
            }

            #[test]
            fn services_beside_each_other() {
                super::services_beside_each_other(Host::$host);
            }

            #[test]
            fn what_is_not_there() {
                super::what_is_not_there(Host::$host);
            }

            #[test]
            fn limits_of_both_ends() {
                super::limits_of_both_ends(Host::$host);
            }

            #[test]
            fn protocols() {
                super::protocols(Host::$host);
            }
        }
    };
}

for_each_host!(host);

/// An implementation of names that meet each other.
struct Meeting;

impl Foo for Meeting {
    async fn add(
        &self,
        msg: i32,
        context: i32,
        r#type: i32,
        call_context: i32,
        a_b: i32,
        a_b_: i32,
        to: i32,
        _: &Context,
    ) -> Result<i32, MethodError<FooAddException_>> {
        match msg {
            0 => Err(FooAddException { message: None }.into()),
            _ => Ok(msg + context + r#type + call_context + a_b + a_b_ + to),
        }
    }

    async fn bar_baz(&self, number: FooServer, _: &Context) -> Result<i32, MethodError<FooBarBazException>> {
        Ok(number)
    }

    async fn own(
        &self,
        client: FooClient,
        option: meeting::Option,
        number: i32,
        _: &Context,
    ) -> HandlerResult<one::Own> {
        assert_eq!(option, meeting::Option::FooClient(client));
        Ok(one::Own { number })
    }

    async fn new(&self, number: i32, _: &Context) -> HandlerResult<i32> {
        Ok(number)
    }

    async fn fmt(&self, a: i32, b: i32, _: &Context) -> HandlerResult<i32> {
        Ok(a - b)
    }
}

impl FooBar for Meeting {
    async fn baz(&self, msg: i32, _: &Context) -> Result<i32, MethodError<FooBarBazException_>> {
        Ok(msg + 1)
    }
}

impl Beside for Meeting {
    async fn owner(&self, own: two::Own, _: &Context) -> HandlerResult<Owner> {
        Ok(Owner { own, point: names::shared::Point { x: 1, y: 2 } })
    }
}

#[test]
fn names_that_meet_are_told_apart() {
    let build = |builder| register(builder, "beside", BesideServer::new(Meeting));
    connected(Host::Tokio, build, async |connector, _| {
        let beside = BesideClient::new(connector.peer().clone(), "beside");
        assert_eq!(beside.add(1, 2, 3, 4, 5, 6, 7).await.unwrap(), 28);
        let thrown = beside.add(0, 0, 0, 0, 0, 0, 0).await.unwrap_err().exception();
        assert_eq!(thrown, Some(FooAddException_::Failed(FooAddException { message: None })));
        assert_eq!(beside.bar_baz(1).await.unwrap(), 1);
        assert_eq!(beside.baz(1).await.unwrap(), 2);
        assert_eq!(beside.new_(3).await.unwrap(), 3);
        assert_eq!(beside.fmt(5, 2).await.unwrap(), 3);
        let client = FooClient { msg: 1, level: Some(Level::variant_name_), other: None };
        let option = meeting::Option::FooClient(client.clone());
        assert_eq!(beside.own(&client, &option, 4).await.unwrap(), one::Own { number: 4 });
        let own = two::Own { text: "t".into() };
        assert_eq!(beside.owner(&own).await.unwrap().own, own);
        assert_eq!((meeting::msg, names::beside::msg, meeting::BarClient), (1, 10, 7));
        let _: Option<meeting::BarClient_> = None;
        let _: Option<meeting::FooClient_> = None;
        let _: Option<meeting::FooServer_<Meeting>> = None;
    });
}

#[test]
fn a_service_tells_of_its_functions() {
    let build = |builder: Builder| register(builder, "words", KeywordsServer::new(Words)).describe_services();
    connected(Host::Tokio, build, async |connector, _| {
        let told: Vec<MethodDescription> = connector.peer().invoke(DESCRIBE, &()).await.unwrap();
        let [words] = &told[..] else { panic!("{told:?}") };
        let functions = [
            "i32 match(1: i32 self, 2: i32 type, 3: i32 context) throws (1: fail_error fail)",
            "i32 new(1: string async)",
            "Tree grow(1: Tree tree)",
            "Odd odd(1: Odd odd)",
        ];
        assert_eq!((&*words.name, words.docs.lines().collect::<Vec<_>>()), ("words", functions.to_vec()));
    });
    let functions = callosum_thrift::Service::functions(&StoreServer::new(Memory::default()));
    for line in [
        "// Fails in as many ways as there are.",
        "oneway void tell(1: string text)",
        "i64 sum(1: i64 a, 2: i64 b, 3: optional i64 c)",
        "Groups group(1: list<i64> numbers, 2: list<string> names)",
        "string ping(1: string text)",
    ] {
        assert!(functions.lines().any(|found| found == line), "{line} is not in {functions}");
    }
}

#[test]
fn names_of_rust_are_no_obstacle() {
    let either: rust_only::Either = rust_only::LEAF.clone();
    assert_eq!(either, rust_only::Either::Leaf(7));
}
