//! Callosum itself, on both of its runtimes, with raw bytes as arguments and results.

use std::marker::PhantomData;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use bytes::Bytes;
use callosum_tokio::{Binder, Builder, Context, Driver, Endpoint, HandlerResult, Limits, Peer};

use super::{Echo, MAX_MESSAGE};
use crate::executor::{AsyncStd, Executor, Tokio};
use crate::load;

/// More than any case has calls in flight, so that it is the path of a call that is measured and not a queue.
const MAX_CONCURRENCY: usize = 256;

/// A runtime that Callosum has an adapter for.
pub trait Adapter: Executor {
    /// Starts to build an endpoint.
    fn builder() -> Builder;
}

impl Adapter for Tokio {
    fn builder() -> Builder {
        callosum_tokio::builder()
    }
}

impl Adapter for AsyncStd {
    fn builder() -> Builder {
        callosum_async_std::builder()
    }
}

/// Callosum over TCP.
#[derive(Debug)]
pub struct Callosum<A>(PhantomData<A>);

impl<A: Adapter> Echo for Callosum<A> {
    const NAME: &'static str = "callosum";
    type Runtime = A;
    type Client = Client;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let (binder, driver) = builder::<A>()
            .handle_raw("echo", |body: Bytes, _: Context| async { HandlerResult::Ok(body) })
            .bind("tcp://127.0.0.1:0")
            .await?;
        ready(address(&binder)?);
        Ok(driver.await?)
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        let (connector, driver) = builder::<A>().connect(format!("tcp://{server}").as_str())?;
        drop(A::spawn(run(driver)));
        connector.peer().ready().await?;
        Ok(Client(connector.peer().clone()))
    }
}

fn builder<A: Adapter>() -> Builder {
    let mut limits = Limits::default();
    limits.max_body = MAX_MESSAGE;
    limits.max_concurrency = MAX_CONCURRENCY;
    A::builder().limits(limits)
}

async fn run(driver: Driver) -> Result<()> {
    Ok(driver.await?)
}

fn address(binder: &Binder) -> Result<SocketAddr> {
    match binder.endpoints().first() {
        Some(Endpoint::Tcp { host, port }) => Ok(SocketAddr::new(host.parse()?, *port)),
        other => bail!("bound to {other:?} instead of a TCP port"),
    }
}

/// The client's end.
#[derive(Clone, Debug)]
pub struct Client(Peer);

impl load::Client for Client {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        Ok(self.0.invoke_raw("echo", &body).await?)
    }
}
