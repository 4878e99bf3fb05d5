//! The manager, the agents, and what they answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use callosum_runtime::{
    Binder, Builder, Connector, Context, Driver, Endpoint, HandlerError, HandlerResult, Peer, PeerId,
};
use futures_util::future::{JoinAll, join_all};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::calls::{AGENTS, Row, verbs};
use super::log::Log;
use crate::executor::Executor;
use crate::exit::Failure;

/// How long `watch` runs unless it is cancelled.
pub(super) const WATCH: Duration = Duration::from_secs(60);

/// How long `save` takes.
pub(super) const SAVE: Duration = Duration::from_millis(700);

pub(super) struct Team {
    pub(super) manager: Binder,
    pub(super) agents: Vec<Connector>,
    /// The agents that registered with the manager.
    pub(super) registered: Arc<Mutex<BTreeMap<String, PeerId>>>,
    /// Events of the handlers of both sides, in order.
    pub(super) trace: async_channel::Receiver<Traced>,
    pub(super) watch: async_channel::Receiver<Watch>,
    pub(super) log: Arc<Log>,
}

/// A message as its handler, or its caller inside of a handler, saw it.
pub(super) struct Traced {
    pub(super) from: &'static str,
    pub(super) arrow: &'static str,
    pub(super) to: &'static str,
    pub(super) text: String,
}

/// The progress of a running `watch`.
#[derive(Debug, PartialEq)]
pub(super) enum Watch {
    Started,
    /// It ended, or its future was dropped.
    Over(Instant),
}

#[derive(Deserialize, Serialize)]
pub(super) struct Name {
    pub(super) name: String,
}

#[derive(Deserialize, Serialize)]
pub(super) struct Image {
    pub(super) image: String,
}

#[derive(Deserialize, Serialize)]
struct Progress {
    percent: u32,
}

/// Why `mount` always fails, with a cause of its own.
#[derive(Debug, thiserror::Error)]
#[error("can't mount volume `{volume}`")]
struct MountError {
    volume: &'static str,
    source: std::io::Error,
}

struct Tracer(async_channel::Sender<Traced>);

impl Tracer {
    fn tell(&self, from: &'static str, arrow: &'static str, to: &'static str, text: impl Into<String>) {
        // The channel is unbounded; it is closed only when the demonstration is over.
        let _ = self.0.try_send(Traced { from, arrow, to, text: text.into() });
    }
}

impl Team {
    /// Binds the manager and connects the agents. The drivers make them go.
    pub(super) async fn assemble(executor: Executor) -> Result<(Self, JoinAll<Driver>), Failure> {
        let (tracer, trace) = async_channel::unbounded();
        let tracer = Arc::new(Tracer(tracer));
        let (watched, watch) = async_channel::unbounded();
        let registered = Arc::default();
        let log = Arc::new(Log::default());
        let manager = manage(executor.builder(), &registered, &tracer);
        let (manager, driver) = manager.bind("tcp://127.0.0.1:0").await?;
        let mut drivers = vec![driver];
        let mut agents = Vec::new();
        for (index, (_, mode)) in AGENTS.into_iter().enumerate() {
            let builder = executor.builder().ordering(mode).expose_tracebacks(true);
            let builder = add_work(builder, executor, index, &log);
            let builder = add_watch(builder, executor, &watched);
            let builder = add_deploy(builder, &tracer);
            let (agent, driver) = builder.connect(&manager.endpoints()[0])?;
            agents.push(agent);
            drivers.push(driver);
        }
        Ok((Self { manager, agents, registered, trace, watch, log }, join_all(drivers)))
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.manager.endpoints()[0].clone()
    }

    /// The manager's handle to an agent that has registered.
    pub(super) fn agent(&self, name: &str) -> Option<Peer> {
        let registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        self.manager.peer(*registered.get(name)?)
    }
}

/// The manager's methods.
fn manage(
    builder: Builder,
    registered: &Arc<Mutex<BTreeMap<String, PeerId>>>,
    tracer: &Arc<Tracer>,
) -> Builder {
    let (registered, tracer) = (registered.clone(), tracer.clone());
    let builder = builder.handle("register", move |args: Name, context: Context| {
        let mut registered = registered.lock().unwrap_or_else(PoisonError::into_inner);
        registered.insert(args.name, context.peer().id());
        std::future::ready(HandlerResult::Ok(registered.len()))
    });
    builder.handle("fetch", move |args: Image, context: Context| {
        let tracer = tracer.clone();
        async move {
            tracer.tell("manager", "->", "alpha", "    progress {\"percent\": 50}     called by fetch");
            let noted: String = context.peer().invoke("progress", &Progress { percent: 50 }).await?;
            tracer.tell("manager", "<-", "alpha", format!("    {noted:?}"));
            HandlerResult::Ok(format!("layers of {}", args.image))
        }
    })
}

/// `deploy` calls the manager back, which calls this agent back.
fn add_deploy(builder: Builder, tracer: &Arc<Tracer>) -> Builder {
    let tracer = tracer.clone();
    let builder = builder.handle("deploy", move |args: Image, context: Context| {
        let tracer = tracer.clone();
        async move {
            let text = format!("  fetch {{\"image\": {:?}}}         called by deploy", args.image);
            tracer.tell("alpha", "->", "manager", text);
            let layers: String = context.peer().invoke("fetch", &args).await?;
            tracer.tell("alpha", "<-", "manager", format!("  {layers:?}"));
            HandlerResult::Ok(format!("{} runs", args.image))
        }
    });
    let builder = builder.handle("progress", |args: Progress, _| {
        std::future::ready(HandlerResult::Ok(format!("{}% noted", args.percent)))
    });
    builder.handle("mount", |_: IgnoredAny, _| {
        let source = std::io::Error::other("the disk is on fire");
        std::future::ready(Err::<(), HandlerError>(MountError { volume: "data", source }.into()))
    })
}

/// `watch` runs for long, and tells when it starts and when it is over; `save` runs for a moment.
fn add_watch(builder: Builder, executor: Executor, watched: &async_channel::Sender<Watch>) -> Builder {
    struct Over(async_channel::Sender<Watch>);

    impl Drop for Over {
        fn drop(&mut self) {
            // Fails if the demonstration is over.
            let _ = self.0.try_send(Watch::Over(Instant::now()));
        }
    }

    let watched = watched.clone();
    let builder = builder.handle("watch", move |_: IgnoredAny, _| {
        let over = Over(watched.clone());
        async move {
            let _ = over.0.try_send(Watch::Started);
            executor.sleep(WATCH).await;
            HandlerResult::Ok("watched for a minute")
        }
    });
    let watchless = |_: IgnoredAny, _| std::future::ready(HandlerResult::Ok("up"));
    let builder = builder.handle("uptime", watchless);
    builder.handle("save", move |_: IgnoredAny, _| async move {
        executor.sleep(SAVE).await;
        HandlerResult::Ok("saved")
    })
}

/// The methods that the ordering modes are compared with.
fn add_work(mut builder: Builder, executor: Executor, agent: usize, log: &Arc<Log>) -> Builder {
    for verb in verbs() {
        let log = log.clone();
        builder = builder.handle(verb, move |row: Row, _| {
            let log = log.clone();
            async move {
                log.work(executor, agent, row).await;
                HandlerResult::Ok(())
            }
        });
    }
    builder
}
