//! Bodies and headers that are not what they say, or that are made to be hard to read.

use bytes::{BufMut, Bytes};
use callosum_proto::internals::wire::Payload;
use callosum_proto::internals::wire::UPPER;
use callosum_proto::{ErrorInfo, Multipart, OrderingKey};
use callosum_runtime::rt::ByteStream;
use callosum_runtime::{CallError, Codec, HandlerResult, Refusal};
use serde_json::Value;

use crate::raw::RawPeer;
use crate::rig::{Rig, poll_once};
use crate::suite::abuse::Scene;

/// Levels that overflow any stack if each takes a frame of it.
const ABYSS: usize = 1_000_000;

async fn refused<S: ByteStream>(attacker: &mut RawPeer<S>) -> ErrorInfo {
    match attacker.hear().await {
        (_, Payload::Error(info)) => info,
        (header, other) => panic!("{header:?} {other:?}"),
    }
}

/// Blocks of Snappy that declare more than they hold, up to 4 GiB: a typed error, before anything is allocated for it.
pub async fn snappy_that_declares_gigabytes(rig: Rig) {
    let scene = Scene::new(&rig, rig.builder()).await;
    let mut attacker = scene.attacker().await;
    let declared: [&[u8]; 5] = [
        b"\xff\xff\xff\xff\x0f",
        b"\x80\x80\x80\x80\x08",
        b"\x80\x80\x80\x80\x04",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80\x80\x80\x05",
    ];
    scene
        .beside(10, async {
            for (seq, declared) in (0..).zip(declared.iter().cycle().take(1_000)) {
                let call =
                    attacker.message(seq, ("echo", OrderingKey::none()), Payload::Function("1".into()), true);
                let [_, header, _] = call.into_three().expect("a call has three frames");
                // Two literals and a copy, of which there may be no end.
                let block = [declared, &b"\x04ab\xfe\x01\x00"[..]].concat();
                attacker.send(Multipart::new(UPPER, header, block.into())).await;
                let refusal = Refusal::of(&refused(&mut attacker).await);
                assert!(
                    matches!(refusal, Some(Refusal::BodyTooLarge | Refusal::MalformedBody)),
                    "{declared:?}: {refusal:?}"
                );
            }
        })
        .await;
    scene.end().await;
}

/// What a header may not hold: nesting without end, and arrays, maps and texts that are not there.
fn headers() -> Vec<Bytes> {
    let unknown = |value: &[u8]| [&b"\x86\xa4type\x01\xa1?"[..], value].concat();
    let mut headers = vec![vec![0x91; 60_000], vec![0x81; 60_000], unknown(&[0x91; 60_000])];
    for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
        for len in [u32::MAX, 1 << 31, 1 << 20] {
            let mut huge = vec![marker];
            huge.put_u32(len);
            headers.push(unknown(&huge));
            headers.push(huge);
        }
    }
    headers.into_iter().map(Bytes::from).collect()
}

/// Headers like these are dropped and counted.
pub async fn headers_that_nest_and_declare(rig: Rig) {
    let scene = Scene::new(&rig, rig.builder()).await;
    let mut attacker = scene.attacker().await;
    let seen = scene.attacker_seen().await;
    let headers = headers();
    scene
        .beside(5, async {
            for header in headers.iter().cycle().take(10 * headers.len()) {
                for body in [Bytes::new(), header.clone()] {
                    attacker.send(Multipart::new(UPPER, header.clone(), body)).await;
                }
                attacker.call(1, "echo", "good").await;
                assert_eq!(attacker.hear().await.0.id.seq, 1);
            }
        })
        .await;
    assert_eq!(seen.stats().anomalies, 20 * headers.len() as u64);
    scene.end().await;
}

/// The deepest argument that is read, and one that is deeper by a level.
fn deepest(codec: &Codec) -> (usize, Vec<Vec<u8>>) {
    let nested = |depth: usize| match codec {
        Codec::Json => [vec![b'['; depth], vec![b']'; depth]].concat(),
        _ => [vec![0x91; depth], vec![1]].concat(),
    };
    let most = (1..1_000).take_while(|depth| codec.decode::<Value>(&nested(*depth)).is_ok()).count();
    let mut hostile = vec![nested(most + 1), nested(ABYSS)];
    match codec {
        Codec::Json => hostile.extend([vec![b'['; ABYSS], b"{\"a\":".repeat(ABYSS), b"\"".to_vec()]),
        _ => {
            hostile.extend([vec![0x91; ABYSS], vec![0x81; ABYSS]]);
            for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
                let mut huge = vec![marker];
                huge.put_u32(u32::MAX);
                hostile.push(huge);
            }
        }
    }
    assert!(codec.decode::<Value>(&nested(most)).is_ok());
    (most, hostile)
}

async fn hostile_values(rig: &Rig, codec: Codec) -> usize {
    let (most, hostile) = deepest(&codec);
    let builder = rig.builder().codec(codec).handle("take", |_: Value, _| async { HandlerResult::Ok(true) });
    let scene = Scene::new(rig, builder).await;
    let mut attacker = scene.attacker().await;
    let seen = scene.attacker_seen().await;
    scene
        .beside(5, async {
            for (seq, value) in (0..).zip(&hostile) {
                attacker.call(seq, "take", value.clone()).await;
                assert_eq!(Refusal::of(&refused(&mut attacker).await), Some(Refusal::InvalidArgument));
                // And as the result of a call of the binder's.
                let mut call = seen.invoke::<_, Value>("any", &1).into_future();
                assert!(poll_once(&mut call).await.is_none(), "nobody has answered yet");
                let (header, _) = attacker.hear().await;
                attacker.say(header.id.seq, "any", Payload::Result(value.clone().into()), false).await;
                let error = call.await.expect_err("it can't be read");
                assert!(matches!(error, CallError::Decode(_)), "{error:?}");
            }
        })
        .await;
    assert_eq!(seen.stats().anomalies, 0);
    scene.end().await;
    most
}

/// Arguments and results in JSON that nest without end end with a typed error, and not with the stack.
pub async fn json_that_nests(rig: Rig) {
    assert_eq!(hostile_values(&rig, Codec::Json).await, 127);
}

/// The same in MessagePack, which may also declare what is not there.
pub async fn msgpack_that_nests_and_declares(rig: Rig) {
    assert_eq!(hostile_values(&rig, Codec::MsgPack).await, 64);
}
