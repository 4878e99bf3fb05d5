//! Replies, as they come and as they should not.

use std::convert::Infallible;

use super::*;
use crate::error::ReadError;
use crate::exception::ExceptionKind;

fn made(kind: MessageKind) -> MadeCall {
    MadeCall { kind, method: "add", sequence: 2, protocol: Protocol::Binary, limits: Limits::DEFAULT }
}

fn read<R: Output>(message: &'static [u8]) -> Result<R, ThriftError<Infallible>> {
    made(MessageKind::Call).read(&Bytes::from_static(message))
}

const SUM: &[u8] = b"\x80\x01\0\x02\0\0\0\x03add\0\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\x03\0";

#[test]
fn a_result_is_read_as_python_writes_it() {
    assert_eq!(read::<i64>(SUM).unwrap(), 3);
    assert!(matches!(read::<()>(b"\x80\x01\0\x02\0\0\0\x03add\0\0\0\x02\0"), Ok(())));
}

#[test]
fn an_unknown_method_is_told_as_python_tells_it() {
    let error = read::<i64>(b"\x80\x01\0\x03\0\0\0\x03add\0\0\0\x02\x08\0\x02\0\0\0\x01\0").unwrap_err();
    assert!(!error.may_have_run());
    let ThriftError::Application(exception) = error else { panic!("{error}") };
    assert_eq!(exception, ApplicationException { kind: ExceptionKind::UnknownMethod, message: None });
}

#[test]
fn a_reply_to_another_call_is_no_answer() {
    let reply = |bytes| match read::<i64>(bytes) {
        Err(error @ ThriftError::Reply(_)) if error.may_have_run() => match error {
            ThriftError::Reply(error) => error,
            _ => unreachable!("it was one"),
        },
        other => panic!("{other:?}"),
    };
    let other = reply(b"\x80\x01\0\x02\0\0\0\x03add\0\0\0\x03\x0a\0\0\0\0\0\0\0\0\0\x03\0");
    assert_eq!(other, ReplyError::WrongSequence { expected: 2, found: 3 });
    assert_eq!(reply(b"\x80\x01\0\x02\0\0\0\x03sub\0\0\0\x02\0"), ReplyError::WrongMethod);
    assert_eq!(reply(b"\x80\x01\0\x01\0\0\0\x03add\0\0\0\x02\0"), ReplyError::Read(ReadError::BadKind(1)));
    assert_eq!(reply(b"\x80\x01\0\x02\0\0\0\x03add\0\0\0\x02\0"), ReplyError::MissingResult);
    // A result of another type is none.
    assert_eq!(
        reply(b"\x80\x01\0\x02\0\0\0\x03add\0\0\0\x02\x08\0\0\0\0\0\x03\0"),
        ReplyError::MissingResult
    );
    assert_eq!(reply(b""), ReplyError::Read(ReadError::Truncated));
    let mut trailing = SUM.to_vec();
    trailing.push(0);
    assert_eq!(reply(trailing.leak()), ReplyError::Read(ReadError::TrailingBytes(1)));
}

#[test]
fn a_oneway_call_takes_an_empty_body_for_an_answer() {
    let empty = Bytes::new();
    assert!(matches!(made(MessageKind::Oneway).read::<(), Infallible>(&empty), Ok(())));
    assert!(matches!(made(MessageKind::Call).read::<(), Infallible>(&empty), Err(ThriftError::Reply(_))));
}
