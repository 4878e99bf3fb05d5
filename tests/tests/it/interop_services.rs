//! A Python Callosum client calls a typed service, and Rust's typed client calls Python.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::future::IntoFuture;

use callosum_runtime::{Codec, service};
use callosum_tests::interop::{World, farewell};
use callosum_tests::interop_tests;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

interop_tests! {
    python_calls_a_service: tcp ipc;
    a_client_calls_python: tcp ipc;
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum StoreError {
    #[error("there is no {key}")]
    Missing { key: String },
    #[error("the store is closed")]
    Closed,
}

#[service]
trait Store {
    async fn get(&self, key: String, #[default] fallback: Option<String>) -> Result<String, StoreError>;

    #[method(args_kwargs)]
    async fn put(&self, key: String, value: u64) -> Result<String, StoreError>;
}

struct Closed;

impl Store for Closed {
    async fn get(&self, key: String, fallback: Option<String>) -> Result<String, StoreError> {
        fallback.ok_or(StoreError::Missing { key })
    }

    async fn put(&self, key: String, value: u64) -> Result<String, StoreError> {
        match value {
            0 => Err(StoreError::Closed),
            _ => Ok(format!("{key}={value}")),
        }
    }
}

/// Python sees results as its own values, and an error as an `RPCUserError` with the variant's name and text.
fn python_calls_a_service(world: &World) {
    for (name, codec) in [("json", Codec::Json), ("msgpack", Codec::MsgPack)] {
        let server = world.serve(world.builder().codec(codec).serve(Closed.into_service()));
        let mut client = world.python_client(&server, &["--codec", name]);
        let mut call = |method: &str, body: Value| {
            client.request(&json!({"op": "call", "method": method, "body": body, "timeout": 30}))
        };
        let got = call("Store.get", json!({"key": "größe", "fallback": "x", "unknown": null}));
        assert_eq!(got, json!({"ok": "x"}));
        let put = call("Store.put", json!({"args": ["a"], "kwargs": {"value": 1}}));
        assert_eq!(put, json!({"ok": "a=1"}));
        let error = &call("Store.get", json!({"key": "größe"}))["error"];
        let told = ["kind", "name", "repr"].map(|field| &error[field]);
        assert_eq!(told, [&json!("failure"), &json!("Missing"), &json!("there is no größe")]);
        let error = &call("Store.put", json!({"args": ["a", 0], "kwargs": {}}))["error"];
        let told = ["kind", "name", "repr"].map(|field| &error[field]);
        assert_eq!(told, [&json!("failure"), &json!("Closed"), &json!("the store is closed")]);
        farewell(client);
        server.stop(world);
    }
}

/// What Python's server of the tests does.
#[service(prefix = "")]
trait Python {
    async fn echo(&self, sent: String) -> Echo;

    async fn error(&self) -> Result<(), StoreError>;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Echo {
    received: String,
}

/// A Python server is called through a client as well; its errors are none of the declared type.
fn a_client_calls_python(world: &World) {
    let (server, endpoint) = world.python_server(&[]);
    let client = world.connect(world.builder(), &endpoint);
    let python = PythonClient::new(client.peer().clone());
    let echo = world.block_on(python.echo("größe".into()).into_future()).unwrap();
    assert_eq!(echo, Echo { received: "größe".into() });
    let error = world.block_on(python.error().into_future()).unwrap_err();
    let callosum_runtime::service::ServiceError::Call(callosum_runtime::CallError::Remote(info)) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(&*info.name, "ZeroDivisionError");
    client.stop(world);
    farewell(server);
}
