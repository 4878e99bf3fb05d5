//! A server, a client and one call, over loopback TCP.
//!
//! `cargo run -p callosum-examples --example quickstart`

use std::error::Error;
use std::time::Duration;

use callosum_tokio::{Context, HandlerResult, builder};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

/// A handler takes the argument, and a context that knows the caller. Any error may leave it with `?`.
async fn add(args: Add, _context: Context) -> HandlerResult<i64> {
    Ok(args.a + args.b)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // An endpoint is a handle and a driver. Nothing happens unless the driver is awaited or spawned.
    // Port 0 lets the system choose one; `endpoints` tells which.
    let (binder, driver) = builder().handle("add", add).bind("tcp://127.0.0.1:0").await?;
    let server = tokio::spawn(driver);

    let (connector, driver) = builder().connect(&binder.endpoints()[0])?;
    let client = tokio::spawn(driver);

    // The call waits for the connection, then for its reply, for five seconds together.
    let sum: i64 =
        connector.peer().invoke("add", &Add { a: 2, b: 40 }).timeout(Duration::from_secs(5)).await?;
    println!("2 + 40 = {sum}");
    assert_eq!(sum, 42);

    // A shutdown lets what is under way finish, for up to a second here. Then the drivers end.
    connector.shutdown(Duration::from_secs(1)).await;
    binder.shutdown(Duration::from_secs(1)).await;
    client.await??;
    server.await??;
    Ok(())
}
