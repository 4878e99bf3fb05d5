//! `callosum call --proto`.

use std::fs;
use std::path::Path;

use crate::common::scratch::Scratch;
use crate::common::transfer::with_server;
use crate::common::{Ended, Process};
use callosum_protobuf::generated::{Description, Methods};
use callosum_protobuf::prost_types::{Any, Duration, Struct};
use callosum_protobuf::{Prost, Request, Response, Status, Streaming};
use callosum_runtime::service::Service;
use futures_util::{TryStreamExt, stream};

/// The service of `proto/numbers.proto`, as generated code would make it. Its messages are well-known ones, which Rust has.
fn numbers() -> Service {
    let mut methods = Methods::<(), Prost>::new(());
    let name = |method: &str| format!("numbers.v1.Numbers/{method}");
    let told = Description { docs: "Of numbers.", argument: "Numbers", result: "Number" };
    methods.unary(&name("Halve"), told, |_, request: Request<i32>| async move {
        Ok(Response::new(f64::from(request.into_inner()) / 2.0))
    });
    methods.server_streaming(&name("Count"), told, |_, request: Request<i32>, replying| async move {
        replying.items(Ok(stream::iter((1..=request.into_inner()).map(Ok)).into())).await
    });
    methods.client_streaming(&name("Sum"), told, |_, request: Request<Streaming<i32>>| async move {
        let sum = request.into_inner().try_fold(0, |sum, n| async move { Ok(sum + n) });
        sum.await.map(Response::new)
    });
    methods.bidirectional(
        &name("Double"),
        told,
        |_, request: Request<Streaming<i32>>, replying| async move {
            replying.items(Ok(request.into_inner().map_ok(|n| n * 2).into())).await
        },
    );
    methods.unary(&name("Echo"), told, |_, request: Request<Struct>| async move {
        Ok(Response::from(request.into_inner()))
    });
    methods.unary(&name("Refuse"), told, |_, request: Request<Duration>| async move {
        // Field 1: "disk", field 2: 7 and 8.
        let problem = Any {
            type_url: "type.googleapis.com/Problem".into(),
            value: b"\x0a\x04disk\x12\x02\x07\x08".to_vec(),
        };
        let unknown = Any { type_url: "example/Other".into(), value: vec![0xff] };
        let status = Status::unavailable("later").with_any(problem).with_detail(request.get_ref());
        Err::<Response<()>, _>(status.with_any(unknown))
    });
    methods.finish()
}

/// Makes calls of methods of `numbers`.
struct Caller<'a> {
    server: &'a str,
    proto: String,
    shared: String,
}

impl Caller<'_> {
    fn call(&self, method: &str, args: &[&str]) -> Ended {
        let method = format!("numbers.v1.Numbers/{method}");
        let folder = Path::new(&self.proto).parent().unwrap().to_str().unwrap();
        let file = ["--proto", &self.proto, "-I", folder, "-I", &self.shared];
        Process::start(&[&["call", self.server, &method], args, &file].concat()).end()
    }
}

fn with_numbers(test: impl FnOnce(&Caller<'_>)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/proto");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    with_server(callosum_tokio::builder().serve(numbers()), |server| {
        test(&Caller { server, proto: path("numbers.proto"), shared: path("shared") });
    });
}

#[test]
fn messages_are_json_in_every_shape_of_a_method() {
    let scratch = Scratch::new();
    let input = scratch.text("numbers");
    fs::write(&input, "1 2\n3").unwrap();
    with_numbers(|numbers| {
        let shown = |method: &str, args: &[&str]| numbers.call(method, args).expect(0).stdout;
        assert_eq!(shown("Halve", &["5"]), ["2.5"]);
        assert_eq!(shown("Halve", &[]), ["0.0"], "no argument is a message without fields");
        assert_eq!(shown("Count", &["3"]), ["1", "2", "3"]);
        assert!(shown("Count", &["0"]).is_empty());
        assert_eq!(shown("Sum", &["--input", &input]), ["6"]);
        assert_eq!(shown("Double", &["--input", &input]), ["2", "4", "6"]);
        let json = r#"{"a":[1.5,null,"\u009b"]}"#;
        assert_eq!(shown("Echo", &[json]), [json], "nothing that a terminal obeys");
    });
}

#[test]
fn a_status_is_shown_with_its_details() {
    with_numbers(|numbers| {
        let ended = numbers.call("Refuse", &[r#""1.5s""#]).expect(3);
        let expected = [
            "callosum: remote failure: UNAVAILABLE: later",
            r#"  Problem {"what":"disk","where":[7,8]}"#,
            r#"  google.protobuf.Duration "1.500s""#,
            "  example/Other ff",
        ];
        assert_eq!(ended.stderr, expected);
    });
}

#[test]
fn what_does_not_fit_the_file_is_told() {
    let scratch = Scratch::new();
    let broken = scratch.text("broken.proto");
    fs::write(&broken, "syntax = \"proto3\"; message A { B b = 1; }").unwrap();
    with_numbers(|numbers| {
        let told = |method: &str, args: &[&str], text: &str| {
            numbers.call(method, args).expect(2).expect_stderr(text);
        };
        told("Multiply", &[], "it has numbers.v1.Numbers/Halve, numbers.v1.Numbers/Count");
        told("Halve", &[r#"{"x": 1}"#], "the argument is not a google.protobuf.Int32Value");
        told("Sum", &["5"], "takes a stream of messages: give them with --input");
        told("Halve", &["--input", &broken], "takes no stream: leave --input out");
        let call =
            |file: &str| Process::start(&["call", numbers.server, "a.B/C", "--proto", file]).end().expect(2);
        call(&broken).expect_stderr("'B' is not defined");
        call(&numbers.proto).expect_stderr("problem.proto");
        call(&scratch.text("nothing.proto")).expect_stderr("nothing.proto");
    });
}

#[test]
fn a_server_tells_of_its_methods() {
    let builder = callosum_tokio::builder().serve(numbers()).describe_services();
    with_server(builder, |server| {
        let shown = |method: &str| Process::start(&["describe", server, method]).end().expect(0).stdout;
        let rest = ["    Of numbers.", "    Fails with google.rpc.Status."];
        for (method, signature) in [
            ("numbers.v1.Numbers/Halve", "(request: Numbers) -> Number"),
            ("numbers.v1.Numbers/Count", "(request: Numbers) -> stream of Number"),
            ("numbers.v1.Numbers/Sum", "(stream of Numbers) -> Number"),
            ("numbers.v1.Numbers/Double", "(stream of Numbers) -> stream of Number"),
        ] {
            assert_eq!(shown(method), [&format!("{method}{signature}"), rest[0], rest[1]]);
        }
    });
}
