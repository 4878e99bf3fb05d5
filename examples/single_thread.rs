//! Everything on one thread, with handlers that share `Rc` state.
//!
//! Callosum's tasks run on an `Executor`, and tasks that are not `Send` on a `LocalExecutor`; one thread runs both.
//! Handlers must be `Send`, so they can't hold an `Rc`. They hand their arguments to a task that does.
//!
//! `cargo run -p callosum-examples --example single_thread`

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use callosum_smol::{Builder, Context, HandlerResult, SmolRuntime};
use smol::{Executor, LocalExecutor};

const TIMEOUT: Duration = Duration::from_secs(5);

/// How often each word was counted. Neither `Send` nor `Sync`, and no lock is needed.
type Counts = Rc<RefCell<BTreeMap<String, u32>>>;

/// What a handler hands to the task that has the state: its argument, and where the result goes.
struct Count {
    word: String,
    result: Sender<u32>,
}

/// Works on the state. Whatever this awaits, it need not be `Send` either: start a local task for each request, as here,
/// if one may not hold up the next.
async fn count(requests: Receiver<Count>, counts: Counts, local: Rc<LocalExecutor<'static>>) {
    while let Ok(Count { word, result }) = requests.recv().await {
        let counts = counts.clone();
        local
            .spawn(async move {
                smol::future::yield_now().await;
                let count = {
                    let mut counts = counts.borrow_mut();
                    let count = counts.entry(word).or_default();
                    *count += 1;
                    *count
                };
                // Fails if the call was cancelled: then its handler is gone.
                let _ = result.send(count).await;
            })
            .detach();
    }
}

async fn program(
    executor: Arc<Executor<'static>>,
    local: Rc<LocalExecutor<'static>>,
) -> Result<(), Box<dyn Error>> {
    let runtime = Arc::new(SmolRuntime::on(executor));
    let counts = Counts::default();
    let (requests, inbox) = async_channel::unbounded();
    let counting = local.spawn(count(inbox, counts.clone(), local.clone()));

    let handler = move |word: String, _: Context| {
        let requests = requests.clone();
        async move {
            assert_eq!(thread::current().name(), Some("main"), "handlers run on this thread too");
            let (result, counted) = async_channel::bounded(1);
            requests.send(Count { word, result }).await?;
            HandlerResult::Ok(counted.recv().await?)
        }
    };
    let (binder, driver) =
        Builder::new(runtime.clone()).handle("count", handler).bind("tcp://127.0.0.1:0").await?;
    let serving = local.spawn(driver);

    // Callers are ordinary futures: this one is not `Send`, as it holds an `Rc` while it waits for its reply.
    let (connector, driver) = Builder::new(runtime).connect(&binder.endpoints()[0])?;
    let calling = local.spawn(driver);
    let spoken = Rc::new(RefCell::new(Vec::new()));
    for word in ["to", "be", "or", "not", "to", "be"] {
        let spoken = spoken.clone();
        let count: u32 = connector.peer().invoke("count", word).timeout(TIMEOUT).await?;
        spoken.borrow_mut().push(format!("{word} {count}"));
    }
    println!("{}", spoken.borrow().join(", "));
    assert_eq!(*spoken.borrow(), ["to 1", "be 1", "or 1", "not 1", "to 2", "be 2"]);
    assert_eq!(counts.borrow()["be"], 2);

    connector.shutdown(TIMEOUT).await;
    binder.shutdown(TIMEOUT).await;
    calling.await?;
    serving.await?;
    // The binder's handlers held the last sender.
    drop(binder);
    counting.await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let executor = Arc::new(Executor::new());
    let local = Rc::new(LocalExecutor::new());
    let program = program(executor.clone(), local.clone());
    smol::block_on(executor.run(local.run(program)))
}
