//! The peers that the tests with Python are made of, with each other.

use callosum_tests::python::PyProcess;
use serde_json::json;

#[test]
fn python_peers_call_each_other() {
    let mut server = PyProcess::spawn("server.py", &["--codec", "msgpack"]);
    let endpoint = server.wait_line("listening on ");
    let mut client = PyProcess::spawn("client.py", &["--connect", &endpoint, "--codec", "msgpack"]);
    client.wait_line("ready");
    let call = json!({"op": "call", "method": "echo", "body": {"sent": "größe"}, "key": "k", "timeout": 30});
    assert_eq!(client.request(&call), json!({"ok": {"received": "größe"}}));
    let error = client.request(&json!({"op": "call", "method": "error", "body": {}, "timeout": 30}));
    assert_eq!(error["error"]["name"], "ZeroDivisionError");
    assert_eq!(client.request(&json!({"op": "quit"})), json!({"ok": null}));
    assert!(client.wait_exit().0.success());
    assert!(server.finish().0.success());
}
