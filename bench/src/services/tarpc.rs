//! With tarpc. It has no streams: a log is asked for in parts, and an image sent in parts, each a call of its own.

use std::sync::Arc;

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::{StreamExt as _, future};
use serde::{Deserialize, Serialize};
use tarpc::{
    client,
    context::{self, Context},
    serde_transport::tcp,
    server::{BaseChannel, Channel as _},
    tokio_serde::formats::Bincode,
};

use super::{Node, Seen, pieces};

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum AgentError {
    #[error("there is no image {image}")]
    NoSuchImage { image: String },
}

#[tarpc::service]
trait Agent {
    async fn start(container: String, image: String) -> Result<u64, AgentError>;
    async fn logs(container: String, from: usize) -> Vec<String>;
    async fn upload(image: String, piece: Bytes) -> u64;
}

#[derive(Clone)]
struct Server(Arc<Node>);

impl Agent for Server {
    async fn start(self, _: Context, _: String, image: String) -> Result<u64, AgentError> {
        self.0.start(&image).ok_or(AgentError::NoSuchImage { image })
    }

    async fn logs(self, _: Context, container: String, from: usize) -> Vec<String> {
        self.0.log(&container).into_iter().skip(from).take(2).collect()
    }

    async fn upload(self, _: Context, image: String, piece: Bytes) -> u64 {
        self.0.append(&image, &piece)
    }
}

/// Serves, and calls all of it.
///
/// # Errors
/// Something is not as it should be.
pub async fn run() -> Result<Seen> {
    let server = Server(Arc::default());
    let listener = tcp::listen("127.0.0.1:0", Bincode::default).await?;
    let address = listener.local_addr();
    tokio::spawn(listener.filter_map(|accepted| future::ready(accepted.ok())).for_each(move |transport| {
        let requests = BaseChannel::with_defaults(transport).execute(server.clone().serve());
        tokio::spawn(requests.for_each(async |request| {
            tokio::spawn(request);
        }));
        future::ready(())
    }));
    let transport = tcp::connect(address, Bincode::default).await?;
    let agent = AgentClient::new(client::Config::default(), transport).spawn();
    let missing = match agent.start(context::current(), "web".into(), "nginx".into()).await? {
        Err(AgentError::NoSuchImage { image }) => image,
        Ok(size) => bail!("{size}"),
    };
    let mut uploaded = 0;
    for piece in pieces() {
        uploaded = agent.upload(context::current(), missing.clone(), piece).await?;
    }
    let started = agent.start(context::current(), "web".into(), "nginx".into()).await??;
    let mut log = Vec::new();
    loop {
        let more = agent.logs(context::current(), "web".into(), log.len()).await?;
        if more.is_empty() {
            break;
        }
        log.extend(more);
    }
    Ok(Seen { missing, uploaded, started, log })
}
