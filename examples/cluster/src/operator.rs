//! An operator: the tour. It calls the manager, which calls the agents.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_tokio::auth::CurveClient;
use callosum_tokio::builder;
use callosum_tokio::service::ServiceError;
use futures_util::future::try_join;
use futures_util::{StreamExt, stream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::api::{ClusterError, ContainersClient, FleetClient};

/// How long the manager may take, with what it asks of an agent.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Does everything once, and says so.
pub(crate) async fn tour(
    manager: &str,
    security: CurveClient,
    node: &str,
    image_file: &str,
    service: &str,
) -> Result<(), Failure> {
    let (connector, driver) = builder().authenticator(security).call_timeout(TIMEOUT).connect(manager)?;
    let driving = tokio::spawn(driver);
    let fleet = FleetClient::new(connector.peer().clone());
    let containers = ContainersClient::new(connector.peer().clone());
    let web = format!("{node}/web");

    let deadline = Instant::now() + TIMEOUT;
    while !fleet.nodes().await?.iter().any(|name| name == node) {
        if Instant::now() > deadline {
            return Err(format!("{node} has not registered").into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    println!("{node} is there");

    // An error is a value, and this one says what to do about it.
    if let Err(error) = containers.start(web.clone(), "hello".into()).await {
        let ServiceError::Failed(ClusterError::NoSuchImage(image)) = error else { return Err(error.into()) };
        // In chunks, which hold up no other call.
        let file = Bytes::from(std::fs::read(image_file)?);
        println!("uploaded {image}: {} bytes", fleet.upload(image.clone(), stream::iter([file])).await?);
        containers.start(web.clone(), image).await?;
    }
    println!("started {web}");

    // From here on, its lines wait for this side to read them.
    let mut log = containers.logs(web.clone()).await?;
    // Both at once: they have the same key, so that the agent has stopped it before it deletes it.
    let (stop, delete) = (containers.stop(web.clone()), containers.delete(web.clone()));
    try_join(stop.into_future(), delete.into_future()).await?;
    println!("stopped and deleted {web}");
    while let Some(line) = log.next().await {
        println!("{web}: {}", line??);
    }

    // A service beside the agent, through the manager and the agent's connection.
    let address = fleet.forward(node.into(), service.into()).await?;
    let mut said = String::new();
    let mut connection = TcpStream::connect(address).await?.take(1_024);
    timeout(TIMEOUT, connection.read_to_string(&mut said)).await??;
    println!("the service says {said:?}");

    connector.shutdown(Duration::from_secs(1)).await;
    Ok(driving.await??)
}
