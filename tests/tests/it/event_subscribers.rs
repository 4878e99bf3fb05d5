//! Subscribers to an endpoint's events that outlive it.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use callosum_tokio::{Event, builder};
use futures_util::StreamExt;

/// Only a safety net against hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// The events that were not read hold the last handles to the endpoint.
#[test]
fn a_subscriber_is_dropped_last() {
    let (done, ended) = mpsc::channel();
    let test = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let mut events = Vec::new();
        runtime.block_on(async {
            let (binder, driver) = builder().bind("inproc://dropped last").await.unwrap();
            let server = tokio::spawn(driver);
            events = vec![binder.events(), binder.events()];
            let (connector, driver) = builder().connect(&binder.endpoints()[0]).unwrap();
            let client = tokio::spawn(driver);
            connector.peer().ready().await.unwrap();
            connector.shutdown(PATIENCE).await;
            client.await.unwrap().unwrap();
            binder.shutdown(PATIENCE).await;
            server.await.unwrap().unwrap();
            assert!(binder.events().next().await.is_none(), "nothing happens any more");
        });
        let read: Vec<_> = runtime.block_on(events.remove(0).collect());
        assert!(
            matches!(read[..], [Event::Connected(_), Event::Draining { .. }, Event::Disconnected { .. }]),
            "{read:?}"
        );
        drop(read);
        drop(events);
        done.send(()).unwrap();
    });
    match ended.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("dropping the subscriber hangs"),
        _ => test.join().unwrap(),
    }
}
