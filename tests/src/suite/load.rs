//! Many calls at once, and the shutdown of a runtime under them.

use bytes::Bytes;
use callosum_runtime::{Context, HandlerResult, Limits, Peer};
use serde_json::Value;

use crate::rig::Rig;

/// Ten thousand calls from many tasks at once, in both directions: each gets its own answer.
pub async fn ten_thousand_calls(rig: Rig) {
    let limits = Limits::default().max_queue(10_000);
    let builder = || {
        rig.builder().limits(limits.clone()).handle("double", |n: u64, context: Context| async move {
            assert_eq!(context.key().as_text(), Some(&*(n % 7).to_string()));
            HandlerResult::Ok(n * 2)
        })
    };
    let pair = rig.pair(builder(), builder()).await;
    let tasks: Vec<_> = (0..100u64)
        .map(|task| {
            let peer = if task % 2 == 0 { pair.peer().clone() } else { pair.back.clone() };
            rig.spawn(async move {
                let calls = (task * 100..(task + 1) * 100).map(|n| {
                    let peer = &peer;
                    async move {
                        let double: u64 =
                            peer.invoke("double", &n).key((n % 7).to_string()).await.expect("it is answered");
                        assert_eq!(double, n * 2);
                    }
                });
                futures_util::future::join_all(calls).await;
            })
        })
        .collect();
    for task in tasks {
        task.join().await;
    }
    for peer in [pair.peer(), &pair.back] {
        let stats = peer.stats();
        assert_eq!((stats.calls_done, stats.calls_failed, stats.calls_in_flight), (5_000, 0, 0));
        assert_eq!((stats.requests_done, stats.requests_failed), (5_000, 0));
    }
    pair.end().await;
}

/// Large and small bodies at once, in both directions, arrive as they were.
pub async fn large_and_small(rig: Rig) {
    let builder = || rig.builder().handle_raw("echo", |body, _| async move { HandlerResult::Ok(body) });
    let pair = rig.pair(builder(), builder()).await;
    let tasks: Vec<_> = (0..24usize)
        .map(|n| {
            let peer: Peer = if n % 2 == 0 { pair.peer().clone() } else { pair.back.clone() };
            rig.spawn(async move {
                let size = if n % 3 == 0 { 2_000_000 } else { 10 };
                let body = Bytes::from(vec![n as u8; size + n]);
                for _ in 0..3 {
                    let same = peer.invoke_raw("echo", body.clone()).compress(n % 4 == 0).await;
                    assert_eq!(same.expect("it is answered"), body);
                }
            })
        })
        .collect();
    for task in tasks {
        task.join().await;
    }
    pair.end().await;
}

/// Peers that come and go while others call: the calls of those that stay succeed, and nothing is left behind.
pub async fn coming_and_going(rig: Rig) {
    let binder = rig.builder().handle("echo", |n: Value, _| async move { HandlerResult::Ok(n) });
    let pair = rig.pair(binder, rig.builder()).await;
    let endpoint = pair.binder.endpoints().remove(0);
    let steady = rig.spawn({
        let peer = pair.peer().clone();
        async move {
            for n in 0..500 {
                assert_eq!(peer.invoke::<_, Value>("echo", &n).await.expect("it stays"), n);
            }
        }
    });
    for _ in 0..10 {
        let passing: Vec<_> = (0..8).map(|_| rig.connect(rig.builder(), &endpoint)).collect();
        for (n, (connector, driver)) in passing.into_iter().enumerate() {
            let answer: Value = connector.peer().invoke("echo", &n).await.expect("the binder answers");
            assert_eq!(answer, n);
            driver.cut().await;
        }
    }
    steady.join().await;
    rig.peers(&pair.binder, 1).await;
    pair.end().await;
}
