//! Callosum itself, on both of its runtimes, in the clear and under CURVE, with raw bytes as arguments and results.

use std::marker::PhantomData;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use bytes::Bytes;
use callosum_tokio::auth::{CurveClient, CurveKeyPair, CurveSecretKey, KeySet};
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
        serve(builder::<A>(), ready).await
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        connect::<A>(builder::<A>(), server).await
    }
}

/// Callosum over TCP, encrypted and authenticated.
#[derive(Debug)]
pub struct CallosumCurve<A>(PhantomData<A>);

impl<A: Adapter> Echo for CallosumCurve<A> {
    const NAME: &'static str = "callosum-curve";
    const ENCRYPTED: bool = true;
    type Runtime = A;
    type Client = Client;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let allowed = KeySet::new(keys(SERVER_SECRET)?);
        allowed.admit(keys(CLIENT_SECRET)?.public(), "bench");
        serve(builder::<A>().authenticator(allowed), ready).await
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        let client = CurveClient::new(keys(CLIENT_SECRET)?, keys(SERVER_SECRET)?.public());
        connect::<A>(builder::<A>().authenticator(client), server).await
    }
}

/// zmq_curve(7), "Test key values".
const SERVER_SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";
const CLIENT_SECRET: &str = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

fn keys(secret: &str) -> Result<CurveKeyPair> {
    Ok(CurveSecretKey::from_z85(secret)?.into())
}

fn builder<A: Adapter>() -> Builder {
    let mut limits = Limits::default();
    limits.max_body = MAX_MESSAGE;
    limits.max_concurrency = MAX_CONCURRENCY;
    A::builder().limits(limits)
}

async fn serve(builder: Builder, ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
    let (binder, driver) = builder
        .handle_raw("echo", |body: Bytes, _: Context| async { HandlerResult::Ok(body) })
        .bind("tcp://127.0.0.1:0")
        .await?;
    ready(address(&binder)?);
    Ok(driver.await?)
}

async fn connect<A: Adapter>(builder: Builder, server: SocketAddr) -> Result<Client> {
    let (connector, driver) = builder.connect(format!("tcp://{server}").as_str())?;
    drop(A::spawn(run(driver)));
    connector.peer().ready().await?;
    Ok(Client(connector.peer().clone()))
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
