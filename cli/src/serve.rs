//! `callosum serve`.

use std::time::Duration;

use callosum_runtime::auth::{AllowList, load_keys};
use callosum_runtime::{Binder, Drained, Endpoint};
use futures_util::future::{Either, join, select};

use crate::args::Serve;
use crate::exit::{Failure, note, say};
use crate::files::{self, Root};
use crate::service::{self, Service};
use crate::signals::Signals;

pub(crate) fn run(args: Serve) -> Result<(), Failure> {
    let executor = args.executor.executor;
    executor.block_on(serve(args))?
}

async fn serve(args: Serve) -> Result<(), Failure> {
    let (executor, codec) = (args.executor.executor, args.codec.codec());
    let mut builder = executor
        .builder()
        .codec(codec.clone())
        // The demonstration is there to be looked at, and has nothing to hide. The errors of files have names of their own.
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
    let signals = Signals::listen()?;
    let (binder, driver) = builder.binder();
    let (_, result) = join(driver, async {
        let listening = listen(&binder, &args.bind).await;
        match listening {
            Ok(()) => drain_on_signal(&binder, signals, args.drain).await,
            Err(failure) => {
                binder.shutdown(Duration::ZERO).await;
                Err(failure)
            }
        }
    })
    .await;
    result
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
    mut signals: Signals,
    grace_period: Duration,
) -> Result<(), Failure> {
    signals.next().await;
    note("finishing the calls under way; again to stop at once\n");
    let draining = std::pin::pin!(binder.shutdown(grace_period));
    let again = std::pin::pin!(signals.next());
    match select(draining, again).await {
        Either::Left((Drained::Completely, _)) => Ok(()),
        Either::Left((Drained::DeadlinePassed, _)) => {
            note("some calls took longer, and were ended\n");
            Ok(())
        }
        Either::Right(_) => {
            binder.shutdown(Duration::ZERO).await;
            Err(Failure::CutShort)
        }
    }
}
