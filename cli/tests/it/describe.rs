//! What `callosum describe` shows of a server.

use crate::common::Process;
use crate::common::transfer::with_server;
use callosum_runtime::{HandlerResult, service};
use futures_util::{Stream, stream};

#[service]
trait Agent {
    /// Starts a container.
    ///
    #[doc = " \u{1b}[31mRed"]
    #[method(key = container)]
    async fn start(&self, container: String, #[default] image: Option<String>) -> u64;

    async fn stop(&self);

    async fn logs(&self, container: String) -> HandlerResult<impl Stream<Item = String>>;
}

struct Nothing;

impl Agent for Nothing {
    async fn start(&self, _: String, _: Option<String>) -> u64 {
        7
    }

    async fn stop(&self) {}

    async fn logs(&self, _: String) -> HandlerResult<impl Stream<Item = String>> {
        Ok(stream::empty())
    }
}

#[test]
fn methods_are_shown_with_their_docs() {
    let builder = callosum_tokio::builder().serve(Nothing.into_service()).describe_services();
    with_server(builder, |server| {
        let describe = |args: &[&str]| Process::start(&[&["describe", server], args].concat()).end();
        let shown = describe(&[]).expect(0).stdout;
        let expected = [
            "Agent.logs(container: String) -> stream of String",
            "Agent.start(container: String, [image: Option<String>]) -> u64",
            "    Starts a container.",
            "    ",
            "    \\u{1b}[31mRed",
            "    Key: container.",
            "Agent.stop()",
        ];
        assert_eq!(shown, expected, "in order, and nothing that a terminal obeys");
        assert_eq!(describe(&["Agent.stop"]).expect(0).stdout, ["Agent.stop()"]);
        let call = |args: &[&str]| Process::start(&[&["call", server], args].concat()).end();
        assert_eq!(call(&["--help", "Agent.stop"]).expect(0).stdout, ["Agent.stop()"]);
        call(&["--help", "Agent.nothing"]).expect(2).expect_stderr("no method `Agent.nothing`");
        call(&[]).expect(2).expect_stderr("<METHOD>");
        assert_eq!(call(&["Agent.stop"]).expect(0).stdout, ["null"], "no argument is none");
        describe(&["Agent.nothing"]).expect(2).expect_stderr("no method `Agent.nothing`");
        let json = describe(&["Agent.stop", "--json"]).expect(0).stdout.join("");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json[0]["name"], &json[0]["result"]), (&"Agent.stop".into(), &"()".into()));
    });
    with_server(callosum_tokio::builder(), |server| {
        Process::start(&["describe", server]).end().expect(4).expect_stderr("callosum.describe");
    });
}
