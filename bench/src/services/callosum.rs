//! With Callosum. Calls for a container are ordered, and the server could call the client back.

use anyhow::{Result, bail};
use callosum_tokio::{BodyReader, builder, service, service::ServiceError};
use futures::{Stream, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{Node, Seen, pieces};

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum AgentError {
    #[error("there is no image {image}")]
    NoSuchImage { image: String },
    #[error("the image is incomplete")]
    Incomplete,
}

#[service]
trait Agent {
    #[method(key = container)]
    async fn start(&self, container: String, image: String) -> Result<u64, AgentError>;
    async fn logs(&self, container: String) -> Result<impl Stream<Item = String>, AgentError>;
    async fn upload(&self, image: String, data: impl Stream<Item = bytes::Bytes>) -> Result<u64, AgentError>;
}

impl Agent for Node {
    async fn start(&self, _: String, image: String) -> Result<u64, AgentError> {
        Node::start(self, &image).ok_or(AgentError::NoSuchImage { image })
    }

    async fn logs(&self, container: String) -> Result<impl Stream<Item = String>, AgentError> {
        Ok(stream::iter(self.log(&container)))
    }

    async fn upload(&self, image: String, mut data: BodyReader) -> Result<u64, AgentError> {
        let mut size = 0;
        while let Some(piece) = data.try_next().await.map_err(|_| AgentError::Incomplete)? {
            size = self.append(&image, &piece);
        }
        Ok(size)
    }
}

/// Serves, and calls all of it.
///
/// # Errors
/// Something is not as it should be.
pub async fn run() -> Result<Seen> {
    let (binder, driver) = builder().serve(Node::default().into_service()).bind("tcp://127.0.0.1:0").await?;
    tokio::spawn(driver);
    let (connector, driver) = builder().connect(&binder.endpoints()[0])?;
    tokio::spawn(driver);
    let agent = AgentClient::new(connector.peer().clone());
    let missing = match agent.start("web".into(), "nginx".into()).await {
        Err(ServiceError::Failed(AgentError::NoSuchImage { image })) => image,
        other => bail!("{other:?}"),
    };
    let uploaded = agent.upload(missing.clone(), stream::iter(pieces())).await?;
    let started = agent.start("web".into(), "nginx".into()).await?;
    let log = agent.logs("web".into()).await?.try_collect().await?;
    Ok(Seen { missing, uploaded, started, log })
}
