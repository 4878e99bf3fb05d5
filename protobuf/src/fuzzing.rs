//! Bodies of the fuzz targets. No part of the API.

use bytes::Bytes;
use callosum_runtime::ErrorInfo;
use prost_types::{Any, Struct};

use crate::framing::{decode_item, encode_item, from_item};
use crate::{Code, Prost, Status};

/// Reads bytes as a failure: the name of its code or another one, and the third text; and as a `google.rpc.Status`.
///
/// # Panics
/// If a status that was read does not come back as it was.
pub fn status(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let name = Code::ALL.get(usize::from(*first)).map_or("Other", |code| code.name());
    let text = String::from_utf8_lossy(rest).into_owned();
    let info = ErrorInfo { traceback: text.clone().into(), ..ErrorInfo::new(name, text) };
    let read = Status::of_failure(info);
    assert_ne!(read.code(), Code::Ok);
    assert_eq!(Status::of_failure(read.clone().into_info()), read);
    if let Ok(status) = Status::decode(rest) {
        assert_eq!(Status::of_failure(status.clone().into_info()), status);
    }
}

/// Reads bytes as an item of a stream: messages that nest, that hold others, and that have no fields.
///
/// # Panics
/// If a message that was read does not come back as it was.
pub fn item(data: &[u8]) {
    let item = Bytes::copy_from_slice(data);
    assert_eq!(from_item(item.clone()).is_ok(), data.first() == Some(&0));
    again::<Struct>(item.clone());
    again::<Any>(item.clone());
    again::<()>(item);
}

fn again<T: prost::Message + PartialEq + Default + 'static>(item: Bytes) {
    let Ok(message) = decode_item::<Prost, T>(item) else { return };
    let written = encode_item::<Prost, T>(&message).expect("it was read");
    let read = decode_item::<Prost, T>(written.clone()).expect("it was written");
    // Numbers that are none differ from themselves, so their bytes are compared.
    let rewritten = encode_item::<Prost, T>(&read).expect("it was read");
    assert_eq!(rewritten.len(), written.len());
}
