//! What a connection sends must be readable by its peer: every message goes through the codec that the peer would use.

use callosum_proto::Multipart;
use callosum_proto::internals::wire::{self, PING, PONG, UPPER, dialect2};

/// Decodes a message that a connection sent.
///
/// # Panics
/// If a peer could not read it.
pub(super) fn assert_readable(message: &Multipart) {
    if let Some(packet) = message.clone().into_one() {
        let records = dialect2::records(&packet).unwrap_or_else(|error| panic!("a packet: {error}"));
        for record in records {
            record.unwrap_or_else(|error| panic!("a record of a packet: {error}"));
        }
        return;
    }
    let [marker, header, body] = message.clone().into_three().expect("one frame or three");
    if marker == UPPER {
        let header = wire::decode_header(&header).unwrap_or_else(|error| panic!("a header: {error}"));
        wire::decode_body(&header, body, usize::MAX).unwrap_or_else(|error| panic!("a body: {error}"));
    } else {
        assert!(marker == PING || marker == PONG, "an unknown marker");
    }
}
