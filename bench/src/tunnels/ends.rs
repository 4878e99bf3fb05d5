//! The ends of those tunnels that this program has itself: a relay, and Callosum's.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use callosum_tunnel::{
    Authorizer, ListenAddress, Permission, Requester, ServerSettings, Target, Tunnel, TunnelServer,
    TunnelSettings,
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
};

use super::target::PIECE;
use crate::{
    executor::{Executor as _, Tokio},
    peers::{Adapter as _, Way, address, admitted, admitting, announce, end_with_stdin},
};

/// Serves one end until stdin ends, and prints its port: the near end, which leads to `far`, or the far end, which leads to `target`.
///
/// # Errors
/// It can't listen or connect, or this way is no part of this program.
pub fn serve(way: Way, target: SocketAddr, far: Option<SocketAddr>) -> Result<()> {
    end_with_stdin();
    Tokio::block_on(async move {
        match (way, far) {
            (Way::Relay, far) => relay(far.unwrap_or(target)).await,
            (Way::Callosum { curve }, None) => callosum_far(curve).await,
            (Way::Callosum { curve }, Some(far)) => callosum_near(curve, far, target).await,
            (Way::OpenSsh | Way::Rathole { .. }, _) => bail!("this way is a program of its own"),
        }
    })
}

/// The least that two hops cost a program: a task for each connection, and a copy each way, of as much as Callosum reads at once.
async fn relay(to: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    announce(listener.local_addr()?);
    loop {
        let (mut here, _) = listener.accept().await?;
        tokio::spawn(async move {
            here.set_nodelay(true)?;
            let mut there = TcpStream::connect(to).await?;
            there.set_nodelay(true)?;
            copy_bidirectional_with_sizes(&mut here, &mut there, PIECE, PIECE).await
        });
    }
}

async fn callosum_far(curve: bool) -> Result<()> {
    let mut builder = Tokio::builder();
    if curve {
        builder = builder.authenticator(admitting()?);
    }
    let (serving, following) = TunnelServer::new(builder.runtime(), Anyone, ServerSettings::default());
    let (binder, driver) = serving.add_to(builder).bind("tcp://127.0.0.1:0").await?;
    tokio::spawn(following);
    announce(address(&binder)?);
    Ok(driver.await?)
}

async fn callosum_near(curve: bool, far: SocketAddr, target: SocketAddr) -> Result<()> {
    let mut builder = Tokio::builder();
    if curve {
        builder = builder.authenticator(admitted()?);
    }
    let (connector, driver) = builder.connect(format!("tcp://{far}").as_str())?;
    let driver = tokio::spawn(driver);
    let (tunnel, forwarding) = Tunnel::new(connector.peer(), connector.handlers(), TunnelSettings::default());
    tokio::spawn(forwarding);
    connector.peer().ready().await?;
    let listen = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let forward = tunnel.local(listen, target.to_string().parse()?).await?;
    match forward.address() {
        ListenAddress::Tcp(address) => announce(*address),
        other => bail!("listens on {other} instead of a TCP port"),
    }
    driver.await.context("the connection's task ended early")??;
    Ok(())
}

/// Allows everything.
struct Anyone;

impl Authorizer for Anyone {
    fn connect<'a>(&'a self, _: &'a Requester, _: &'a Target) -> BoxFuture<'a, Option<Permission>> {
        async { Some(Permission::new("bench")) }.boxed()
    }

    fn listen<'a>(&'a self, _: &'a Requester, _: &'a ListenAddress) -> BoxFuture<'a, Option<Permission>> {
        async { None }.boxed()
    }
}
