//! JSON in and out.

use serde_json::json;

use super::*;
use crate::exception::ExceptionKind;

const IDL: &str = r#"
    enum Color { RED = 1, BLUE = 5 }
    union Either { 1: i64 number, 2: string text }
    exception Oops { 1: string message }
    typedef list<Point> Points
    struct Point { 1: required double x, 2: double y }
    struct All {
        1: bool flag, 2: byte small, 3: i16 short, 4: i32 int, 5: i64 long, 6: double number, 7: string text, 8: binary data,
        9: uuid id, 10: Color color, 11: Either either, 12: Points points, 13: set<i32> set, 14: map<Color, bool> by_color,
        15: map<Point, i8> by_point, 16: map<bool, i8> by_flag, 17: map<i64, string> by_number, 18: optional All all
    }
    service Base { All same(1: All all) throws (1: Oops oops), oneway void tell(1: string text) }
    service Child extends Base { void nothing(), i32 with_default(1: i32 n = 7, 2: optional i32 m) }
    service Other { void nothing() }
"#;

fn schema() -> Arc<Schema> {
    Arc::new(Loader::new().parse("all", IDL).unwrap())
}

fn same() -> DynamicMethod {
    DynamicMethod::find(schema(), Some("Base"), "same").unwrap()
}

/// The reply with this value of the argument `all`, or as another field.
fn reply(method: &DynamicMethod, all: &Value, field: u8) -> Bytes {
    let mut bytes = method.request(1, &json!({ "all": all })).unwrap().to_vec();
    (bytes[3], bytes[18]) = (2, field);
    bytes.into()
}

#[test]
fn every_type_comes_back_as_the_same_json() {
    let all = json!({
        "flag": true, "small": -128, "short": 32767, "int": -2147483648, "long": i64::MAX, "number": 2.5, "text": "größe",
        "data": "AP8=", "id": "00112233-4455-6677-8899-aabbccddeeff", "color": "BLUE", "either": {"text": "x"},
        "points": [{"x": 1.0, "y": "NaN"}, {"x": "-Infinity"}], "set": [3, 1], "by_color": {"RED": true, "77": false},
        "by_point": [[{"x": 1.0}, 1]], "by_flag": {"false": 0, "true": 1}, "by_number": {"-3": "x"}, "all": {"int": 1},
    });
    let method = same();
    assert_eq!(method.response(1, &reply(&method, &all, 0)), Ok(all));
    let unnamed = json!({ "color": 77 });
    assert_eq!(method.response(1, &reply(&method, &unnamed, 0)), Ok(unnamed), "a number without a name");
}

#[test]
fn what_is_wrong_is_told_by_its_path() {
    let wrong = |all: Value| same().request(1, &json!({ "all": all })).unwrap_err().to_string();
    for (all, text) in [
        (json!({"points": [{"x": 1}, {"x": "one"}]}), "all.points[1].x: expected double"),
        (json!({"points": [{"y": 1}]}), "the field all.points[0].x is missing"),
        (json!({"small": 128}), "all.small: expected byte"),
        (json!({"long": 1.5}), "all.long: expected i64"),
        (json!({"data": "?"}), "all.data: expected text in Base64"),
        (json!({"color": "GREEN"}), "all.color: expected value of Color"),
        (json!({"either": {}}), "all.either: expected union with exactly one field"),
        (json!({"either": {"number": null}}), "the field all.either.number is missing"),
        (json!({"by_point": {"x": 1}}), "all.by_point: expected map"),
        (json!({"by_color": {"PINK": true}}), "all.by_color[\"PINK\"]: expected value of Color"),
        (json!({"id": "00"}), "all.id: expected UUID"),
        (json!({"other": 1}), "there is no field all.other"),
    ] {
        assert_eq!(wrong(all), text);
    }
    assert_eq!(same().request(1, &json!({})).unwrap_err().to_string(), "the field all is missing");
    assert_eq!(
        same().request(1, &json!([])).unwrap_err().to_string(),
        "the argument: expected object of arguments by their names"
    );
}

#[test]
fn arguments_with_defaults_and_optional_ones_may_be_missing() {
    let method = DynamicMethod::find(schema(), None, "with_default").unwrap();
    let empty = method.request(1, &Value::Null).unwrap();
    assert!(empty.ends_with(b"\0\0\0\x01\0"), "no field between the number of the call and the stop");
}

#[test]
fn methods_are_found_in_services_and_those_that_they_extend() {
    assert!(DynamicMethod::find(schema(), Some("Child"), "same").is_ok());
    let error = |service, method| DynamicMethod::find(schema(), service, method).unwrap_err().to_string();
    assert_eq!(error(None, "nothing"), "several services have a method nothing: Child, Other");
    assert_eq!(error(None, "nope"), "there is no method nope in the file");
    assert_eq!(error(Some("Nope"), "same"), "there is no service Nope in the file");
}

#[test]
fn responses_that_are_no_result_are_errors() {
    let method = same();
    let oops =
        Bytes::from_static(b"\x80\x01\0\x02\0\0\0\x04same\0\0\0\x01\x0c\0\x01\x0b\0\x01\0\0\0\x02no\0\0");
    let thrown = CallJsonError::Exception { name: "oops".into(), value: json!({"message": "no"}) };
    assert_eq!(method.response(1, &oops), Err(thrown));
    let unknown = Bytes::from_static(b"\x80\x01\0\x03\0\0\0\x04same\0\0\0\x01\x08\0\x02\0\0\0\x01\0");
    let Err(CallJsonError::Application(exception)) = method.response(1, &unknown) else {
        panic!("it is an exception")
    };
    assert_eq!(exception.kind, ExceptionKind::UnknownMethod);
    let all = reply(&method, &json!({}), 0);
    assert_eq!(method.response(2, &all), Err(ReplyError::WrongSequence { expected: 2, found: 1 }.into()));
    let missing = reply(&method, &json!({}), 9);
    assert_eq!(method.response(1, &missing), Err(ReplyError::MissingResult.into()));
}

#[test]
fn what_returns_nothing_is_null() {
    let tell = DynamicMethod::find(schema(), Some("Base"), "tell").unwrap();
    assert_eq!(tell.request(1, &json!({"text": "x"})).unwrap()[3], 4, "a oneway call");
    assert_eq!(tell.response(1, &Bytes::new()), Ok(Value::Null));
    let nothing = DynamicMethod::find(schema(), Some("Child"), "nothing").unwrap();
    let reply = Bytes::from_static(b"\x80\x01\0\x02\0\0\0\x07nothing\0\0\0\x01\0");
    assert_eq!(nothing.response(1, &reply), Ok(Value::Null));
    assert!(nothing.response(1, &Bytes::new()).is_err());
}

#[test]
fn limits_hold_for_responses() {
    let method = same();
    let mut all = json!({});
    for _ in 0..40 {
        all = json!({ "all": all });
    }
    let bytes = reply(&method, &all, 0);
    assert_eq!(method.response(1, &bytes), Ok(all));
    let shallow = method.clone().limits(Limits::DEFAULT.depth(20));
    assert_eq!(shallow.response(1, &bytes), Err(ReadError::TooDeep(20).into()));
    let set = reply(&method, &json!({"set": vec![1; 1000]}), 0);
    let small = method.limits(Limits::DEFAULT.memory(10_000));
    assert_eq!(small.response(1, &set), Err(ReadError::TooMuchMemory(10_000).into()));
}
