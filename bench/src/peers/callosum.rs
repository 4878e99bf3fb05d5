//! Callosum itself, on both of its runtimes, in both of its dialects, in the clear and under CURVE, with raw bytes as arguments and results.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use callosum_tokio::auth::{CurveClient, CurveKeyPair, KeySet};
use callosum_tokio::{
    Binder, BodyReader, Builder, Context, Dialect, Driver, Endpoint, HandlerResult, Limits, OrderingMode,
    Peer, Responder,
};
use futures::StreamExt as _;

use super::stack::{AT_ONCE, MAX_MESSAGE, Orders, Stack};
use crate::cases::{MOST_BYTES_IN_FLIGHT, Order};
use crate::executor::{AsyncStd, Executor, Tokio};
use crate::load;
use crate::upload::{self, Checker};

/// How long a call may take. There is a limit because tarpc's calls have one; it is one that a busy machine does not reach.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

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

/// What is offered to the other side at the most.
pub trait Offer: Send + Sync + 'static {
    /// The dialect.
    const DIALECT: Dialect;
}

/// The default.
#[derive(Debug)]
pub enum DialectTwo {}

/// What is spoken with Python peers.
#[derive(Debug)]
pub enum DialectOne {}

impl Offer for DialectTwo {
    const DIALECT: Dialect = Dialect::Two;
}

impl Offer for DialectOne {
    const DIALECT: Dialect = Dialect::One;
}

/// Callosum over TCP.
#[derive(Debug)]
pub struct Callosum<A, D = DialectTwo>(PhantomData<(A, D)>);

impl<A: Adapter, D: Offer> Stack for Callosum<A, D> {
    const NAME: &'static str = match D::DIALECT {
        Dialect::Two => "callosum",
        _ => "callosum-dialect-1",
    };
    type Runtime = A;
    type Client = Client;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        serve(builder::<A, D>(), ready).await
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        connect::<A, D>(builder::<A, D>(), server).await
    }
}

impl<A: Adapter, D: Offer> Orders for Callosum<A, D> {
    async fn serve_in(order: Order, ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let mode = match order {
            Order::Unordered => OrderingMode::Unordered,
            Order::KeysExitOrdered => OrderingMode::ExitOrdered,
            Order::KeysSerialized => OrderingMode::KeySerialized,
        };
        serve(builder::<A, D>().ordering(mode), ready).await
    }
}

/// Callosum over TCP, encrypted and authenticated.
#[derive(Debug)]
pub struct CallosumCurve<A, D = DialectTwo>(PhantomData<(A, D)>);

impl<A: Adapter, D: Offer> Stack for CallosumCurve<A, D> {
    const NAME: &'static str = match D::DIALECT {
        Dialect::Two => "callosum-curve",
        _ => "callosum-curve-dialect-1",
    };
    const ENCRYPTED: bool = true;
    type Runtime = A;
    type Client = Client;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        serve(builder::<A, D>().authenticator(admitting()?), ready).await
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        connect::<A, D>(builder::<A, D>().authenticator(admitted()?), server).await
    }
}

/// zmq_curve(7), "Test key values".
const SERVER_SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";
const CLIENT_SECRET: &str = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

fn keys(secret: &str) -> Result<CurveKeyPair> {
    Ok(CurveKeyPair::from_secret_z85(secret)?)
}

/// A server that admits the client.
pub(crate) fn admitting() -> Result<KeySet> {
    let allowed = KeySet::new(keys(SERVER_SECRET)?);
    allowed.admit(keys(CLIENT_SECRET)?.public(), "bench");
    Ok(allowed)
}

/// The client.
pub(crate) fn admitted() -> Result<CurveClient> {
    Ok(CurveClient::new(keys(CLIENT_SECRET)?, keys(SERVER_SECRET)?.public()))
}

pub(super) fn builder<A: Adapter, D: Offer>() -> Builder {
    let limits = Limits::default()
        .max_body(MAX_MESSAGE)
        .max_concurrency(AT_ONCE)
        // With keys, calls wait for others with the same key.
        .max_queue(AT_ONCE)
        // 8 × 8 MiB fill the 64 MiB that may wait by default, and their headers come on top.
        .max_outgoing_bytes(2 * MOST_BYTES_IN_FLIGHT)
        // There is one peer.
        .max_share_per_peer(100);
    A::builder().limits(limits).call_timeout(CALL_TIMEOUT).dialect(D::DIALECT)
}

pub(super) async fn serve(builder: Builder, ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
    let (binder, driver) = builder
        .handle_raw("echo", |body: Bytes, _: Context| async { HandlerResult::Ok(body) })
        .handle_stream("upload", receive)
        .bind("tcp://127.0.0.1:0")
        .await?;
    ready(address(&binder)?);
    Ok(driver.await?)
}

async fn receive(mut body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    let mut checker = Checker::default();
    while let Some(bytes) = body.next().await {
        checker.take(&bytes?)?;
    }
    responder.begin().await?.write_bytes(checker.answer()).await?;
    Ok(())
}

pub(super) async fn connect<A: Adapter, D: Offer>(builder: Builder, server: SocketAddr) -> Result<Client> {
    let (connector, driver) = builder.connect(format!("tcp://{server}").as_str())?;
    drop(A::spawn(run(driver)));
    connector.peer().ready().await?;
    let spoken = connector.peer().info().dialect;
    ensure!(spoken == Some(D::DIALECT), "the two sides speak {spoken:?}");
    Ok(Client(connector.peer().clone()))
}

async fn run(driver: Driver) -> Result<()> {
    Ok(driver.await?)
}

/// A client on tokio, as `builder` has it.
pub(crate) async fn client_of(builder: Builder, server: SocketAddr) -> Result<Client> {
    connect::<Tokio, DialectTwo>(builder, server).await
}

/// Where a binder listens.
pub(crate) fn address(binder: &Binder) -> Result<SocketAddr> {
    match binder.endpoints().first() {
        Some(Endpoint::Tcp { host, port }) => Ok(SocketAddr::new(host.parse()?, *port)),
        other => bail!("bound to {other:?} instead of a TCP port"),
    }
}

/// The client's end.
#[derive(Clone, Debug)]
pub struct Client(Peer);

impl Client {
    pub(crate) fn peer(&self) -> Peer {
        self.0.clone()
    }
}

impl load::Client for Client {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        Ok(self.0.invoke_raw("echo", body.clone()).await?)
    }
}

impl load::KeyedClient for Client {
    async fn echo_with_key(&self, key: &str, body: Bytes) -> Result<Bytes> {
        Ok(self.0.invoke_raw("echo", body.clone()).key(key).await?)
    }
}

impl upload::Client for Client {
    async fn upload(&self, bytes: u64) -> Result<u64> {
        let (mut writer, answer) = self.0.open("upload").no_timeout().stream()?;
        for piece in upload::pieces(bytes) {
            writer.write_bytes(piece).await?;
        }
        writer.finish()?;
        upload::read_answer(&answer.await?.body.collect().await?)
    }
}
