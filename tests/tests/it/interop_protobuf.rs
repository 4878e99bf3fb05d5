//! Python Callosum and Rust speak Protocol Buffers with each other, statuses included.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;
use std::future::IntoFuture;
use std::path::Path;

use callosum_protobuf::{Code, Status};
use callosum_tests::interop::{Server, World, farewell};
use callosum_tests::interop_tests;
use callosum_tests::proto::{
    Agent, AgentClient, DESCRIPTORS, Docker, Everything, Failure, IMAGE, StartRequest, everything,
    no_such_image,
};
use callosum_tests::python::PyProcess;
use serde_json::{Value, json};

interop_tests! {
    python_and_rust_call_each_other: tcp;
}

/// One process serves and calls, as its start takes longer than all of this.
fn python_and_rust_call_each_other(world: &World) {
    let server = world.serve(world.builder().serve(Docker.into_service()));
    let (mut python, endpoint) = start_python(&server);
    python_calls(&mut python);
    python_is_called(world, &endpoint);
    farewell(python);
    server.stop(world);
}

fn start_python(server: &Server) -> (PyProcess, String) {
    let descriptors = Path::new(env!("CARGO_TARGET_TMPDIR")).join("descriptors.bin");
    // Two tests that write it at the same time write the same; each moves a whole file there.
    let own = format!("{}-{:?}", std::process::id(), std::thread::current().id());
    let own = descriptors.with_extension(own);
    fs::write(&own, DESCRIPTORS).unwrap();
    fs::rename(&own, &descriptors).unwrap();
    let args = ["--connect", &server.endpoint(), "--descriptors", descriptors.to_str().unwrap()];
    let mut python = PyProcess::spawn("protobuf_peer.py", &args);
    let endpoint = python.wait_line("listening on ");
    (python, endpoint)
}

fn python_calls(python: &mut PyProcess) {
    let mut call = |method: &str, request: Value| {
        python.request(
            &json!({"method": format!("tests.agent.v1.Agent/{method}"), "request": request, "key": "k"}),
        )
    };
    let container = call("Start", json!({"container": "größe", "image": IMAGE}));
    let started = "1970-01-01T00:00:07Z";
    // No deadline: a timeout does not travel in dialect 1.
    let expected = json!({"name": "größe", "image": IMAGE, "key": "k", "started": started});
    assert_eq!(container, json!({"ok": expected}));
    let missing = call("Start", json!({"image": "x"}));
    let details = json!([
        {"@type": "type.googleapis.com/tests.agent.v1.NoSuchImage", "image": "x", "similar": [IMAGE, "größe"]},
        {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "5.000000007s"},
    ]);
    let expected =
        json!({"error": {"code": "NOT_FOUND", "message": "there is no image x", "details": details}});
    assert_eq!(missing, expected);
    let packed = call(
        "Pack",
        json!({"a_string": "x", "by_name": {"y": {"packed": [1, -1]}}, "json": {"z": [null, 1.5]}}),
    );
    let expected = json!({
        "@type": "type.googleapis.com/tests.agent.v1.Everything",
        "a_string": "x", "by_name": {"y": {"packed": [1, -1]}}, "json": {"z": [null, 1.5]},
    });
    assert_eq!(packed, json!({"ok": expected}));
    let panicked = call("Fail", json!({"panic": true, "message": "so"}));
    assert_eq!(panicked["error"]["code"], "UNKNOWN");
}

fn python_is_called(world: &World, endpoint: &str) {
    let client = world.connect(world.builder(), endpoint);
    let agent = AgentClient::new(client.peer().clone());
    let start = |image: &str| {
        let request = StartRequest { container: "größe".into(), image: image.into() };
        world.block_on(agent.start(&request).key("k").into_future())
    };
    let container = start(IMAGE).unwrap();
    assert_eq!((&*container.name, &*container.key), ("größe", "k"));
    assert_eq!(start("x").unwrap_err(), no_such_image("x"), "details and all");
    let packed = world.block_on(agent.pack(&everything()).into_future()).unwrap();
    assert_eq!(packed.to_msg::<Everything>().unwrap(), everything());
    let unread = client.peer().invoke_raw("tests.agent.v1.Agent/Start", &b"\xff"[..]);
    let status = Status::from(world.block_on(unread.into_future()).unwrap_err());
    assert_eq!(status.code(), Code::InvalidArgument);
    let other = world.block_on(agent.fail(&Failure::default()).into_future()).unwrap_err();
    assert_eq!((other.code(), other.message()), (Code::Unknown, "ZeroDivisionError('division by zero')"));
    client.stop(world);
}
