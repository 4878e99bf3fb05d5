//! `callosum call`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_runtime::{Codec, Peer};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::args::Call;
use crate::exit::{Failure, tell};
use crate::link::with_peer;
use crate::value::{Argument, ToLine, to_line};

pub(crate) fn run(mut args: Call) -> Result<(), Failure> {
    let argument = Argument::parse(std::mem::take(&mut args.argument)).map_err(Failure::Usage)?;
    let executor = args.executor.executor;
    executor.block_on(call(args, argument))?
}

async fn call(args: Call, argument: Argument) -> Result<(), Failure> {
    let (executor, codec) = (args.executor.executor, args.codec.codec());
    let body = argument.encode(&codec).map_err(Failure::Call)?;
    let start = Instant::now();
    let work = async |peer: &Peer| {
        let left = args.timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        match (args.stream, &codec) {
            (false, _) => {
                tell(to_line(&codec, &invoke(peer, &args, &body, left).await?).map_err(Failure::Call)?)
                    .await?
            }
            (true, Codec::Json) => stream::<Box<RawValue>>(peer, &args, body, left).await?,
            (true, _) => stream::<rmpv::Value>(peer, &args, body, left).await?,
        }
        Ok(())
    };
    with_peer(executor, &args.curve, &args.endpoint, args.timeout.unwrap_or(Duration::MAX), work).await
}

async fn invoke(peer: &Peer, args: &Call, body: &Bytes, left: Option<Duration>) -> Result<Bytes, Failure> {
    let mut call = peer.invoke_raw(&args.method, body.clone());
    if let Some(key) = &args.key {
        call = call.key(key);
    }
    if let Some(left) = left {
        call = call.timeout(left);
    }
    Ok(call.await?)
}

/// Prints items as they come.
async fn stream<T: DeserializeOwned + ToLine>(
    peer: &Peer,
    args: &Call,
    body: Bytes,
    left: Option<Duration>,
) -> Result<(), Failure> {
    let mut call = peer.open(&args.method);
    if let Some(key) = &args.key {
        call = call.key(key);
    }
    if let Some(left) = left {
        call = call.timeout(left);
    }
    let mut items = call.send_raw(body)?.await?.body.codec(args.codec.codec()).items::<T>();
    while let Some(item) = items.next().await {
        tell(item?.to_line()).await?;
    }
    Ok(())
}
