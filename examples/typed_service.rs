//! A typed service: a trait, a client that is made of it, and errors that come back as the values that they were.
//!
//! `cargo run -p callosum-examples --example typed_service`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use callosum_tokio::service::ServiceError;
use callosum_tokio::{BodyReader, Context, builder, service};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Container {
    name: String,
    image: String,
}

/// A Python caller sees an `RPCUserError` with the name of the variant and this text.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum AgentError {
    #[error("there is no image {image}")]
    NoSuchImage { image: String },
    #[error("the image is incomplete")]
    Interrupted,
}

#[service]
trait Agent {
    /// Starts a container. Calls for the same container are ordered.
    #[method(key = container)]
    async fn start(&self, container: String, image: String) -> Result<Container, AgentError>;

    /// Its log, line by line.
    async fn logs(&self, container: String) -> Result<impl Stream<Item = String>, AgentError>;

    /// Stores an image; returns its size in bytes.
    async fn upload(
        &self,
        context: &Context,
        name: String,
        data: impl Stream<Item = Bytes>,
    ) -> Result<u64, AgentError>;
}

/// Sizes of images by their names.
#[derive(Default)]
struct Docker(Mutex<BTreeMap<String, u64>>);

impl Agent for Docker {
    async fn start(&self, container: String, image: String) -> Result<Container, AgentError> {
        match self.0.lock().contains_key(&image) {
            true => Ok(Container { name: container, image }),
            false => Err(AgentError::NoSuchImage { image }),
        }
    }

    async fn logs(&self, container: String) -> Result<impl Stream<Item = String>, AgentError> {
        Ok(stream::iter(1..=3).map(move |n| format!("{container}: line {n}")))
    }

    async fn upload(&self, context: &Context, name: String, data: BodyReader) -> Result<u64, AgentError> {
        println!("{} uploads {name}", context.peer().id());
        let sizes = data.map_ok(|bytes| bytes.len() as u64);
        let size = sizes.try_fold(0, |sum, size| async move { Ok(sum + size) }).await;
        let size = size.map_err(|_| AgentError::Interrupted)?;
        self.0.lock().insert(name, size);
        Ok(size)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Docker::default().into_service();
    let (binder, driver) = builder().serve(service).bind("tcp://127.0.0.1:0").await?;
    let serving = tokio::spawn(driver);
    let (connector, driver) = builder().connect(&binder.endpoints()[0])?;
    let calling = tokio::spawn(driver);
    let agent = AgentClient::new(connector.peer().clone());

    // The error is a value, and this one says what to do about it.
    let image = match agent.start("web".into(), "nginx".into()).timeout(TIMEOUT).await {
        Err(ServiceError::Failed(AgentError::NoSuchImage { image })) => image,
        other => return Err(format!("there is no image yet: {other:?}").into()),
    };
    let layers = stream::repeat(Bytes::from(vec![7; 64 * 1024])).take(10);
    assert_eq!(agent.upload(image, layers).timeout(TIMEOUT).await?, 655_360);
    let container = agent.start("web".into(), "nginx".into()).timeout(TIMEOUT).await?;
    println!("{} runs {}", container.name, container.image);

    let mut lines = agent.logs(container.name).timeout(TIMEOUT).await?;
    let mut read = 0;
    while let Some(line) = lines.next().await {
        println!("{}", line?);
        read += 1;
    }
    assert_eq!(read, 3);

    connector.shutdown(TIMEOUT).await;
    binder.shutdown(TIMEOUT).await;
    calling.await??;
    serving.await??;
    Ok(())
}
