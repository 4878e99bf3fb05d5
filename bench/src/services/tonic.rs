//! With tonic. An error's data are bytes in a status; the first piece of an image says which it is.

use anyhow::{Result, bail};
use futures::{TryStreamExt as _, stream};
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use self::generated::{
    Line, LogsRequest, NoSuchImage, Piece, Size, StartRequest,
    agent_client::AgentClient,
    agent_server::{Agent, AgentServer},
};
use super::{Node, Seen, pieces};

#[allow(missing_docs, unreachable_pub, reason = "it is generated")]
mod generated {
    tonic::include_proto!("agent");
}

#[tonic::async_trait]
impl Agent for Node {
    type LogsStream = stream::Iter<std::vec::IntoIter<Result<Line, Status>>>;

    async fn start(&self, request: Request<StartRequest>) -> Result<Response<Size>, Status> {
        let StartRequest { image, .. } = request.into_inner();
        match Node::start(self, &image) {
            Some(bytes) => Ok(Response::new(Size { bytes })),
            None => {
                let text = format!("there is no image {image}");
                let details = NoSuchImage { image }.encode_to_vec();
                Err(Status::with_details(Code::NotFound, text, details.into()))
            }
        }
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let lines = self.log(&request.into_inner().container).into_iter().map(|text| Ok(Line { text }));
        Ok(Response::new(stream::iter(lines.collect::<Vec<_>>())))
    }

    async fn upload(&self, request: Request<Streaming<Piece>>) -> Result<Response<Size>, Status> {
        let (mut pieces, mut name, mut bytes) = (request.into_inner(), String::new(), 0);
        while let Some(Piece { image, data }) = pieces.message().await? {
            if !image.is_empty() {
                name = image;
            }
            bytes = self.append(&name, &data);
        }
        Ok(Response::new(Size { bytes }))
    }
}

/// Serves, and calls all of it.
///
/// # Errors
/// Something is not as it should be.
pub async fn run() -> Result<Seen> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder().add_service(AgentServer::new(Node::default()));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let mut agent = AgentClient::connect(format!("http://{address}")).await?;
    let start = StartRequest { container: "web".into(), image: "nginx".into() };
    let missing = match agent.start(start.clone()).await {
        Err(status) if status.code() == Code::NotFound => NoSuchImage::decode(status.details())?.image,
        other => bail!("{other:?}"),
    };
    let name = [missing.clone()].into_iter().chain(std::iter::repeat(String::new()));
    let pieces = pieces().zip(name).map(|(data, image)| Piece { image, data: data.into() });
    let uploaded = agent.upload(stream::iter(pieces)).await?.into_inner().bytes;
    let started = agent.start(start).await?.into_inner().bytes;
    let lines = agent.logs(LogsRequest { container: "web".into() }).await?.into_inner();
    let log = lines.map_ok(|line| line.text).try_collect().await?;
    Ok(Seen { missing, uploaded, started, log })
}
