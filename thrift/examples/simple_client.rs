//! Calls a server of `simple.thrift`. The counterpart of Python Callosum's `simple-client-thrift.py`.
//!
//! `cargo run -p callosum-thrift-examples --example simple_client [ENDPOINT]`

use std::error::Error;
use std::time::Duration;

use callosum_thrift::ThriftError;
use callosum_thrift_examples::simple::SimpleServiceClient;
use callosum_thrift_examples::{ALIAS, ENDPOINT};
use callosum_tokio::{CallError, builder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| ENDPOINT.into());
    let (connector, driver) = builder().call_timeout(Duration::from_secs(2)).connect(endpoint.as_str())?;
    let calling = tokio::spawn(driver);
    let simple = SimpleServiceClient::new(connector.peer().clone(), ALIAS);

    let echoed = simple.echo("größe").await?;
    println!("echoed {echoed}");
    let sum = simple.add(2, 40).key("sums").await?;
    println!("2 + 40 = {sum}");
    assert_eq!((&*echoed, sum), ("größe", 42));

    match simple.oops().await {
        Err(ThriftError::Call(CallError::Remote(info))) => {
            println!("failed as expected: {}: {}", info.name, info.repr)
        }
        other => return Err(format!("it should have failed: {other:?}").into()),
    }
    match simple.long_delay().timeout(Duration::from_millis(500)).await {
        Err(ThriftError::Call(CallError::TimedOut { .. })) => println!("timed out as expected"),
        other => return Err(format!("it should have timed out: {other:?}").into()),
    }

    connector.shutdown(Duration::from_secs(1)).await;
    calling.await??;
    Ok(())
}
