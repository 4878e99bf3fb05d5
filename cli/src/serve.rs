//! `callosum serve`.

use std::time::Duration;

use callosum_runtime::auth::{AllowList, load_keys};
use callosum_runtime::{Binder, Drained, Endpoint, Event, Events};
use callosum_tunnel::{RuleSet, ServerSettings, TunnelServer};
use futures_util::future::{OptionFuture, join};
use futures_util::{FutureExt, StreamExt};

use crate::args::Serve;
use crate::descriptors::raise_limit;
use crate::executor::beside;
use crate::exit::{Failure, say};
use crate::files::{self, Root};
use crate::service::{self, Service};
use crate::signals::Signals;
use crate::stderr::note;

/// How long the ends of tunnelled connections that are reset at the deadline may take to reach their clients, which would learn
/// only that the connection to the server has ended.
const PARTING: Duration = Duration::from_secs(1);

pub(crate) fn run(args: Serve) -> Result<(), Failure> {
    raise_limit();
    let executor = args.executor.executor;
    executor.block_on(serve(args))?
}

async fn serve(args: Serve) -> Result<(), Failure> {
    let (executor, codec) = (args.executor.executor, args.codec.codec());
    let mut builder = executor
        .builder()
        .codec(codec.clone())
        // The demonstration shows remote tracebacks and has no secrets. Errors of files have names instead.
        .expose_tracebacks(args.demo)
        .ordering(args.ordering.into())
        .max_concurrency(args.max_concurrency.get());
    if args.allow_plaintext {
        builder = builder.allow_plaintext();
    }
    if let (Some(key), Some(allow)) = (&args.curve_key, &args.allow) {
        builder = builder.authenticator(AllowList::open(load_keys(key)?, allow)?);
    }
    let service = Service::new(executor);
    if args.demo {
        builder = service::add_demo(builder, &service, &codec, args.max_concurrency);
    }
    if let Some(path) = &args.files {
        let root = Root::open(path).map_err(|error| {
            let path = path.display().to_string();
            Failure::Root { path, error }
        })?;
        builder = files::add_methods(builder, &service, root);
    }
    let tunnels = match &args.tunnels {
        Some(path) => {
            let settings = ServerSettings::default();
            Some(TunnelServer::new(builder.runtime(), RuleSet::open(path)?, settings))
        }
        None => None,
    };
    let (tunnels, tunnelling) = tunnels.unzip();
    if let Some(tunnels) = &tunnels {
        builder = tunnels.add_to(builder);
    }
    let signals = Signals::listen()?;
    let (binder, driver) = builder.binder();
    let serving = async {
        let listening = listen(&binder, &args.bind).await;
        match listening {
            Ok(()) => drain_on_signal(&binder, tunnels.as_ref(), signals, args.drain).await,
            Err(failure) => {
                binder.shutdown(Duration::ZERO).await;
                Err(failure)
            }
        }
    };
    let meanwhile = join(OptionFuture::from(tunnelling), show_accept_failures(binder.events())).map(drop);
    join(driver, beside(meanwhile, serving)).await.1
}

/// Shows what the system did not let the server accept.
async fn show_accept_failures(mut events: Events) {
    let mut last = String::new();
    while let Some(event) = events.next().await {
        match event {
            Event::AcceptFailed { endpoint, error, .. } => {
                let line = format!("can't accept on {endpoint}: {error}\n");
                // It is tried again ten times a second.
                if line != last {
                    note(&line);
                    last = line;
                }
            }
            Event::Connected(_) => last.clear(),
            _ => {}
        }
    }
}

async fn listen(binder: &Binder, endpoints: &[Endpoint]) -> Result<(), Failure> {
    for endpoint in endpoints {
        binder.listen(endpoint).await?;
    }
    for real in binder.endpoints() {
        say(&format!("listening on {real}"))?;
    }
    Ok(())
}

/// The first signal asks for an end, the second for one at once.
async fn drain_on_signal(
    binder: &Binder,
    tunnels: Option<&TunnelServer>,
    mut signals: Signals,
    grace_period: Duration,
) -> Result<(), Failure> {
    signals.next().await;
    note("finishing the calls in progress; signal again to stop at once\n");
    // Tunnelled connections and listeners are calls too, and a listener ends only when its tunnels drain.
    let draining = async {
        let drained = OptionFuture::from(tunnels.map(|tunnels| tunnels.drain(grace_period)));
        let parting = if tunnels.is_some() { PARTING } else { Duration::ZERO };
        join(binder.shutdown(grace_period.saturating_add(parting)), drained).await
    };
    match signals.unless(draining).await {
        Some((Drained::Completely, None | Some(Drained::Completely))) => Ok(()),
        Some(_) => {
            note(
                "not drained in time: remaining calls were ended, or a client has not confirmed its replies\n",
            );
            Ok(())
        }
        None => {
            binder.shutdown(Duration::ZERO).await;
            Err(Failure::CutShort)
        }
    }
}
