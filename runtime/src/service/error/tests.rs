use serde::{Deserialize, Serialize};

use super::*;
use crate::FormatError;

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("it is broken")]
enum Broken {
    Unit,
    New(u8),
    Tuple(u8, u8),
    #[serde(rename = "other")]
    Struct {
        of: String,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("it is broken")]
#[serde(tag = "kind")]
enum Tagged {
    One { of: u8 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("it is broken")]
struct Plain(u8);

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("it is broken")]
#[serde(transparent)]
struct Transparent(String);

fn there_and_back<E>(error: E, codec: &Codec) -> (String, ServiceError<E>)
where
    E: Serialize + DeserializeOwned + Display + Send + 'static,
{
    let info = error.into_failure(codec, true);
    assert_eq!(&*info.repr, "it is broken");
    (info.name.to_string(), failure(CallError::Remote(info), codec))
}

#[cfg(all(feature = "json", feature = "msgpack"))]
#[test]
fn errors_are_named_and_come_back() {
    for codec in [Codec::Json, Codec::MsgPack] {
        let structured = || Broken::Struct { of: "größe".into() };
        for (make, name) in [
            (Box::new(|| Broken::Unit) as Box<dyn Fn() -> Broken>, "Unit"),
            (Box::new(|| Broken::New(200)), "New"),
            (Box::new(|| Broken::Tuple(1, 255)), "Tuple"),
            (Box::new(structured), "other"),
        ] {
            let (known, back) = there_and_back(make(), &codec);
            assert_eq!((&*known, back.failed()), (name, Some(make())));
        }
        let (known, back) = there_and_back(Tagged::One { of: 1 }, &codec);
        assert_eq!((&*known, back.failed()), ("Tagged", Some(Tagged::One { of: 1 })), "serde says no more");
        let (known, back) = there_and_back(Plain(1), &codec);
        assert_eq!((&*known, back.failed()), ("Plain", Some(Plain(1))));
        let (known, back) = there_and_back(Transparent("t".into()), &codec);
        assert_eq!((&*known, back.failed()), ("Transparent", Some(Transparent("t".into()))));
    }
}

#[test]
fn what_is_no_data_of_this_type_is_an_ordinary_failure() {
    let codec = Codec::default();
    for traceback in [
        "",
        "Traceback (most recent call last)",
        "callosum-data text {",
        "callosum-data base64 %",
        "callosum-data text",
    ] {
        let info = ErrorInfo { traceback: traceback.into(), ..ErrorInfo::new("Unit", "it is broken") };
        let error: ServiceError<Broken> = failure(CallError::Remote(info.clone()), &codec);
        let ServiceError::Call(CallError::Remote(same)) = error else { panic!("{traceback}: {error:?}") };
        assert_eq!(same, info, "nothing is lost");
    }
    let info = ErrorInfo {
        traceback: "callosum-data text \"Unit\"".into(),
        ..ErrorInfo::new("Unit", "it is broken")
    };
    // Only a handler's failure is one of the method's.
    let rejected: ServiceError<Broken> = failure(CallError::Rejected(info), &codec);
    assert!(matches!(rejected, ServiceError::Call(CallError::Rejected(_))), "{rejected:?}");
}

#[test]
fn data_that_is_no_text_travels_in_base64() {
    assert_eq!(carry(b"{}"), "callosum-data text {}");
    assert_eq!(carry(&[0xff, 0, 1]), "callosum-data base64 /wAB");
    assert_eq!(data("callosum-data base64 /wAB"), Some(vec![0xff, 0, 1]));
    assert_eq!(data(&carry(b"")), Some(vec![]));
}

/// A codec that writes nothing.
struct Silent;

impl crate::Format for Silent {
    fn encode<T: Serialize + ?Sized>(&self, _: &T) -> Result<bytes::Bytes, FormatError> {
        Err("there is no such value".into())
    }

    fn decode<'de, S: serde::de::DeserializeSeed<'de>>(
        &self,
        _: &'de [u8],
        _: S,
    ) -> Result<S::Value, FormatError> {
        Err("there is no such value".into())
    }
}

#[test]
fn an_error_that_can_not_be_serialized_keeps_its_name_and_text() {
    let codec = Codec::custom(Silent);
    let info = Broken::New(1).into_failure(&codec, false);
    assert_eq!((&*info.name, &*info.repr, &*info.traceback), ("New", "it is broken", ""));
    // One that is no data has a traceback where the endpoint exposes it.
    let any = || HandlerError::from("a text");
    assert_eq!(&*MethodError::into_failure(any(), &codec, false).traceback, "");
    assert_eq!(&*MethodError::into_failure(any(), &codec, true).traceback, "&str: a text\n");
}
