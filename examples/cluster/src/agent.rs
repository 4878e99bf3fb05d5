//! An agent: runs containers for its manager, and opens tunnels to services beside it.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use callosum_tokio::auth::CurveClient;
use callosum_tokio::service::ServiceError;
use callosum_tokio::{OrderingMode, builder};
use callosum_tunnel::{RuleSet, ServerSettings, TunnelServer};

use crate::api::{ClusterError, Containers, FleetClient};
use crate::containers::Local;

/// How long the manager may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before it registers again.
const RETRY: Duration = Duration::from_secs(1);

/// Serves until it is dropped. `rules` is the file that says which services its tunnels may reach.
pub(crate) async fn run(
    manager: &str,
    security: CurveClient,
    rules: &str,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let builder = builder()
        .authenticator(security)
        // What is called with one key runs one after the other: first `stop`, then `delete`.
        .ordering(OrderingMode::KeySerialized)
        .serve(Local::default().into_service());
    // CURVE has proved whom this side connects to, which is admitted as nobody: the rules know it as the manager.
    let rules = RuleSet::open(rules)?.anonymous("manager");
    let (tunnels, follow_rules) = TunnelServer::new(builder.runtime(), rules, ServerSettings::default());
    let (connector, driver) = tunnels.add_to(builder).connect(manager)?;
    let manager = FleetClient::new(connector.peer().clone());
    // An agent is there for its manager, and waits for it for as long as it takes: until it is up, knows this agent's key, or answers.
    // What waiting does not help against is the end: a key that is not one of an agent.
    let refused = async {
        loop {
            match heartbeats(&manager).await {
                Err(ServiceError::Failed(error @ ClusterError::Forbidden(_))) => return error,
                Err(error) => eprintln!("registering again: {error}"),
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    // Nothing outlives these futures: when one ends, everything under the others does.
    tokio::select! {
        ended = driver => Ok(ended?),
        () = follow_rules => Ok(()),
        error = refused => Err(error.into()),
    }
}

/// Registers with the manager, and sends heartbeats until it does not answer, or does not know this agent any more. Calls wait for the
/// link while the connector tries to connect again.
async fn heartbeats(manager: &FleetClient) -> Result<Infallible, ServiceError<ClusterError>> {
    let every = Duration::from_millis(manager.register().timeout(TIMEOUT).await?);
    loop {
        manager.heartbeat().timeout(TIMEOUT).await?;
        tokio::time::sleep(every).await;
    }
}
