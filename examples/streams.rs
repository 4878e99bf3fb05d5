//! A log that is followed while it is written, and an upload in constant memory.
//!
//! `cargo run -p callosum-examples --example streams`

use std::error::Error;
use std::time::Duration;

use callosum_tokio::{BodyReader, Context, HandlerResult, Metadata, Responder, Urgency, builder};
use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A result of typed items, which are sent as they come to be.
async fn follow(container: BodyReader, responder: Responder, context: Context) -> HandlerResult<()> {
    let container: String = context.codec().decode(&container.collect().await?)?;
    let mut lines = responder.begin().await?;
    for n in 1..=3 {
        lines.write_item(&format!("{container}: line {n}")).await?;
    }
    // The caller has read them all, not only received them.
    lines.finish()?;
    lines.acknowledged().await?;
    Ok(())
}

/// An argument of any size, of which no more is held than a window.
async fn store(mut file: BodyReader, responder: Responder, context: Context) -> HandlerResult<()> {
    let name = context.metadata().get("name").cloned().unwrap_or_default();
    let (mut buffer, mut total) = (vec![0; 64 * 1024], 0_u64);
    loop {
        match file.read(&mut buffer).await? {
            0 => break,
            n => total += n as u64,
        }
    }
    println!("{} has {total} bytes", String::from_utf8_lossy(&name));
    responder.begin().await?.write_item(&total).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = builder().handle_stream("follow", follow).handle_stream("store", store);
    let (binder, driver) = service.bind("tcp://127.0.0.1:0").await?;
    let serving = tokio::spawn(driver);
    let (connector, driver) = builder().connect(&binder.endpoints()[0])?;
    let calling = tokio::spawn(driver);
    let peer = connector.peer();

    // A whole argument, and a result that comes as a stream.
    let answer = peer.open("follow").timeout(TIMEOUT).send("nginx")?.await?;
    let mut lines = answer.body.items::<String>();
    let mut read = 0;
    while let Some(line) = lines.next().await {
        println!("{}", line?);
        read += 1;
    }
    assert_eq!(read, 3);

    // The other way round. While the file is on its way, small calls go between its pieces.
    let mut metadata = Metadata::new();
    metadata.insert("name", "image.tar")?;
    let (mut file, answer) = peer.open("store").metadata(metadata).urgency(Urgency::LEAST).stream()?;
    let piece = vec![7; 64 * 1024];
    for _ in 0..100 {
        file.write_all(&piece).await?;
    }
    file.close().await?;
    let mut stored = answer.await?.body.items::<u64>();
    assert_eq!(stored.next().await.transpose()?, Some(6_553_600));
    drop(stored);

    connector.shutdown(TIMEOUT).await;
    binder.shutdown(TIMEOUT).await;
    calling.await??;
    serving.await??;
    Ok(())
}
