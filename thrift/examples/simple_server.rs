//! Serves `simple.thrift` until ctrl-C. The counterpart of Python Callosum's `simple-server-thrift.py`.
//!
//! `cargo run -p callosum-thrift-examples --example simple_server [ENDPOINT]`

use std::error::Error;
use std::time::Duration;

use callosum_thrift::register;
use callosum_thrift_examples::simple::{SimpleService, SimpleServiceServer};
use callosum_thrift_examples::{ALIAS, ENDPOINT};
use callosum_tokio::{Context, HandlerError, HandlerResult, builder};

struct Simple;

impl SimpleService for Simple {
    async fn echo(&self, msg: String, _: &Context) -> HandlerResult<String> {
        Ok(msg)
    }

    async fn add(&self, a: i64, b: i64, _: &Context) -> HandlerResult<i64> {
        Ok(a.checked_add(b).ok_or("the sum is too large")?)
    }

    async fn oops(&self, _: &Context) -> HandlerResult<bool> {
        // The caller learns of it as a failure with this name, as of any error that the file does not declare.
        Err(HandlerError::new("ZeroDivisionError", "oops"))
    }

    async fn long_delay(&self, _: &Context) -> HandlerResult<bool> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(true)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| ENDPOINT.into());
    let builder = register(builder(), ALIAS, SimpleServiceServer::new(Simple));
    let (binder, driver) = builder.bind(endpoint.as_str()).await?;
    let serving = tokio::spawn(driver);
    println!("listening on {}", binder.endpoints()[0]);
    tokio::signal::ctrl_c().await?;
    binder.shutdown(Duration::from_secs(1)).await;
    serving.await??;
    Ok(())
}
