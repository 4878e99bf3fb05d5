//! What `callosum call` sends along, and how it shows what comes back.

use std::io::Write;
use std::process::Stdio;

use crate::common::transfer::with_server;
use crate::common::{Ended, Process, RUNTIMES, Server, command};
use bytes::Bytes;
use callosum_runtime::{BodyReader, Context, HandlerError, HandlerResult, Metadata, Responder};
use futures_util::StreamExt;
use rustix::process::Signal;

fn call(args: &[&str]) -> Ended {
    Process::start(&[&["call"], args].concat()).end()
}

/// The same with something to read.
fn call_with(args: &[&str], input: &[u8]) -> Ended {
    let mut call = command(&[&["call"], args].concat());
    call.stdin(Stdio::piped());
    let mut call = Process::spawn(call);
    call.stdin().write_all(input).unwrap();
    call.end()
}

/// Sends the caller's metadata back, and says what came.
async fn mirror(body: Bytes, context: Context) -> HandlerResult<Bytes> {
    context.set_reply_metadata(context.metadata().clone())?;
    Ok(body)
}

/// Answers each item as it comes.
async fn each(body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    let mut items = body.items::<serde_json::Value>();
    let mut result = responder.begin().await?;
    while let Some(item) = items.next().await {
        result.write_item(&serde_json::json!({ "got": item? })).await?;
    }
    Ok(())
}

/// Counts the bytes of the argument, in text.
async fn size(mut body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    let mut size = 0;
    while let Some(bytes) = body.next().await {
        size += bytes?.len();
    }
    responder.begin().await?.write_bytes(size.to_string().into()).await?;
    Ok(())
}

/// Reads nothing.
async fn refuse(_: BodyReader, _: Responder, _: Context) -> HandlerResult<()> {
    Err(HandlerError::new("Full", "no more"))
}

/// Answers at once, and reads nothing more.
async fn answer(_: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    responder.begin().await?.write_item(&1).await?;
    Ok(())
}

#[test]
fn no_argument_is_null() {
    let server = callosum_tokio::builder().handle_raw("mirror", mirror);
    with_server(server, |endpoint| {
        assert_eq!(call(&[endpoint, "mirror"]).expect(0).stdout, ["null"]);
    });
}

#[test]
fn metadata_goes_along_and_comes_back() {
    let server = callosum_tokio::builder().handle_raw("mirror", mirror);
    with_server(server, |endpoint| {
        let args = [endpoint, "mirror", "1", "-H", "id=a=b\n\u{1b}", "--metadata", "empty=", "-v"];
        let ended = call(&args).expect(0);
        assert_eq!(ended.stdout, ["1"]);
        let said = &ended.stderr;
        assert!(
            said[0].starts_with("* connected to tcp://") && said[0].ends_with(" ms, dialect 2, plaintext"),
            "{said:?}"
        );
        assert_eq!(said[1..3], ["> empty: ", "> id: a=b\\n\\u{1b}"]);
        assert!(said[3].starts_with("* the result begins after "), "{said:?}");
        assert_eq!(said[4..6], ["< empty: ", "< id: a=b\\n\\u{1b}"]);
        assert!(said[6].starts_with("* the result is complete after ") && said.len() == 7, "{said:?}");
        // Nothing of it without -v.
        assert!(call(&args[..5]).expect(0).stderr.is_empty());
        for (entry, problem) in [("x", "NAME=VALUE"), ("=x", "name is missing")] {
            call(&[endpoint, "mirror", "-H", entry]).expect(2).expect_stderr(problem);
        }
        call(&[endpoint, "mirror", "-H", "a=1", "-H", "a=2"]).expect(2).expect_stderr("given twice");
        let large = format!("a={}", "x".repeat(Metadata::MAX_BYTES));
        call(&[endpoint, "mirror", "-H", &large]).expect(2).expect_stderr("the limits are");
    });
}

#[test]
fn results_can_be_indented() {
    for codec in ["json", "msgpack"] {
        let server = Server::demo("tokio", codec, &[]);
        let ended = server.call(&["echo", r#"{"sent":[1,{}]}"#, "--output", "pretty"]).expect(0);
        assert_eq!(ended.stdout, ["{", r#"  "received": ["#, "    1,", "    {}", "  ]", "}"]);
        let ended = server.call(&["count", r#"{"to":2}"#, "--stream", "--output", "pretty"]).expect(0);
        assert_eq!(ended.stdout, ["{", r#"  "count": 1"#, "}", "{", r#"  "count": 2"#, "}"]);
    }
}

#[test]
fn raw_bytes_stay_as_they_are() {
    let server = callosum_tokio::builder().handle_raw("mirror", mirror).handle_stream("size", size);
    with_server(server, |endpoint| {
        let mut call = command(&["call", endpoint, "mirror", "--raw", "-"]);
        let mut child = call.stdin(Stdio::piped()).spawn().unwrap();
        let bytes = [0, 255, b'\n', 27];
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &bytes[..]));
        let mut call = command(&["call", endpoint, "mirror", "--raw", "not json"]);
        assert_eq!(call.output().unwrap().stdout, b"not json");
        let ended = call_with(&[endpoint, "size", "--raw", "--input", "-"], &[0; 300_000]).expect(0);
        assert_eq!(ended.stdout, ["300000"]);
        Process::start(&["call", endpoint, "mirror", "--raw", "--output", "pretty"]).end().expect(2);
    });
}

#[test]
fn compressed_arguments_arrive() {
    let long = "x".repeat(100_000);
    for server in ["json", "msgpack"].map(|codec| Server::demo("tokio", codec, &[])) {
        let argument = format!(r#"{{"sent":"{long}"}}"#);
        let ended = server.call(&["echo", &argument, "--compress"]).expect(0);
        assert_eq!(ended.stdout, [format!(r#"{{"received":"{long}"}}"#)]);
    }
}

#[test]
fn arguments_are_streamed_as_they_come() {
    for runtime in RUNTIMES {
        let server = callosum_tokio::builder().handle_stream("each", each);
        with_server(server, |endpoint| {
            let mut call =
                command(&["call", endpoint, "each", "--input", "-", "--stream", "--runtime", runtime]);
            call.stdin(Stdio::piped());
            let mut call = Process::spawn(call);
            let mut input = call.stdin();
            for item in [r#"{"a": 1}"#, "[\n2]", r#""x""#] {
                input.write_all(item.as_bytes()).unwrap();
                // The answer is there while more may come.
                let got: serde_json::Value = serde_json::from_str(&call.line()).unwrap();
                assert_eq!(got["got"], serde_json::from_str::<serde_json::Value>(item).unwrap());
            }
            drop(input);
            assert!(call.end().expect(0).stdout.is_empty());
        });
    }
}

#[test]
fn what_can_not_be_streamed_is_told() {
    let server = callosum_tokio::builder()
        .handle_stream("each", each)
        .handle_stream("refuse", refuse)
        .handle_stream("answer", answer);
    with_server(server, |endpoint| {
        let each = [endpoint, "each", "--stream", "--input"];
        call_with(&[&each[..], &["-"]].concat(), b"1 2 {").expect(2).expect_stderr("not JSON");
        call(&[&each[..], &["/nowhere/x"]].concat()).expect(1).expect_stderr("/nowhere/x");
        call(&[&each[..], &["/"]].concat()).expect(1).expect_stderr("directory");
        call(&[endpoint, "each", "1", "--input", "-"]).expect(2);
        assert!(call_with(&[&each[..], &["-"]].concat(), b"").expect(0).stdout.is_empty());
        // How the call ends is not for stdin to say, which is still open.
        for (method, code) in [("refuse", 3), ("answer", 0), ("nix", 4)] {
            let mut call = command(&["call", endpoint, method, "--input", "-"]);
            call.stdin(Stdio::piped());
            let mut call = Process::spawn(call);
            let input = call.stdin();
            call.end().expect(code);
            drop(input);
        }
    });
}

#[test]
fn a_call_whose_input_says_nothing_can_be_interrupted() {
    let server = callosum_tokio::builder().handle_stream("each", each);
    with_server(server, |endpoint| {
        let mut call = command(&["call", endpoint, "each", "--input", "-", "--stream"]);
        call.stdin(Stdio::piped());
        let mut call = Process::spawn(call);
        let mut input = call.stdin();
        input.write_all(b"true ").unwrap();
        assert_eq!(call.line(), r#"{"got":true}"#);
        call.signal(Signal::INT);
        call.end().expect(6);
        drop(input);
    });
}

#[test]
fn items_are_not_one_value_to_a_method_without_streams() {
    let server = callosum_tokio::builder()
        .handle("same", |value: serde_json::Value, _| async { Ok::<_, HandlerError>(value) });
    with_server(server, |endpoint| {
        let same = [endpoint, "same", "--input", "-"];
        assert_eq!(call_with(&same, b"12").expect(0).stdout, ["12"]);
        let ended = call_with(&same, b"1 2");
        assert!(ended.code != Some(0) && ended.stdout.is_empty(), "{ended:?}");
        assert!(ended.stderr.join("\n").contains("trailing characters"), "{ended:?}");
    });
}

#[test]
fn a_call_that_fails_has_its_timing_too() {
    let server = callosum_tokio::builder().handle_stream("refuse", refuse);
    with_server(server, |endpoint| {
        let ended = call(&[endpoint, "refuse", "-v"]).expect(3);
        assert!(ended.stderr[1].starts_with("* the call failed after "), "{ended:?}");
        assert!(ended.stderr[2].contains("no more"), "{ended:?}");
    });
}
