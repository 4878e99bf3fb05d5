//! An agent: runs containers for its manager, and opens tunnels to services beside it.

use std::time::Duration;

use callosum_tokio::auth::CurveClient;
use callosum_tokio::service::ServiceError;
use callosum_tokio::{OrderingMode, builder};
use callosum_tunnel::{RuleSet, ServerSettings, TunnelServer};
use tokio::time::sleep;

use crate::Failure;
use crate::api::{ClusterError, Containers, FleetClient, HEARTBEAT};
use crate::containers::Local;

/// How long the manager may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until it is dropped. `rules` is the file that says which services its tunnels may reach.
pub(crate) async fn run(manager: &str, security: CurveClient, rules: &str) -> Result<(), Failure> {
    let builder = builder()
        .authenticator(security)
        .call_timeout(TIMEOUT)
        // What is called with one key runs one after the other: first `stop`, then `delete`.
        .ordering(OrderingMode::KeySerialized)
        .serve(Local::default().into_service());
    // CURVE has proved the manager's key, but a client gives its server no user: the rules know it as `manager`.
    let rules = RuleSet::open(rules)?.anonymous("manager");
    let (tunnels, follow_rules) = TunnelServer::new(builder.runtime(), rules, ServerSettings::default());
    let (connector, driver) = tunnels.add_to(builder).connect(manager)?;
    let manager = FleetClient::new(connector.peer().clone());
    // Nothing outlives these futures: when one ends, everything under the others does.
    tokio::select! {
        ended = driver => Ok(ended?),
        () = follow_rules => Ok(()),
        error = stay_registered(&manager) => Err(error.into()),
    }
}

/// Sends heartbeats, and registers where the manager asks for it: at first, and when that was started again. An agent waits for its manager
/// for as long as it takes: until it is up, knows this agent's key, or answers. Waiting does not help against a key that is not one of an
/// agent, which is the end.
async fn stay_registered(manager: &FleetClient) -> ClusterError {
    loop {
        let told = match manager.heartbeat().await {
            Err(ServiceError::Failed(ClusterError::NotRegistered)) => manager.register().await,
            told => told,
        };
        match told {
            Err(ServiceError::Failed(error @ ClusterError::Forbidden(_))) => return error,
            Err(error) => eprintln!("the manager does not take heartbeats: {error}"),
            Ok(()) => {}
        }
        sleep(HEARTBEAT).await;
    }
}
