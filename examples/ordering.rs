//! What calls with the same key owe each other, in each of the three modes.
//!
//! `cargo run -p callosum-examples --example ordering`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use callosum_tokio::{Builder, Context, HandlerResult, Invocation, OrderingMode, Peer, builder};
use futures_util::FutureExt;
use parking_lot::Mutex;

/// What the handlers did, in the order in which they did it.
type Log = Arc<Mutex<Vec<&'static str>>>;

const TIMEOUT: Duration = Duration::from_secs(5);

/// "stop" takes until the gate is opened; "delete" and "status" are done at once.
fn service(log: &Log, gate: Receiver<()>) -> Builder {
    let (stops, deletes) = (log.clone(), log.clone());
    let stop = move |(): (), _: Context| {
        let (log, gate) = (stops.clone(), gate.clone());
        async move {
            log.lock().push("stop begins");
            gate.recv().await?;
            log.lock().push("stop is done");
            HandlerResult::Ok(())
        }
    };
    let delete = move |(): (), _: Context| {
        let log = deletes.clone();
        async move {
            log.lock().push("delete is done");
            HandlerResult::Ok(())
        }
    };
    let status = |(): (), _: Context| async { HandlerResult::Ok(()) };
    builder().handle("stop", stop).handle("delete", delete).handle("status", status)
}

/// Stops and deletes one container, and asks for the status of another meanwhile.
async fn show(mode: OrderingMode) -> Result<(), Box<dyn Error>> {
    let log = Log::default();
    let (open, gate) = async_channel::bounded(1);
    let (manager, driver) = service(&log, gate).ordering(mode).bind("tcp://127.0.0.1:0").await?;
    let serving = tokio::spawn(driver);
    let (connector, driver) = builder().call_timeout(TIMEOUT).connect(&manager.endpoints()[0])?;
    let calling = tokio::spawn(driver);
    let peer = connector.peer();

    // `into_future` makes a call: these leave in this order, whichever is awaited first.
    let mut stop = call(peer, "stop", "container-1").into_future();
    let mut delete = call(peer, "delete", "container-1").into_future();

    // Another key is not held up by a container that takes its time, in any mode.
    call(peer, "status", "container-2").await?;
    assert!((&mut stop).now_or_never().is_none(), "stop waits for its gate");

    if mode == OrderingMode::Unordered {
        // Deleted before it was stopped, and the caller knows.
        (&mut delete).await?;
        assert!((&mut stop).now_or_never().is_none());
        assert!(!log.lock().contains(&"stop is done"));
        open.send(()).await?;
        stop.await?;
    } else {
        assert!((&mut delete).now_or_never().is_none(), "its reply comes after that of stop");
        open.send(()).await?;
        delete.await?;
        assert!((&mut stop).now_or_never().is_some(), "by now the reply of stop is here");
    }
    if mode == OrderingMode::KeySerialized {
        // The container was stopped before the other handler even began.
        assert_eq!(*log.lock(), ["stop begins", "stop is done", "delete is done"]);
    }
    println!("{mode:?}: {}", log.lock().join(", "));

    connector.shutdown(TIMEOUT).await;
    manager.shutdown(TIMEOUT).await;
    calling.await??;
    serving.await??;
    Ok(())
}

fn call(peer: &Peer, method: &str, key: &str) -> Invocation<()> {
    peer.invoke(method, &()).key(key)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    show(OrderingMode::Unordered).await?;
    // The default: handlers run side by side, and replies of one key come in the order of the calls.
    show(OrderingMode::ExitOrdered).await?;
    show(OrderingMode::KeySerialized).await
}
