//! How much more often a call of each layer allocates than a raw one, both sides together, so that a change that allocates more, or less,
//! says so. What a raw call allocates is held by `proto/tests/allocations.rs`.

use std::{
    alloc::System,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{self, Poll},
    time::Instant,
};

use anyhow::Result;
use bytes::Bytes;
use callosum_bench::{
    load::{Client, body},
    peers::{Layer, Protobuf, Thrift, Typed, TypedMsgPack},
};
use callosum_testkit::wrapped::{Wrap, Wrapped};
use callosum_tokio::{
    Builder, Context, HandlerResult, Peer, TokioRuntime, duplex,
    rt::{Runtime, Timer},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls that are counted. Buffers are shared by many calls, so that one call has no number of its own: numbers are rounded.
const CALLS: usize = 1_000;

/// Bytes of an argument, and of a result.
const BODY: usize = 64;

/// tokio, on a clock that stands still: no handler takes long, and no timer fires, whatever else the machine does.
#[derive(Debug, Default)]
struct Still(TokioRuntime);

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Wrap for Still {
    fn inner(&self) -> &dyn Runtime {
        &self.0
    }

    fn now(&self) -> Instant {
        *NOW
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        Box::pin(StillTimer(at))
    }
}

/// tokio's would go off as time passes for it, and at once ever after, as the clock never says that it is later.
struct StillTimer(Instant);

impl Timer for StillTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0 = at;
    }

    fn poll(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<()> {
        if self.0 <= *NOW { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn builder() -> Builder {
    Builder::new(Arc::new(Wrapped(Still::default())))
}

/// The calls that layers are compared with.
enum Raw {}

#[derive(Clone)]
struct RawClient(Peer);

impl Layer for Raw {
    const NAME: &'static str = "raw";
    type Client = RawClient;

    fn serve(builder: Builder) -> Builder {
        builder.handle_raw("echo", |body: Bytes, _: Context| async { HandlerResult::Ok(body) })
    }

    fn client(peer: Peer) -> RawClient {
        RawClient(peer)
    }
}

impl Client for RawClient {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        Ok(self.0.invoke_raw("echo", body).await?)
    }
}

async fn call(client: &impl Client) -> Result<()> {
    let body = body(0, BODY);
    for _ in 0..CALLS {
        assert_eq!(client.echo(body.clone()).await?, body);
    }
    Ok(())
}

/// Allocations and reallocations of [`CALLS`] calls, one after the other.
fn count<L: Layer>() -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (ours, theirs) = duplex(64 * 1024);
        let (binder, serving) = L::serve(builder()).binder();
        let serving = tokio::spawn(serving);
        binder.accept(theirs, "memory")?;
        let (connector, calling) = builder().connect_stream(ours);
        let calling = tokio::spawn(calling);
        let client = L::client(connector.peer().clone());
        // What grows once has grown then.
        call(&client).await?;
        let region = Region::new(HEAP);
        call(&client).await?;
        let made = region.change();
        serving.abort();
        calling.abort();
        Ok(made.allocations + made.reallocations)
    })
}

/// The only test of this file: another one would allocate at the same time.
#[test]
fn calls_of_each_layer_allocate_this_much_more_often() -> Result<()> {
    let raw = count::<Raw>()?;
    let more = |count: usize| ((count as f64 - raw as f64) / CALLS as f64).round() as i64;
    let counted = [
        (Typed::NAME, more(count::<Typed>()?)),
        (TypedMsgPack::NAME, more(count::<TypedMsgPack>()?)),
        (Thrift::NAME, more(count::<Thrift>()?)),
        (Protobuf::NAME, more(count::<Protobuf>()?)),
    ];
    // JSON: a string of the client's bytes, and one that is read on either side; the result as it is written.
    // MessagePack: bytes that are read on either side; the result.
    // Thrift: what shares the message with bytes in it, on either side; the result.
    // Protocol Buffers: the result, and what prost makes of bytes that it writes.
    let expected = [
        ("callosum-typed", 4),
        ("callosum-typed-msgpack", 3),
        ("callosum-thrift", 3),
        ("callosum-protobuf", 2),
    ];
    assert_eq!(
        counted, expected,
        "allocations of a call more than those of a raw one: {raw} for {CALLS} calls"
    );
    Ok(())
}
