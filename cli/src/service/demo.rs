//! The demonstration service: the methods of `callosum serve --demo`.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callosum_runtime::{BodyReader, Builder, Codec, Context, HandlerError, HandlerResult, Responder};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

use super::{Long, Service};
use crate::executor::Executor;
use crate::stderr::note;
use crate::value::hex;

/// Streams of `count` at a time: each may have 256 KiB waiting for a caller that does not read.
const COUNTS: Long = Long(100);

/// How long `long_delay` waits.
const LONG_DELAY: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Sent<T> {
    sent: T,
}

#[derive(Serialize)]
struct Received<T> {
    received: T,
}

#[derive(Deserialize)]
struct Add {
    a: Number,
    b: Number,
}

#[derive(Deserialize)]
struct Delay {
    seconds: Number,
}

#[derive(Deserialize)]
struct SetOutput {
    enabled: bool,
}

#[derive(Deserialize)]
struct Count {
    to: u64,
    #[serde(default)]
    every: Option<Number>,
}

/// Adds the methods to an endpoint that speaks `codec` and has so many slots.
///
/// `delay` and `long_delay` may be as many as a part of the slots, so that also a caller sees `Busy` who makes few calls.
pub(crate) fn add_methods(
    builder: Builder,
    service: &Service,
    codec: &Codec,
    slots: NonZeroUsize,
) -> Builder {
    let executor = service.executor;
    let (half, quarter) = (Long::part_of(slots, 2), Long::part_of(slots, 4));
    let builder = match codec {
        // The body is echoed undecoded, so that it comes back byte by byte.
        Codec::Json => service.add_echoes::<Box<RawValue>>(builder, quarter),
        _ => service.add_echoes::<rmpv::Value>(builder, quarter),
    };
    let builder = service.add_stream(builder, "count", COUNTS, move |body, responder, context| {
        count(executor, body, responder, context)
    });
    let builder = service
        .add(builder, "add", |args: Add, _| async move { Ok(json!({ "result": sum(&args.a, &args.b)? })) });
    let builder =
        service.add_long(builder, "delay", half, move |args: Delay, _| delay(executor, args.seconds));
    let builder = service.add(builder, "error", |_: IgnoredAny, _| async {
        Err::<Value, _>(HandlerError::new("ZeroDivisionError", "division by zero"))
    });
    let builder =
        service.add(builder, "whoami", |_: IgnoredAny, context| async move { Ok(caller(&context)) });
    let output = service.output.clone();
    let builder = service.add(builder, "set_output", move |args: SetOutput, _| {
        output.store(args.enabled, Ordering::Relaxed);
        std::future::ready(Ok(Value::Null))
    });
    let builder = service.add(builder, "memstat", |_: IgnoredAny, _| async {
        note(&format!("memory in use: {}\n", memory()));
        Ok(Value::Null)
    });
    service.add(builder, "print_delim", |_: IgnoredAny, _| async {
        note(&format!("{}\n", "-".repeat(60)));
        Ok(Value::Null)
    })
}

impl Service {
    fn add_echoes<T>(&self, builder: Builder, limit: Long) -> Builder
    where
        T: DeserializeOwned + Serialize + Send + 'static,
    {
        let builder =
            self.add(builder, "echo", |args: Sent<T>, _| async move { Ok(Received { received: args.sent }) });
        let executor = self.executor;
        self.add_long(builder, "long_delay", limit, move |args: Sent<T>, _| async move {
            executor.sleep(LONG_DELAY).await;
            Ok(Received { received: args.sent })
        })
    }
}

async fn delay(executor: Executor, seconds: Number) -> HandlerResult<Value> {
    executor.sleep(time_of(&seconds)?).await;
    Ok(json!({ "waited": seconds }))
}

fn time_of(seconds: &Number) -> HandlerResult<Duration> {
    match seconds.as_f64().map(Duration::try_from_secs_f64) {
        Some(Ok(time)) => Ok(time),
        _ => Err(HandlerError::new("ValueError", &format!("can't wait for {seconds} seconds"))),
    }
}

/// Streams the numbers from 1, with a pause after each.
async fn count(
    executor: Executor,
    body: BodyReader,
    responder: Responder,
    context: Context,
) -> HandlerResult<()> {
    let Count { to, every } = context.codec().decode(&body.collect().await?)?;
    let pause = every.as_ref().map(time_of).transpose()?;
    let mut items = responder.begin().await?;
    for n in 1..=to {
        items.write_item(&json!({ "count": n })).await?;
        if let Some(pause) = pause {
            executor.sleep(pause).await;
        }
    }
    Ok(())
}

/// Exact for integers; of a float and anything, a float.
fn sum(a: &Number, b: &Number) -> HandlerResult<Number> {
    let sum = match (a.as_i128(), b.as_i128()) {
        // Both have 64 bits.
        (Some(a), Some(b)) => Number::from_i128(a + b),
        _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| Number::from_f64(a + b)),
    };
    sum.ok_or_else(|| HandlerError::new("OverflowError", &format!("{a} + {b} is out of range")))
}

fn caller(context: &Context) -> Value {
    let (peer, key) = (context.peer(), context.key());
    let info = peer.info();
    let hello = info.max_body.zip(info.dialect).map(|(max_body, dialect)| {
        let dialects: Vec<u32> = (1..=dialect.number()).collect();
        json!({ "dialects": dialects, "max_body": max_body })
    });
    let key = match key.as_text() {
        Some(text) => json!(text),
        None if key.is_given() => json!({ "hex": hex(key.as_bytes()) }),
        None => Value::Null,
    };
    json!({
        "peer": peer.id().to_string(),
        "address": info.address,
        "routing_id": hex(&info.routing_id),
        // Absent for a peer that speaks dialect 1 and says no more, such as Python's.
        "hello": hello,
        // The caller's identity; absent without CURVE.
        "user": context.identity().map(|identity| identity.user_id.clone()),
        "method": context.method(),
        "key": key,
    })
}

/// Resident memory, where the system tells.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    resident.map_or_else(|| String::from("unknown on this system"), |size| size.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn sums_are_exact_for_integers_and_refused_out_of_range() {
        let sums =
            [("1", "2", "3"), ("-5", "18446744073709551615", "18446744073709551610"), ("0.5", "1", "1.5")];
        for (a, b, expected) in sums {
            assert_eq!(sum(&number(a), &number(b)).unwrap().to_string(), expected);
        }
        assert!(sum(&number("18446744073709551615"), &number("1")).is_err());
        assert!(sum(&number("1e308"), &number("1e308")).is_err());
    }
}
