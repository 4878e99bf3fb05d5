//! A Protocol Buffers service: a trait, a client, and statuses with details, made of `proto/agent.proto` by `build.rs`.
//!
//! `cargo run -p callosum-examples --example protobuf`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use callosum_protobuf::{Request, Response, Status, Streaming};
use callosum_tokio::builder;
use futures_util::{Stream, TryStreamExt, stream};
use parking_lot::Mutex;

use agent::{
    Agent, AgentClient, Command, Container, Image, LogLine, LogsRequest, NoSuchImage, Output, Piece,
    StartRequest,
};

#[allow(unreachable_pub, reason = "what is generated may be for other crates")]
mod agent {
    callosum_protobuf::include_proto!("agent.v1");
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// Sizes of images by their names.
#[derive(Default)]
struct Docker(Mutex<BTreeMap<String, u64>>);

impl Agent for Docker {
    async fn start(&self, request: Request<StartRequest>) -> Result<Response<Container>, Status> {
        println!("{} starts a container", request.context().peer().id());
        let StartRequest { container, image } = request.into_inner();
        match self.0.lock().contains_key(&image) {
            true => Ok(Response::new(Container { name: container, image })),
            false => Err(Status::not_found("there is no such image").with_detail(&NoSuchImage { image })),
        }
    }

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<impl Stream<Item = Result<LogLine, Status>>>, Status> {
        let container = request.into_inner().container;
        let line = move |n| Ok(LogLine { text: format!("{container}: line {n}") });
        Ok(Response::new(stream::iter((1..=3).map(line))))
    }

    async fn upload(&self, request: Request<Streaming<Piece>>) -> Result<Response<Image>, Status> {
        let mut pieces = request.into_inner();
        let mut image = Image::default();
        while let Some(piece) = pieces.message().await? {
            if image.name.is_empty() {
                image.name = piece.image;
            }
            image.bytes += piece.data.len() as u64;
        }
        self.0.lock().insert(image.name.clone(), image.bytes);
        Ok(image.into())
    }

    async fn shell(
        &self,
        request: Request<Streaming<Command>>,
    ) -> Result<Response<impl Stream<Item = Result<Output, Status>>>, Status> {
        let run = |command: Command| Output { text: format!("done: {}", command.line) };
        Ok(request.into_inner().map_ok(run).into())
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

    let request = StartRequest { container: "web".into(), image: "nginx".into() };
    let status = match agent.start(&request).key("web").timeout(TIMEOUT).await {
        Ok(container) => return Err(format!("{} runs without its image", container.name).into()),
        Err(status) => status,
    };
    // The detail is a message, and this one says what to do about it.
    let NoSuchImage { image } = status.detail().ok_or(status)?;

    let pieces = stream::iter(vec![Piece { image, data: vec![7; 64 * 1024] }; 10]);
    let image = agent.upload(pieces).timeout(TIMEOUT).await?;
    assert_eq!((&*image.name, image.bytes), ("nginx", 655_360));
    let container = agent.start(&request).key("web").timeout(TIMEOUT).await?;
    println!("{} runs {}", container.name, container.image);

    let mut lines = agent.logs(&LogsRequest { container: container.name }).timeout(TIMEOUT).await?;
    let mut read = 0;
    while let Some(line) = lines.message().await? {
        println!("{}", line.text);
        read += 1;
    }
    assert_eq!(read, 3);

    let commands = ["ls", "ps"].map(|line| Command { line: line.into() });
    let outputs: Vec<Output> =
        agent.shell(stream::iter(commands)).timeout(TIMEOUT).await?.try_collect().await?;
    assert_eq!(outputs[1].text, "done: ps");

    connector.shutdown(TIMEOUT).await;
    binder.shutdown(TIMEOUT).await;
    calling.await??;
    serving.await??;
    Ok(())
}
