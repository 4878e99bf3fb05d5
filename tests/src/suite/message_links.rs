//! Message links of the user's own.

use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use callosum_proto::Multipart;
use callosum_proto::internals::wire::dialect2::{PacketWriter, Record, records};
use callosum_proto::internals::wire::{Credit, Hello, NONCE_LEN, PING, PONG};
use callosum_runtime::link::{LinkFailure, MessageSender, memory};
use callosum_runtime::{Context, HandlerResult, Limits};
use futures_util::future::BoxFuture;

use crate::raw::{open, whole};
use crate::rig::Rig;

/// A link that takes a message when the test says so.
#[derive(Debug)]
struct Reluctant {
    offered: Sender<Multipart>,
    taken: Receiver<()>,
}

impl MessageSender for Reluctant {
    fn send<'a>(&'a self, _to: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        Box::pin(async move {
            self.offered.send(message).await.expect("the test listens");
            self.taken.recv().await.expect("the test holds the other end");
            Ok(())
        })
    }
}

fn packet(record: &Record) -> Multipart {
    let mut writer = PacketWriter::default();
    writer.write(record);
    writer.take()
}

/// Calls that a packet answers; none if the message is a probe.
fn answered(message: Multipart) -> Vec<u64> {
    let Some(packet) = message.into_one() else { return Vec::new() };
    let records: Vec<_> =
        records(&packet).expect("it is a packet").map(|record| record.expect("it is one")).collect();
    let calls = records.into_iter().filter_map(|record| match record {
        Record::Result { call, .. } => Some(call),
        _ => None,
    });
    calls.collect()
}

/// Requests that wait because a large reply waits to be sent start when that is dropped, and their replies leave, though nothing else
/// happens on the link.
pub async fn requests_behind_a_dropped_reply(rig: Rig) {
    let limits = Limits::default().max_outgoing_bytes(100_000);
    let reply =
        |len: usize| move |_: Bytes, _: Context| async move { HandlerResult::Ok(Bytes::from(vec![1; len])) };
    let builder = rig
        .builder()
        .limits(limits)
        .keepalive(Duration::MAX, 2)
        .handle_raw("small", reply(1))
        .handle_raw("large", reply(300_000));
    let (offered, offers) = async_channel::unbounded();
    let (take, taken) = async_channel::unbounded();
    let (hub, _sender, receiver) = memory(4);
    let (binder, driver) = builder.bind_link(Reluctant { offered, taken }, receiver);
    let driver = rig.drive(driver);
    let (raw, _replies) = hub.connect("raw");
    let to = Bytes::new();
    let say = async |message: Multipart| raw.send(&to, message).await.expect("the hub is there");
    let next = async || offers.recv().await.expect("the link is there");
    // The next message that answers a call, which the link has not taken yet.
    let answers = async || loop {
        let calls = answered(next().await);
        if !calls.is_empty() {
            return calls;
        }
        take.send(()).await.expect("the link is there");
    };

    let credit = Some(Credit { stream: 1 << 20, link: 1 << 24 });
    let hello = Hello { dialects: 0b11, nonce: [9; NONCE_LEN], max_body: 1 << 20, credit };
    say(Multipart::new(PING, hello.encode(), Bytes::new())).await;
    assert_eq!(next().await.frames()[0], PONG);
    take.send(()).await.expect("the link is there");
    let peer = rig.sole_peer(&binder).await;
    say(packet(&open(0, "small", whole("")))).await;
    assert_eq!(answers().await, [0]);
    say(packet(&open(2, "large", whole("")))).await;
    rig.until(|| peer.stats().requests_done == 2).await;
    say(packet(&open(4, "small", whole("")))).await;
    rig.until(|| peer.stats().requests_queued == 1).await;
    say(packet(&Record::Cancel { call: 2 })).await;
    say(packet(&open(6, "small", whole("")))).await;
    rig.until(|| peer.stats().requests_queued + peer.stats().requests_done >= 4).await;

    let mut calls = Vec::new();
    while !(calls.contains(&4) && calls.contains(&6)) {
        take.send(()).await.expect("the link is there");
        calls.extend(answers().await);
    }
    driver.cut().await;
}
