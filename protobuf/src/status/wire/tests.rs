use callosum_runtime::service::binary_data_text;
use proptest::prelude::*;
use prost_types::{Duration, Timestamp};

use super::*;

fn failure(name: &str, repr: &str, traceback: &str) -> ErrorInfo {
    ErrorInfo { traceback: traceback.to_owned().into(), ..ErrorInfo::new(name.to_owned(), repr.to_owned()) }
}

#[test]
fn a_status_is_a_failure_with_the_name_of_its_code_and_its_message() {
    let plain = Status::not_found("there is no image").into_info();
    assert_eq!(plain, failure("NOT_FOUND", "there is no image", ""));
    let detailed = Status::not_found("none").with_detail(&Duration { seconds: 1, nanos: 0 });
    // Field 1: 5, field 2: "none", field 3: an `Any` of a type's URL and two bytes.
    let mut bytes =
        b"\x08\x05\x12\x04none\x1a\x32\x0a\x2ctype.googleapis.com/google.protobuf.Duration\x12\x02".to_vec();
    bytes.extend_from_slice(b"\x08\x01");
    assert_eq!(detailed.encode(), bytes);
    assert_eq!(detailed.into_info(), failure("NOT_FOUND", "none", &binary_data_text(&bytes)));
}

#[test]
fn what_has_no_data_is_read_from_name_and_text() {
    let status = Status::of_failure(failure("ABORTED", "again", "a traceback\n"));
    assert_eq!(status, Status::aborted("again"));
    assert!(status.may_have_run() && status.call_error().is_none());
    for other in [failure("ZeroDivisionError", "ZeroDivisionError('x')", ""), failure("OK", "fine", "")] {
        let status = Status::of_failure(other.clone());
        assert_eq!((status.code(), status.message()), (Code::Unknown, &*other.to_string()));
        assert!(matches!(status.call_error(), Some(CallError::Remote(info)) if *info == other));
        assert!(status.may_have_run());
    }
}

#[test]
fn data_that_are_none_or_of_another_code_are_ignored() {
    let data = |status: Status| binary_data_text(&status.with_detail(&Timestamp::default()).encode());
    let other = data(Status::internal("injected"));
    let none = binary_data_text(b"\xff");
    for traceback in [&*other, &none, "callosum-data base64 %", "callosum-data"] {
        let status = Status::of_failure(failure("NOT_FOUND", "told", traceback));
        assert_eq!(status, Status::not_found("told"), "{traceback}");
    }
}

/// A Python traceback ends with the text of the exception, behind its class.
#[test]
fn the_last_line_of_a_traceback_may_have_the_data() {
    let status = Status::not_found("none").with_detail(&Duration { seconds: 5, nanos: 0 });
    let data = binary_data_text(&status.encode());
    let traceback = format!("Traceback (most recent call last):\n  File \"x: y\"\nm.NOT_FOUND: {data}\n");
    assert_eq!(Status::of_failure(failure("NOT_FOUND", "none", &traceback)), status);
    let earlier = format!("m.NOT_FOUND: {data}\n\nm.Other: another\n");
    let status = Status::of_failure(failure("NOT_FOUND", "none", &earlier));
    assert!(status.details().is_empty(), "only the last line counts");
}

fn statuses() -> impl Strategy<Value = Status> {
    let details = prop::collection::vec((".{0,20}", prop::collection::vec(any::<u8>(), 0..40)), 0..4);
    (1..17_i32, ".{0,40}", details).prop_map(|(code, message, details)| {
        let details = details.into_iter().map(|(type_url, value)| Any { type_url, value });
        details.fold(Status::new(Code::from_number(code), message), Status::with_any)
    })
}

proptest! {
    #[test]
    fn statuses_come_back(status in statuses()) {
        prop_assert_eq!(&Status::of_failure(status.clone().into_info()), &status);
        prop_assert_eq!(&Status::decode(&status.encode()).expect("it was written"), &status);
    }

    #[test]
    fn any_failure_is_a_status(name in "[A-Z_]{0,10}|NOT_FOUND", repr in ".{0,20}", traceback in "(callosum-data base64 )?.{0,40}") {
        let status = Status::of_failure(failure(&name, &repr, &traceback));
        prop_assert_ne!(status.code(), Code::Ok);
    }
}
