//! Packets of dialect 2: what is encoded decodes to the same records, and no input makes the decoder fail.

use std::time::Duration;

use bytes::Bytes;
use callosum_proto::internals::wire::dialect2::{
    Failure, MAX_CALL, Options, PacketWriter, Piece, Record, records,
};
use callosum_proto::{ErrorInfo, Metadata, OrderingKey, Urgency};
use callosum_testkit::fuzz;
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        1 => (any::<u8>(), 0..max).prop_map(|(byte, len)| vec![byte; len].into()),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    (bytes(64 * 1024), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(bytes, fin, item, compressed)| Piece { bytes, fin, item, compressed })
}

fn key() -> impl Strategy<Value = OrderingKey> {
    prop_oneof![
        Just(OrderingKey::none()),
        ".{0,20}".prop_map(OrderingKey::text),
        bytes(1_000).prop_map(OrderingKey::binary),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    prop::collection::btree_map(".{0,10}", bytes(200), 0..4).prop_map(|entries| {
        let mut metadata = Metadata::new();
        for (name, value) in entries {
            metadata.insert(name, value).expect("they are few");
        }
        metadata
    })
}

fn options() -> impl Strategy<Value = Options> {
    let number = prop::option::of(any::<u64>());
    (metadata(), number.clone(), prop::option::of(0..8_u8), number).prop_map(
        |(metadata, remaining, urgency, size)| {
            let remaining = remaining.map(Duration::from_micros);
            let urgency = urgency.and_then(Urgency::new);
            Options { metadata, remaining, urgency, size, unsupported: false }
        },
    )
}

fn failure() -> impl Strategy<Value = Failure> {
    (".{0,20}", ".{0,20}", ".{0,200}", 0..3).prop_map(|(name, repr, traceback, kind)| {
        let info = ErrorInfo { traceback: traceback.into(), ..ErrorInfo::new(name, repr) };
        match kind {
            0 => Failure::Failure(info),
            1 => Failure::Error(info),
            _ => Failure::Cancelled,
        }
    })
}

fn record() -> impl Strategy<Value = Record> {
    let call = || 0..=MAX_CALL;
    prop_oneof![
        (call(), ".{0,30}", key(), options(), piece()).prop_map(|(call, method, key, options, piece)| {
            Record::Open { call, method: method.into(), key, options, piece }
        }),
        (call(), options(), piece()).prop_map(|(call, options, piece)| Record::Result {
            call,
            options,
            piece
        }),
        (call(), failure(), metadata()).prop_map(|(call, failure, metadata)| {
            Record::Fail { call, failure, options: Options { metadata, ..Options::default() } }
        }),
        (call(), any::<u64>(), piece()).prop_map(|(call, offset, piece)| Record::Data {
            call,
            offset,
            piece
        }),
        call().prop_map(|call| Record::Cancel { call }),
        call().prop_map(|call| Record::Abort { call }),
        call().prop_map(|call| Record::Stop { call }),
        (call(), any::<u64>(), any::<u64>()).prop_map(|(call, consumed, limit)| Record::Credit {
            call,
            consumed,
            limit
        }),
        any::<u64>().prop_map(|limit| Record::LinkCredit { limit }),
        any::<u64>().prop_map(|next| Record::Goodbye { next }),
    ]
}

/// Encodes the records into as few packets as possible.
fn packets(written: &[Record]) -> Vec<Bytes> {
    let mut writer = PacketWriter::default();
    let mut packets = Vec::new();
    for record in written {
        writer.write(record);
        if writer.is_closed() || writer.len() > 20_000 {
            packets.extend(writer.take().into_one());
        }
    }
    if !writer.is_empty() {
        packets.extend(writer.take().into_one());
    }
    packets
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(written in prop::collection::vec(record(), 0..12)) {
        let mut read = Vec::new();
        for packet in packets(&written) {
            for record in records(&packet).expect("it is not too large") {
                read.push(record.expect("it was written so"));
            }
        }
        prop_assert_eq!(read, written);
    }

    #[test]
    fn bytes_that_were_changed_do_no_harm(
        written in prop::collection::vec(record(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for packet in packets(&written) {
            let mut packet = packet.to_vec();
            for (at, byte) in &changes {
                let at = at.index(packet.len());
                packet[at] = *byte;
            }
            fuzz::packet(&packet);
            fuzz::packet(&packet[..cut.index(packet.len())]);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        fuzz::packet(&bytes);
    }
}
