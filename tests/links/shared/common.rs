//! What the tests of message links share. Included beside them.

use bytes::Bytes;
use futures_util::StreamExt;

use crate::callosum::{Context, DisconnectCause, Driver, DriverError, Event, Events, HandlerResult, Peer};
use crate::spawn;

pub(crate) async fn echo(body: Bytes, _context: Context) -> HandlerResult<Bytes> {
    Ok(body)
}

pub(crate) async fn for_ever(_body: Bytes, _context: Context) -> HandlerResult<Bytes> {
    std::future::pending().await
}

/// How a driver ends.
pub(crate) type Ending = futures_channel::oneshot::Receiver<Result<(), DriverError>>;

/// Runs a driver.
pub(crate) fn drive(driver: Driver) -> Ending {
    let (tell, ending) = futures_channel::oneshot::channel();
    spawn(async {
        // Nobody may want to know.
        let _ = tell.send(driver.await);
    });
    ending
}

pub(crate) async fn connected(events: &mut Events) -> Peer {
    loop {
        if let Event::Connected(peer) = events.next().await.expect("the endpoint lives") {
            return peer;
        }
    }
}

pub(crate) async fn disconnected(events: &mut Events) -> DisconnectCause {
    loop {
        if let Event::Disconnected { cause, .. } = events.next().await.expect("the endpoint lives") {
            return cause;
        }
    }
}
