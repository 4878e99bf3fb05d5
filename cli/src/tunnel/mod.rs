//! `callosum tunnel`: forwards through one connection to a server, until a signal comes.

mod table;
mod view;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use blocking::Unblock;
use callosum_runtime::{Connector, Drained, Reconnect};
use callosum_tunnel::{End, Forward, ForwardError, TunnelSettings};
use futures_util::future::{Either, join, select};

use crate::args::Tunnel;
use crate::descriptors::raise_limit;
use crate::executor::beside;
use crate::exit::{Failure, tell};
use crate::server::Server;
use crate::signals::Signals;
use view::View;

/// How long the last words may take to reach the socket.
const PARTING: Duration = Duration::from_secs(1);

pub(crate) fn run(args: Tunnel) -> Result<(), Failure> {
    raise_limit();
    let server = Server::of(&args.server, &args.curve)?;
    let executor = args.executor.executor;
    match args.stdio.clone() {
        Some(target) => {
            let relay = async |_: &Connector, tunnel: &callosum_tunnel::Tunnel, signals: &mut Signals| {
                relay(tunnel, target, signals).await
            };
            // The relayed connection ends with this one, so a reconnect would not help.
            executor.block_on(with_tunnel(&args, &server, Reconnect::Never, relay))?
        }
        None => {
            let forward =
                async |connector: &Connector, tunnel: &callosum_tunnel::Tunnel, signals: &mut Signals| {
                    forward(&args, connector, tunnel, signals).await
                };
            executor.block_on(with_tunnel(&args, &server, Reconnect::default(), forward))?
        }
    }
}

/// Connects, and does the work with a tunnel to the server.
async fn with_tunnel(
    args: &Tunnel,
    server: &Server,
    reconnect: Reconnect,
    work: impl AsyncFnOnce(&Connector, &callosum_tunnel::Tunnel, &mut Signals) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (executor, endpoint) = (args.executor.executor, &server.endpoint);
    let mut signals = Signals::listen()?;
    let builder = server.secure(executor.builder())?.reconnect(reconnect);
    let (connector, link) = builder.connect(endpoint)?;
    let settings = TunnelSettings::default().wait_for_link(args.wait).proxy_protocol(args.proxy_protocol);
    let (tunnel, forwarding) = callosum_tunnel::Tunnel::new(connector.peer(), connector.handlers(), settings);
    let working = async {
        let ready = executor.within(args.timeout, connector.peer().ready());
        let result = match signals.unless(ready).await {
            Some(Some(Ok(()))) => work(&connector, &tunnel, &mut signals).await,
            Some(Some(Err(cause))) => Err(Failure::no_link(endpoint, cause)),
            Some(None) => Err(Failure::no_answer(endpoint)),
            None => Err(Failure::Cancelled),
        };
        connector.shutdown(PARTING).await;
        result
    };
    join(link, beside(forwarding, working)).await.1
}

/// One connection over stdin and stdout.
async fn relay(
    tunnel: &callosum_tunnel::Tunnel,
    target: callosum_tunnel::Target,
    signals: &mut Signals,
) -> Result<(), Failure> {
    // Not the standard library's: its stdout buffers output without a line break.
    let input = Unblock::new(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let output = Unblock::new(File::from(io::stdout().as_fd().try_clone_to_owned()?));
    let name = target.to_string();
    match signals.unless(tunnel.pipe(target, input, output)).await {
        Some(Ok(End::Closed)) => Ok(()),
        Some(Ok(end)) => Err(Failure::TunnelEnded { target: name, end }),
        Some(Err(reason)) => Err(Failure::TunnelRefused { target: name, reason }),
        None => Err(Failure::Cancelled),
    }
}

/// Sets the forwards up, and shows their state until a signal arrives; then drains them.
async fn forward(
    args: &Tunnel,
    connector: &Connector,
    tunnel: &callosum_tunnel::Tunnel,
    signals: &mut Signals,
) -> Result<(), Failure> {
    // One forward may be used while another is set up.
    let (events, links) = (tunnel.events(), connector.events());
    let mut names = Vec::new();
    let is_over = signals.unless(set_up(args, tunnel, &mut names)).await.transpose()?.is_none();
    let view = View::new(args.quiet.quiet);
    let showing = view.follow(tunnel, events, links, names, args.executor.executor);
    let showing = pin!(showing);
    let draining = pin!(async {
        // Forwards that were set up by then may be in use.
        if !is_over {
            signals.next().await;
        }
        view.note("waiting for the open connections to end; signal again to stop at once");
        signals.unless(tunnel.drain(args.drain)).await
    });
    let drained = match select(draining, showing).await {
        Either::Left((drained, showing)) => {
            // What has ended last is shown too.
            if drained.is_some() {
                showing.await;
            }
            drained
        }
        Either::Right(((), draining)) => draining.await,
    };
    match drained {
        Some(Drained::Completely) => Ok(()),
        Some(Drained::DeadlinePassed) => {
            view.note("some connections took longer, and were reset");
            Ok(())
        }
        None => Err(Failure::CutShort),
    }
}

/// Sets the forwards up one after the other. `names` gets the name of each that is announced.
async fn set_up(
    args: &Tunnel,
    tunnel: &callosum_tunnel::Tunnel,
    names: &mut Vec<Arc<str>>,
) -> Result<(), Failure> {
    for spec in &args.local {
        announce(tunnel.local(spec.listen.clone(), spec.target.clone()).await, names).await?;
    }
    for listen in &args.dynamic {
        announce(tunnel.dynamic(listen.clone()).await, names).await?;
    }
    for spec in &args.remote {
        announce(tunnel.remote(spec.listen.clone(), spec.target.clone()).await, names).await?;
    }
    Ok(())
}

async fn announce(forward: Result<Forward, ForwardError>, names: &mut Vec<Arc<str>>) -> Result<(), Failure> {
    let name = forward?.name().clone();
    names.push(name.clone());
    tell(format!("forwarding {name}")).await?;
    Ok(())
}
