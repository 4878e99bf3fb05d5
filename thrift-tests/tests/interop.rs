//! Rust and Python Callosum with thriftpy2, in both directions, from the same file.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::future::IntoFuture;
use std::path::Path;

use callosum_runtime::CallError;
use callosum_runtime::auth::{CurveClient, CurveKeyPair, KeySet, generate_keys};
use callosum_tests::interop::{World, farewell};
use callosum_tests::interop_tests;
use callosum_tests::python::PyProcess;
use callosum_thrift::dynamic::{DynamicMethod, Loader};
use callosum_thrift::{
    Client, ExceptionKind, Exceptions, Limits, Output, Protocol, ThriftError, ThriftInvocation, method_with,
    register,
};
use callosum_thrift_tests::everything::{
    Color, Either, StoreClient, StoreFailException, StoreNothingException, StoreServer,
};
use callosum_thrift_tests::shared::Point;
use callosum_thrift_tests::{Memory, everything, random_either};
use fastrand::Rng;
use serde_json::{Value, json};

interop_tests! {
    rust_calls_python: tcp ipc;
    python_calls_rust: tcp ipc;
    rust_calls_python_under_curve: tcp;
    python_calls_rust_under_curve: tcp;
    rust_calls_python_in_compact: tcp;
    python_calls_rust_in_compact: tcp;
}

const ALIAS: &str = "store";
const SEED: u64 = 20_261_129;

fn idl(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("idl").join(name).display().to_string()
}

/// Starts `thrift_peer.py` with these arguments.
fn python(args: &[String]) -> PyProcess {
    let common = [idl("everything.thrift"), "--include".into(), idl("included")];
    let args: Vec<_> = common.iter().chain(args).map(String::as_str).collect();
    PyProcess::spawn("thrift_peer.py", &args)
}

/// Arguments for a script that has these keys. Z85 may begin with a hyphen, so each is one word.
fn curve(keys: &CurveKeyPair, other: String) -> Vec<String> {
    let secret = keys.secret_z85();
    vec![format!("--curve-public={}", keys.public()), format!("--curve-secret={}", *secret), other]
}

fn call<R: Output, E: Exceptions>(
    world: &World,
    invocation: ThriftInvocation<R, E>,
) -> Result<R, ThriftError<E>> {
    world.block_on(invocation.into_future())
}

fn rust_calls_python(world: &World) {
    let mut server = python(&["--bind".into(), world.endpoint()]);
    let endpoint = server.wait_line("listening on ");
    let client = world.connect(world.builder(), &endpoint);
    let raw = Client::new(client.peer().clone(), ALIAS);
    let store = StoreClient::from(raw.clone());
    values(world, &store);
    endings(world, &store);
    overlapping(world, &store);

    let unknown = call(world, raw.call::<(), std::convert::Infallible>("nope", |_| {})).unwrap_err();
    let ThriftError::Application(exception) = unknown else { panic!("{unknown:?}") };
    assert_eq!((exception.kind, exception.message), (ExceptionKind::UnknownMethod, None));
    dynamic(world, client.peer());
    client.stop(world);
    farewell(server);
}

/// Random values, and those of each type.
fn values(world: &World, store: &StoreClient) {
    let mut random = Rng::with_seed(SEED);
    for _ in 0..50 {
        let sent = everything(&mut random);
        assert_eq!(call(world, store.same(&sent)).unwrap(), sent);
    }
    let pinged = call(world, store.ping("größe"));
    assert_eq!(pinged.unwrap(), "pong größe", "of the service that is extended");
    assert_eq!(call(world, store.following(Color::GREEN)).unwrap(), Color(3), "a number without a name");
    assert_eq!(
        call(world, store.reverse(&b"\xff\x00\x01".as_slice().into())).unwrap(),
        b"\x01\0\xff".as_slice()
    );
    assert!(call(world, store.flip(false)).unwrap());
    assert_eq!(call(world, store.half(0.5)).unwrap(), 0.25);
    assert_eq!(call(world, store.sum(1, 2, None)).unwrap(), 1003);
    assert_eq!(call(world, store.sum(1, 2, Some(3))).unwrap(), 6);
    let groups = call(world, store.group(&[1, 2], &["a".into(), "b".into()])).unwrap();
    assert_eq!(groups, [("a".into(), vec![1, 2]), ("b".into(), vec![1, 2])].into());
    for _ in 0..5 {
        let either = random_either(&mut random);
        let swapped = call(world, store.swap(&either)).unwrap();
        let expected = match either {
            Either::Number(number) => Either::Text(number.to_string()),
            Either::Text(text) => Either::Texts(vec![text]),
            Either::Point(point) => Either::Number(point.x.into()),
            Either::Texts(texts) => Either::Point(Point { x: texts.len().try_into().unwrap(), y: 0 }),
        };
        assert_eq!(swapped, expected);
    }
}

/// Exceptions, failures, calls without a result.
fn endings(world: &World, store: &StoreClient) {
    assert_eq!(call(world, store.fail(0)).unwrap(), 0);
    let StoreFailException::Missing(missing) = call(world, store.fail(1)).unwrap_err().exception().unwrap()
    else {
        panic!("it is the other exception")
    };
    assert_eq!((missing.message.as_deref(), missing.code), (Some("größe"), Some(404)));
    let StoreFailException::Busy(busy) = call(world, store.fail(2)).unwrap_err().exception().unwrap() else {
        panic!("it is the other exception")
    };
    assert_eq!(busy.again, 77);
    let undeclared = call(world, store.fail(3)).unwrap_err();
    assert!(
        matches!(&undeclared, ThriftError::Call(CallError::Remote(info)) if &*info.name == "ValueError"),
        "{undeclared:?}"
    );
    call(world, store.nothing(0)).unwrap();
    let thrown = call(world, store.nothing(5)).unwrap_err().exception().unwrap();
    let StoreNothingException::Missing(missing) = thrown;
    assert_eq!(missing.code, Some(5));
    call(world, store.silent()).unwrap();
    call(world, store.tell("größe")).unwrap();
    let failed = call(world, store.tell("fail")).unwrap_err();
    assert!(matches!(&failed, ThriftError::Call(CallError::Remote(_))), "{failed:?}");
    assert_eq!(call(world, store.told()).unwrap(), ["größe"]);
}

/// Each reply gets to its own call, whatever the numbers of later ones.
fn overlapping(world: &World, store: &StoreClient) {
    let calls = (0..20).map(|n| store.sum(n, 0, Some(0)).into_future());
    let sums = world.block_on(futures_util::future::try_join_all(calls)).unwrap();
    assert_eq!(sums, (0..20).collect::<Vec<_>>());
}

/// Without generated code, from the file that Python has read too.
fn dynamic(world: &World, peer: &callosum_runtime::Peer) {
    let schema = Loader::new().include_folder(idl("included")).load(idl("everything.thrift")).unwrap();
    let schema = std::sync::Arc::new(schema);
    let call = |name: &str, arguments: Value| {
        let method = DynamicMethod::find(schema.clone(), None, name).unwrap();
        let request = method.request(7, &arguments).unwrap();
        let reply = world.block_on(peer.invoke_raw(ALIAS, request).into_future()).unwrap();
        method.response(7, &reply)
    };
    assert_eq!(call("sum", json!({"a": 1, "b": 2, "c": 3})), Ok(json!(6)));
    assert_eq!(call("swap", json!({"either": {"point": {"x": 4, "y": 0}}})), Ok(json!({"number": 4})));
    assert_eq!(call("following", json!({"color": "RED"})), Ok(json!("GREEN")));
    assert_eq!(call("reverse", json!({"data": "AP8="})), Ok(json!("/wA=")));
    assert_eq!(call("tell", json!({"text": "x"})), Ok(Value::Null));
    let thrown = call("fail", json!({"how": 2})).unwrap_err();
    assert_eq!(thrown.to_string(), r#"busy: {"again":77}"#);
    let all = json!({"needed": 1, "flag": true, "by_color": {"RED": true}, "by_real": [[0.5, 1]], "greeting": "", "defaulted": 5});
    assert_eq!(call("same", json!({"all": all})), Ok(all));
}

fn python_calls_rust(world: &World) {
    let server = world.serve(register(world.builder(), ALIAS, StoreServer::new(Memory::default())));
    let mut client = python(&["--connect".into(), server.endpoint()]);
    client.wait_line("ready");
    values_of_python(&mut client);
    bytes(&mut client);
    farewell(client);
    server.stop(world);
}

/// Random values, results and errors, as a Python client has them.
fn values_of_python(client: &mut PyProcess) {
    let mut request = |command: Value| client.request(&command);
    assert_eq!(request(json!({"op": "same", "seed": SEED, "count": 50})), json!({"ok": 50}));
    let mut call = |method: &str, args: Value| request(json!({"op": "call", "method": method, "args": args}));
    for (method, args, result) in [
        ("ping", json!(["größe"]), json!("pong größe")),
        ("sum", json!([1, 2]), json!(1003)),
        ("sum", json!([1, 2, 3]), json!(6)),
        ("sum", json!([1]), json!(1006)),
        ("following", json!([10]), json!(11)),
        ("flip", json!([true]), json!(false)),
        ("half", json!([0.5]), json!(0.25)),
        ("fail", json!([0]), json!(0)),
        ("silent", json!([]), json!(null)),
        ("tell", json!(["größe"]), json!(null)),
        ("told", json!([]), json!(["größe"])),
    ] {
        assert_eq!(call(method, args), json!({ "ok": result }), "{method}");
    }
    let mut error = |method: &str, args: Value| call(method, args)["error"].clone();
    let missing = json!({"kind": "thrift", "name": "NotFound", "repr": {"message": "größe", "code": 404}});
    assert_eq!(error("fail", json!([1])), missing);
    let busy = json!({"kind": "thrift", "name": "Busy", "repr": {"again": 77}});
    assert_eq!(error("fail", json!([2])), busy);
    let undeclared = json!({"kind": "RPCUserError", "name": "ValueError", "repr": "how"});
    assert_eq!(error("fail", json!([3])), undeclared);
    assert_eq!(error("nothing", json!([5]))["name"], "NotFound");
    let failed = json!({"kind": "RPCUserError", "name": "ValueError", "repr": "fail"});
    assert_eq!(error("tell", json!(["fail"])), failed);
    assert_eq!(error("fail", json!([]))["name"], "TProtocolException", "a missing argument");
}

/// Messages as bytes, of which Python's own server would answer the first in the same way.
fn bytes(client: &mut PyProcess) {
    let mut raw = |body: &str| client.request(&json!({"op": "raw", "body": body.replace(' ', "")}));
    let unknown = raw("80010001 00000004 6e6f7065 00000007 00");
    assert_eq!(unknown, json!({"ok": "80010003000000046e6f7065000000070800020000000100"}));
    let oneway = raw("80010004 00000004 74656c6c 00000009 0b0001 00000001 78 00");
    assert_eq!(oneway, json!({"ok": "800100020000000474656c6c0000000900"}), "a result without a field");
    for malformed in [
        "",
        "80010001 00000004 7465",
        "00000004 74656c6c 01 00000009 00",
        "80010001 00000004 74656c6c 00000009 0b0001 7fffffff 78 00",
        "80010002 00000004 74656c6c 00000009 00",
    ] {
        let error = raw(malformed)["error"].clone();
        assert_eq!(
            (&error["kind"], &error["name"]),
            (&json!("RPCUserError"), &json!("TProtocolException")),
            "{malformed}"
        );
    }
}

fn rust_calls_python_in_compact(world: &World) {
    let mut server = python(&["--compact".into(), "--bind".into(), world.endpoint()]);
    let endpoint = server.wait_line("listening on ");
    let client = world.connect(world.builder(), &endpoint);
    let raw = Client::new(client.peer().clone(), ALIAS).protocol(Protocol::Compact);
    let store = StoreClient::from(raw.clone());
    values(world, &store);
    endings(world, &store);
    overlapping(world, &store);
    let unknown = call(world, raw.call::<(), std::convert::Infallible>("nope", |_| {})).unwrap_err();
    assert!(matches!(unknown, ThriftError::Application(_)), "{unknown:?}");
    client.stop(world);
    farewell(server);
}

fn python_calls_rust_in_compact(world: &World) {
    let service = method_with(StoreServer::new(Memory::default()), Protocol::Compact, Limits::DEFAULT);
    let server = world.serve(world.builder().handle_method(ALIAS, service));
    let mut client = python(&["--compact".into(), "--connect".into(), server.endpoint()]);
    client.wait_line("ready");
    values_of_python(&mut client);
    farewell(client);
    server.stop(world);
}

fn rust_calls_python_under_curve(world: &World) {
    let (server_keys, client_keys) = (generate_keys(), generate_keys());
    let allowed = format!("--allow={}", client_keys.public());
    let mut server =
        python(&[vec!["--bind".into(), world.endpoint()], curve(&server_keys, allowed)].concat());
    let endpoint = server.wait_line("listening on ");
    let authenticator = CurveClient::new(client_keys, server_keys.public());
    let client = world.connect(world.builder().authenticator(authenticator), &endpoint);
    let store = StoreClient::new(client.peer().clone(), ALIAS);
    let sent = everything(&mut Rng::with_seed(SEED));
    assert_eq!(call(world, store.same(&sent)).unwrap(), sent);
    let error = call(world, store.fail(1)).unwrap_err();
    assert!(matches!(error, ThriftError::Exception(StoreFailException::Missing(_))), "{error:?}");
    client.stop(world);
    farewell(server);
}

fn python_calls_rust_under_curve(world: &World) {
    let (server_keys, client_keys) = (generate_keys(), generate_keys());
    let keys = KeySet::new(server_keys.clone());
    keys.admit(client_keys.public(), "python");
    let builder = world.builder().authenticator(keys);
    let server = world.serve(register(builder, ALIAS, StoreServer::new(Memory::default())));
    let other = format!("--server-key={}", server_keys.public());
    let mut client =
        python(&[vec!["--connect".into(), server.endpoint()], curve(&client_keys, other)].concat());
    client.wait_line("ready");
    let same = client.request(&json!({"op": "same", "seed": SEED, "count": 5}));
    assert_eq!(same, json!({"ok": 5}));
    farewell(client);
    server.stop(world);
}
