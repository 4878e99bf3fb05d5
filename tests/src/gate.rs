//! A handler whose every call the test holds in its hand.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use callosum_runtime::{Context, HandlerError, Handlers};
use futures_channel::oneshot;
use serde_json::Value;

/// Makes handlers that wait until the test lets each call go, and counts those that live.
#[derive(Clone, Debug)]
pub struct Gate {
    entered: async_channel::Receiver<Held>,
    enter: async_channel::Sender<Held>,
    live: Arc<AtomicUsize>,
    started: Arc<AtomicUsize>,
}

/// A call whose handler runs.
#[derive(Debug)]
pub struct Held {
    /// Its argument.
    pub argument: Value,
    /// Its handler's context.
    pub context: Context,
    reply: oneshot::Sender<Result<Value, HandlerError>>,
}

impl Held {
    /// Lets the handler return this. Does nothing if the handler is gone.
    pub fn release(self, result: impl Into<Value>) {
        let _ = self.reply.send(Ok(result.into()));
    }

    /// Lets the handler fail.
    pub fn fail(self, error: HandlerError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Counts as long as it lives.
#[derive(Debug)]
pub struct Alive(Arc<AtomicUsize>);

impl Alive {
    /// Counts one more.
    pub fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Default for Gate {
    fn default() -> Self {
        let (enter, entered) = async_channel::unbounded();
        Self { entered, enter, live: Arc::default(), started: Arc::default() }
    }
}

impl Gate {
    /// Adds a method that waits at this gate.
    ///
    /// # Panics
    /// If there is one of this name.
    pub fn guard(&self, handlers: &Handlers, method: &str) {
        let gate = self.clone();
        let pass = move |argument: Value, context: Context| gate.clone().pass(argument, context);
        handlers.add(method, pass).expect("a new name");
    }

    async fn pass(self, argument: Value, context: Context) -> Result<Value, HandlerError> {
        let _alive = Alive::new(&self.live);
        self.started.fetch_add(1, Ordering::SeqCst);
        let (reply, released) = oneshot::channel();
        self.enter.try_send(Held { argument, context, reply }).expect("the gate holds its receiver");
        match released.await {
            Ok(result) => result,
            // Dropped and not released: only a cancellation ends it now.
            Err(_) => pending().await,
        }
    }

    /// What a handler that streams awaits, to go on once the test lets it.
    pub async fn pass_through(&self, context: Context) {
        self.clone().pass(Value::Null, context).await.expect("it is released, and not failed");
    }

    /// The next call whose handler has started.
    pub async fn next(&self) -> Held {
        self.entered.recv().await.expect("the gate holds its sender")
    }

    /// Another call whose handler has started already, if there is one.
    pub fn try_next(&self) -> Option<Held> {
        self.entered.try_recv().ok()
    }

    /// Handlers that have started and whose futures have not been dropped.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// Handlers that have ever started.
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
}
