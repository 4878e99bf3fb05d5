//! With jsonrpsee. A log is a subscription, whose end is an item; an image is sent in parts, each a call of its own.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use jsonrpsee::{
    PendingSubscriptionSink,
    core::{ClientError, RpcResult, SubscriptionResult, async_trait},
    proc_macros::rpc,
    server::Server,
    types::ErrorObjectOwned,
};
use jsonrpsee_ws_client::WsClientBuilder;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use super::{Node, Seen, pieces};

const NO_SUCH_IMAGE: i32 = 1;

#[derive(Serialize, Deserialize)]
struct NoSuchImage {
    image: String,
}

#[rpc(server, client)]
trait Agent {
    #[method(name = "start")]
    async fn start(&self, container: String, image: String) -> RpcResult<u64>;
    #[subscription(name = "subscribe_logs", item = Option<String>)]
    async fn logs(&self, container: String) -> SubscriptionResult;
    #[method(name = "upload")]
    async fn upload(&self, image: String, piece: Vec<u8>) -> RpcResult<u64>;
}

#[async_trait]
impl AgentServer for Arc<Node> {
    async fn start(&self, _: String, image: String) -> RpcResult<u64> {
        Node::start(self, &image).ok_or_else(|| {
            let text = format!("there is no image {image}");
            ErrorObjectOwned::owned(NO_SUCH_IMAGE, text, Some(NoSuchImage { image }))
        })
    }

    async fn logs(&self, pending: PendingSubscriptionSink, container: String) -> SubscriptionResult {
        let sink = pending.accept().await?;
        for line in self.log(&container).into_iter().map(Some).chain([None]) {
            sink.send(to_raw_value(&line)?).await?;
        }
        Ok(())
    }

    async fn upload(&self, image: String, piece: Vec<u8>) -> RpcResult<u64> {
        Ok(self.append(&image, &piece))
    }
}

/// Serves, and calls all of it.
///
/// # Errors
/// Something is not as it should be.
pub async fn run() -> Result<Seen> {
    let server = Server::builder().build("127.0.0.1:0").await?;
    let address = server.local_addr()?;
    let _serving = server.start(Arc::<Node>::default().into_rpc());
    let agent = WsClientBuilder::default().build(format!("ws://{address}")).await?;
    let missing = match agent.start("web".into(), "nginx".into()).await {
        Err(ClientError::Call(error)) if error.code() == NO_SUCH_IMAGE => {
            let data = error.data().context("the error has data")?;
            serde_json::from_str::<NoSuchImage>(data.get())?.image
        }
        other => bail!("{other:?}"),
    };
    let mut uploaded = 0;
    for piece in pieces() {
        uploaded = agent.upload(missing.clone(), piece.into()).await?;
    }
    let started = agent.start("web".into(), "nginx".into()).await?;
    let mut log = Vec::new();
    let mut lines = agent.logs("web".into()).await?;
    while let Some(Some(line)) = lines.next().await.transpose()? {
        log.push(line);
    }
    Ok(Seen { missing, uploaded, started, log })
}
