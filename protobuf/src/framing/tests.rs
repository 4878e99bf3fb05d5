use proptest::collection::vec;
use proptest::prelude::*;
use prost_types::Struct;

use super::*;
use crate::Prost;

#[test]
fn an_item_is_a_byte_and_a_message_that_may_be_empty() {
    for message in ["", "web"] {
        let item = encode_item::<Prost, _>(&message.to_owned()).expect("a text can be written");
        assert_eq!(item, to_item(&encode::<Prost, _>(&message.to_owned()).expect("as above")));
        assert_eq!(item[0], 0);
        assert_eq!(decode_item::<Prost, String>(item).expect("it is an item"), message);
    }
    assert_eq!(encode_item::<Prost, _>(&()).expect("it has no fields"), [0][..]);
}

#[test]
fn other_items_are_refused() {
    for (item, text) in [(&[][..], "is empty"), (&[1, 0], "reserved byte 1")] {
        let error = decode_item::<Prost, ()>(Bytes::copy_from_slice(item)).expect_err("it is none");
        assert!(error.to_string().contains(text), "{error}");
    }
}

proptest! {
    #[test]
    fn messages_come_back_from_items(message in vec(any::<u8>(), 0..100)) {
        let item = to_item(&message);
        prop_assert_eq!(from_item(item).expect("it is an item"), message);
    }

    #[test]
    fn messages_of_any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..100)) {
        let item = to_item(&bytes);
        if let Ok(message) = decode_item::<Prost, Struct>(item) {
            let written = encode_item::<Prost, _>(&message).expect("it was read");
            prop_assert!(decode_item::<Prost, Struct>(written).is_ok());
        }
    }
}
