//! For unit tests: a binder's end of a connection, driven by hand, whose tasks run when the test says so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::{self as proto, CallId, Connection, ConnectionConfig, Event, Outcome, Role};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::link::pump::Pump;
use crate::lock::Mutex;
use crate::node::Node;
use crate::peer::PeerShared;
use crate::rt::{BoxSocket, Listener, Runtime, Timer, unsupported, yield_now};
use crate::{Builder, Endpoint, HandlerResult, SocketOptions};

/// Keeps tasks until they are run. Its time stands still but for what handlers take.
#[derive(Debug)]
pub(crate) struct ByHand {
    pub(crate) now: Instant,
    taken: Mutex<Duration>,
    tasks: Mutex<Vec<BoxFuture<'static, ()>>>,
}

impl ByHand {
    /// Drops every task, as an executor does that ends.
    pub(crate) fn drop_tasks(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        drop(tasks);
    }

    /// Polls every task once.
    pub(crate) fn run_tasks(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let mut cx = Context::from_waker(Waker::noop());
        let left =
            tasks.into_iter().filter_map(|mut task| task.poll_unpin(&mut cx).is_pending().then_some(task));
        let left: Vec<_> = left.collect();
        self.tasks.lock().extend(left);
    }
}

struct Never;

impl Timer for Never {
    fn reset(self: Pin<&mut Self>, _: Instant) {}

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Runtime for ByHand {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tasks.lock().push(task);
    }

    fn now(&self) -> Instant {
        self.now + *self.taken.lock()
    }

    fn timer(&self, _: Instant) -> Pin<Box<dyn Timer>> {
        Box::pin(Never)
    }

    fn connect<'a>(&'a self, to: &'a Endpoint, _: SocketOptions) -> BoxFuture<'a, io::Result<BoxSocket>> {
        std::future::ready(Err(unsupported(to))).boxed()
    }

    fn bind<'a>(
        &'a self,
        at: &'a Endpoint,
        _: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        std::future::ready(Err(unsupported(at))).boxed()
    }
}

pub(crate) struct Pair {
    pub(crate) runtime: Arc<ByHand>,
    pub(crate) node: Arc<Node>,
    pub(crate) peer: Arc<PeerShared>,
    pub(crate) pump: Pump,
    pub(crate) client: Connection,
}

impl Pair {
    /// Says hello on neither side.
    pub(crate) fn new() -> Self {
        let runtime =
            Arc::new(ByHand { now: Instant::now(), taken: Mutex::default(), tasks: Mutex::default() });
        let clock = runtime.clone();
        let node = Builder::new(runtime.clone())
            .handle_raw("at once", |_, _| async { HandlerResult::Ok(Bytes::new()) })
            .handle_raw("later", |_, _| async {
                yield_now().await;
                HandlerResult::Ok(Bytes::new())
            })
            .handle_raw("a millisecond", move |_, _| {
                *clock.taken.lock() += Duration::from_millis(1);
                std::future::ready(HandlerResult::Ok(Bytes::new()))
            })
            .build();
        let peer = PeerShared::over_messages(&node.core, Role::Binder);
        assert!(node.admit(&peer));
        let pump = Pump::new(node.clone(), peer.clone());
        peer.lock().attach("by hand", Bytes::new(), None, runtime.now);
        let config = ConnectionConfig::default();
        let (id, nonce) = (proto::Endpoint::default().open(), [1; 16]);
        let mut client = Connection::new(id, Role::Connector, config, nonce, CallId::FIRST, runtime.now);
        client.handle_connected(runtime.now);
        Self { runtime, node, peer, pump, client }
    }

    /// The handshake is complete.
    pub(crate) fn connected() -> Self {
        let mut pair = Self::new();
        pair.exchange();
        assert!(pair.client.is_established());
        pair
    }

    /// Carries messages to and fro until there are none.
    pub(crate) fn exchange(&mut self) {
        let now = self.runtime.now;
        loop {
            let mut moved = false;
            while let Some(message) = self.client.poll_message(now) {
                self.peer.lock().connection.handle_message(now, message);
                moved = true;
            }
            self.pump.run();
            let next = || self.peer.lock().connection.poll_message(now);
            for message in std::iter::from_fn(next) {
                self.client.handle_message(now, message);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    pub(crate) fn has_result(&mut self) -> bool {
        let mut events = std::iter::from_fn(|| self.client.poll_event());
        events.any(|event| matches!(event, Event::Ended { outcome: Outcome::Result(_), .. }))
    }
}
