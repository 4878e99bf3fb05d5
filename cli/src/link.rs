//! One connection to a server, for one command.

use std::time::Duration;

use callosum_runtime::{Peer, Reconnect};
use futures_util::future::join;

use crate::executor::Executor;
use crate::exit::Failure;
use crate::server::Server;
use crate::signals::Signals;

/// How long the last words, such as a cancellation, may take to reach the socket.
const PARTING: Duration = Duration::from_secs(1);

/// Connects, for which there is so much time, and does the work. A signal drops it, which cancels its calls.
pub(crate) async fn with_peer<T>(
    executor: Executor,
    server: &Server,
    timeout: Duration,
    work: impl AsyncFnOnce(&Peer) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let endpoint = &server.endpoint;
    let mut signals = Signals::listen()?;
    let builder = server.secure(executor.builder())?;
    let (connector, driver) = builder.reconnect(Reconnect::Never).connect(endpoint)?;
    let (_, result) = join(driver, async {
        let working = async {
            match executor.within(timeout, connector.peer().ready()).await {
                Some(Ok(())) => work(connector.peer()).await,
                Some(Err(cause)) => Err(Failure::no_link(endpoint, cause)),
                None => Err(Failure::no_answer(endpoint)),
            }
        };
        let result = signals.unless(working).await;
        // The shutdown makes sure that a cancellation reaches the socket.
        connector.shutdown(PARTING).await;
        result.unwrap_or(Err(Failure::Cancelled))
    })
    .await;
    result.map_err(|failure| failure.towards(endpoint))
}
