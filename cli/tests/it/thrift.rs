//! `callosum call --thrift`: a service of Apache Thrift is called with JSON.

use std::fs;

use crate::common::scratch::Scratch;
use crate::common::transfer::with_server;
use crate::common::{Ended, Process};
use bytes::Bytes;
use callosum_runtime::{HandlerError, HandlerResult};

const IDL: &str = "
include \"errors.thrift\"
enum Color { RED = 1 }
service Simple {
    i64 add(1: i64 a, 2: i64 b),
    Color paint(1: Color color) throws (1: errors.Oops oops),
    void silent(),
}
service Other { void silent(), void only_here() }
";
const ERRORS: &str = "exception Oops { 1: string message }";

/// Answers as a Thrift server would, message by message, so that what travels is held here too.
async fn answer(body: Bytes) -> HandlerResult<Bytes> {
    let answers: [(&[u8], &[u8]); 6] = [
        (
            b"\x80\x01\0\x01\0\0\0\x03add\0\0\0\x01\x0a\0\x01\0\0\0\0\0\0\0\x01\x0a\0\x02\0\0\0\0\0\0\0\x02\0",
            b"\x80\x01\0\x02\0\0\0\x03add\0\0\0\x01\x0a\0\0\0\0\0\0\0\0\0\x03\0",
        ),
        (
            b"\x80\x01\0\x01\0\0\0\x05paint\0\0\0\x01\x08\0\x01\0\0\0\x01\0",
            b"\x80\x01\0\x02\0\0\0\x05paint\0\0\0\x01\x08\0\0\0\0\0\x01\0",
        ),
        (
            b"\x80\x01\0\x01\0\0\0\x05paint\0\0\0\x01\x08\0\x01\0\0\0\x07\0",
            b"\x80\x01\0\x02\0\0\0\x05paint\0\0\0\x01\x0c\0\x01\x0b\0\x01\0\0\0\x04no 7\0\0",
        ),
        (
            b"\x80\x01\0\x01\0\0\0\x09only_here\0\0\0\x01\0",
            b"\x80\x01\0\x03\0\0\0\x09only_here\0\0\0\x01\x08\0\x02\0\0\0\x01\0",
        ),
        (b"\x82\x21\x01\x03add\x16\x02\x16\x04\0", b"\x82\x41\x01\x03add\x06\0\x06\0"),
        (b"\x80\x01\0\x01\0\0\0\x06silent\0\0\0\x01\0", b"\x80\x01\0\x02\0\0\0\x06silent\0\0\0\x01\0"),
    ];
    let answer = answers.iter().find(|(request, _)| *request == body);
    let (_, answer) = answer.ok_or_else(|| HandlerError::new("Unexpected", &format!("{body:?}")))?;
    Ok(Bytes::from_static(answer))
}

#[test]
fn a_service_is_called_with_json() {
    let scratch = Scratch::new();
    let file = scratch.text("simple.thrift");
    fs::write(&file, IDL).unwrap();
    fs::write(scratch.text("errors.thrift"), ERRORS).unwrap();
    let builder = callosum_tokio::builder().handle_raw("a.simple", |body, _| answer(body));
    with_server(builder, |server| {
        let call = |args: &[&str]| -> Ended {
            let args = [&["call", server, args[0], "--thrift", &file], &args[1..]].concat();
            Process::start(&args).end()
        };
        assert_eq!(call(&["a.simple.add", r#"{"a":1,"b":2}"#]).expect(0).stdout, ["3"]);
        assert_eq!(call(&["a.simple.paint", r#"{"color":"RED"}"#]).expect(0).stdout, ["\"RED\""]);
        let compact = call(&["a.simple.add", "--thrift-compact", r#"{"a":1,"b":2}"#]);
        assert_eq!(compact.expect(0).stdout, ["3"]);
        let silent = call(&["a.simple.silent", "--thrift-service", "Simple"]).expect(0);
        assert_eq!(silent.stdout, ["null"]);

        // An exception that the method declares, one of Thrift itself, and what the file does not have.
        call(&["a.simple.paint", r#"{"color":7}"#]).expect(3).expect_stderr(r#"oops: {"message":"no 7"}"#);
        call(&["a.simple.only_here"]).expect(4).expect_stderr("no such method");
        call(&["a.simple.add", r#"{"a":1}"#]).expect(2).expect_stderr("the field b is missing");
        call(&["a.simple.add", r#"{"a":1,"b":"x"}"#]).expect(2).expect_stderr("b: expected i64");
        call(&["a.simple.nope"]).expect(2).expect_stderr("no method nope");
        call(&["a.simple.silent"]).expect(2).expect_stderr("several services");
        call(&["add"]).expect(2).expect_stderr("ALIAS.METHOD");

        fs::write(&file, "service Simple {\n  i64 add(1: i65 a)\n}").unwrap();
        call(&["a.simple.add"]).expect(2).expect_stderr("simple.thrift:2:14: i65 is not defined");
    });
}
