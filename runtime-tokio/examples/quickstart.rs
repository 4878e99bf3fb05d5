//! A server, a client and one call, over loopback TCP.
//!
//! `cargo run -p callosum-tokio --example quickstart`

use std::time::Duration;

use callosum_tokio::{Context, HandlerResult, builder};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (binder, driver) = builder()
        .handle("add", |args: Add, _context: Context| async move { HandlerResult::Ok(args.a + args.b) })
        .bind("tcp://127.0.0.1:0")
        .await?;
    let server = tokio::spawn(driver);

    let (connector, driver) = builder().connect(&binder.endpoints()[0])?;
    let client = tokio::spawn(driver);
    let sum: i64 =
        connector.peer().invoke("add", &Add { a: 2, b: 40 }).timeout(Duration::from_secs(5)).await?;
    println!("2 + 40 = {sum}");
    assert_eq!(sum, 42);

    connector.shutdown(Duration::from_secs(1)).await;
    binder.shutdown(Duration::from_secs(1)).await;
    client.await??;
    server.await??;
    Ok(())
}
