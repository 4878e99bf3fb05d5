//! `callosum call`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_runtime::{CallError, Connector, NotSent, Reconnect};
use futures_util::future::join;

use crate::args::Call;
use crate::exit::{Failure, say};
use crate::signals::Signals;
use crate::value::{Argument, to_line};

/// How long the last words, such as a cancellation, may take to reach the socket.
const PARTING: Duration = Duration::from_secs(1);

pub(crate) fn run(mut args: Call) -> Result<(), Failure> {
    let argument = Argument::parse(std::mem::take(&mut args.argument)).map_err(Failure::Usage)?;
    let executor = args.executor.executor;
    let line = executor.block_on(call(args, argument))??;
    Ok(say(&line)?)
}

async fn call(args: Call, argument: Argument) -> Result<String, Failure> {
    let (executor, codec) = (args.executor.executor, args.codec.codec());
    let body = argument.encode(codec).map_err(Failure::Call)?;
    let mut signals = Signals::listen()?;
    let builder = args.curve.secure(executor.builder())?;
    let (connector, driver) = builder.reconnect(Reconnect::Never).connect(&args.endpoint)?;
    let (_, result) = join(driver, async {
        // Dropping the call is what cancels it; the shutdown sees to it that this reaches the socket.
        let result = signals.unless(invoke(&connector, &args, &body)).await;
        connector.shutdown(PARTING).await;
        result.unwrap_or(Err(Failure::Cancelled))
    })
    .await;
    result.and_then(|body| to_line(codec, &body).map_err(Failure::Call))
}

async fn invoke(connector: &Connector, args: &Call, body: &Bytes) -> Result<Bytes, Failure> {
    let start = Instant::now();
    let ready =
        args.executor.executor.within(args.timeout.unwrap_or(Duration::MAX), connector.peer().ready());
    match ready.await {
        Some(Ok(())) => {}
        Some(Err(cause)) => return Err(Failure::no_link(&args.endpoint, cause)),
        None => return Err(Failure::no_answer(&args.endpoint)),
    }
    let mut call = connector.peer().invoke_raw(&args.method, body);
    if let Some(key) = &args.key {
        call = call.key(key);
    }
    if let Some(timeout) = args.timeout {
        call = call.timeout(timeout.saturating_sub(start.elapsed()));
    }
    call.await.map_err(|error| match error {
        CallError::Failure(info) => Failure::Remote(info),
        CallError::Error(info) | CallError::Busy(info) => Failure::Refused(info),
        CallError::TimedOut { .. } => Failure::TimedOut(error.to_string()),
        CallError::Cancelled => Failure::CancelledRemotely,
        CallError::Disconnected(cause) => Failure::ConnectionLost(cause),
        CallError::NotSent(NotSent::Disconnected(cause)) => Failure::no_link(&args.endpoint, cause),
        error => Failure::Call(error),
    })
}
