//! Typed services: a trait, its client, and errors that are data.

use std::future::{IntoFuture, pending};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::service::{DESCRIBE, MethodDescription, ServiceError};
use callosum_runtime::stream::Items;
use callosum_runtime::{
    BodyReader, CallError, Codec, Context, Dialect, HandlerError, HandlerResult, InvokeError, Metadata,
    NotSent, OrderingMode, Peer, Refusal, service,
};
use futures_channel::oneshot;
use futures_util::{AsyncReadExt, FutureExt, Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rig::{Rig, SOON};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum AgentError {
    #[error("there is no image {image}")]
    NoSuchImage { image: String },
    #[error("{0} is there already")]
    Exists(String),
    #[error("the disk is full")]
    DiskFull,
    #[error("the image is corrupt")]
    Corrupt { layer: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Container {
    name: String,
    key: Option<String>,
    image: String,
}

/// What an agent does for its manager.
#[service]
trait Agent {
    /// Starts a container.
    #[method(key = container)]
    async fn start(
        &self,
        context: &Context,
        container: String,
        #[default = "nginx".into()] image: String,
        #[default] shares: u32,
    ) -> Result<Container, AgentError>;

    /// The containers, one by one, and then an error.
    async fn containers(
        &self,
        most: u32,
    ) -> Result<impl Stream<Item = Result<String, AgentError>>, AgentError>;

    /// The lines of a log.
    async fn logs(&self, container: String) -> Result<impl Stream<Item = String>, AgentError>;

    /// The bytes of a file.
    async fn download(&self, size: usize) -> impl Stream<Item = Bytes>;

    /// The bytes of a file that is broken.
    async fn export(&self) -> Result<impl Stream<Item = Result<Bytes, AgentError>>, AgentError>;

    /// How many bytes were stored.
    async fn upload(&self, name: String, data: impl Stream<Item = Bytes>) -> Result<u64, AgentError>;

    /// Sends the first bytes back, and reads no more.
    async fn head(&self, data: impl Stream<Item = Bytes>) -> impl Stream<Item = Bytes>;

    /// Adds up numbers.
    async fn sum(&self, numbers: impl Stream<Item = u64>) -> Result<u64, AgentError>;

    /// Sends lines back, louder.
    async fn shout(
        &self,
        mark: char,
        lines: impl Stream<Item = String>,
    ) -> HandlerResult<impl Stream<Item = String>>;

    /// Fails with an error that is not data, or panics.
    #[method(name = "break")]
    async fn go_wrong(&self, how: String) -> Result<(), AgentError>;

    /// Fails with what is no data.
    async fn fail(&self) -> HandlerResult<()>;

    async fn count(&self) -> usize;
}

/// Remembers what was started.
#[derive(Default)]
struct Docker {
    started: Mutex<Vec<String>>,
}

impl Agent for Docker {
    async fn start(
        &self,
        context: &Context,
        container: String,
        image: String,
        shares: u32,
    ) -> Result<Container, AgentError> {
        match &*image {
            "full" => return Err(AgentError::DiskFull),
            "nothing" => return Err(AgentError::NoSuchImage { image }),
            _ => {}
        }
        let mut started = self.started.lock();
        if started.contains(&container) {
            return Err(AgentError::Exists(container));
        }
        started.push(container.clone());
        let key = context.key().as_text().map(String::from);
        Ok(Container { name: container, key, image: format!("{image}:{shares}") })
    }

    async fn containers(
        &self,
        most: u32,
    ) -> Result<impl Stream<Item = Result<String, AgentError>>, AgentError> {
        if most == 0 {
            return Err(AgentError::NoSuchImage { image: "none".into() });
        }
        let started: Vec<_> = self.started.lock().iter().take(most as usize).cloned().map(Ok).collect();
        Ok(stream::iter(started).chain(stream::iter([Err(AgentError::DiskFull)])))
    }

    async fn logs(&self, container: String) -> Result<impl Stream<Item = String>, AgentError> {
        let lines: u64 = match &*container {
            "silent" => 0,
            "endless" => u64::MAX,
            _ => 3,
        };
        // Borrows the agent while it streams.
        Ok(stream::iter(0..lines).map(move |n| format!("{container} {n} {}", self.started.lock().len())))
    }

    async fn download(&self, size: usize) -> impl Stream<Item = Bytes> {
        let chunk = Bytes::from(vec![7; 10_000]);
        stream::iter((0..size).step_by(chunk.len())).map(move |at| chunk.slice(..chunk.len().min(size - at)))
    }

    async fn export(&self) -> Result<impl Stream<Item = Result<Bytes, AgentError>>, AgentError> {
        Ok(stream::iter([Ok(Bytes::from_static(b"beginning")), Err(AgentError::Corrupt { layer: vec![1] })]))
    }

    async fn upload(&self, name: String, data: BodyReader) -> Result<u64, AgentError> {
        if name == "refused" {
            return Err(AgentError::Exists(name));
        }
        let sizes = data.map_ok(|bytes| bytes.len() as u64);
        sizes.try_fold(0, |sum, size| async move { Ok(sum + size) }).await.map_err(|_| AgentError::DiskFull)
    }

    async fn head(&self, mut data: BodyReader) -> impl Stream<Item = Bytes> {
        stream::iter(data.try_next().await.ok().flatten())
    }

    async fn sum(&self, numbers: Items<u64>) -> Result<u64, AgentError> {
        numbers.try_fold(0, |sum, n| async move { Ok(sum + n) }).await.map_err(|_| AgentError::DiskFull)
    }

    async fn shout(&self, mark: char, lines: Items<String>) -> HandlerResult<impl Stream<Item = String>> {
        Ok(lines.map(move |line| format!("{}{mark}", line.expect("the caller goes on").to_uppercase())))
    }

    async fn go_wrong(&self, how: String) -> Result<(), AgentError> {
        match &*how {
            "large" => Err(AgentError::Corrupt { layer: vec![7; 40_000] }),
            _ => panic!("{how}"),
        }
    }

    async fn fail(&self) -> HandlerResult<()> {
        Err(HandlerError::new("Broken", "it is broken"))
    }

    async fn count(&self) -> usize {
        self.started.lock().len()
    }
}

fn failed<T: std::fmt::Debug>(result: Result<T, ServiceError<AgentError>>) -> AgentError {
    match result {
        Err(ServiceError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Arguments, results and errors come back as themselves, in both codecs and both directions; the key is an argument.
pub async fn values_and_errors(rig: Rig) {
    for codec in [Codec::Json, Codec::MsgPack] {
        let builder = || rig.builder().codec(codec.clone()).serve(Docker::default().into_service());
        let pair = rig.pair(builder(), builder()).await;
        for peer in [pair.peer(), &pair.back] {
            let agent = AgentClient::new(peer.clone());
            let start = |name: &str, image: &str| agent.start(name.into(), image.into(), 2).timeout(SOON);
            let container = start("web", "größe").await.expect("it starts");
            let expected =
                Container { name: "web".into(), key: Some("web".into()), image: "größe:2".into() };
            assert_eq!(container, expected);
            assert_eq!(failed(start("db", "full").await), AgentError::DiskFull);
            let missing = AgentError::NoSuchImage { image: "nothing".into() };
            assert_eq!(failed(start("db", "nothing").await), missing);
            assert_eq!(failed(start("web", "nginx").await), AgentError::Exists("web".into()));
            let container = start("db", "nginx").key("another").await.expect("it starts");
            assert_eq!(container.key.as_deref(), Some("another"), "the caller has the last word");
            assert_eq!(agent.count().await.expect("it answers"), 2);
            let error = agent.fail().await.expect_err("it is broken");
            assert!(matches!(&error, CallError::Remote(info) if &*info.name == "Broken"), "{error:?}");
        }
        pair.end().await;
    }
}

/// What a peer sees that knows nothing of services: arguments by name, and the name and text of an error.
pub async fn by_hand(rig: Rig) {
    let pair = rig.pair(rig.builder().serve(Docker::default().into_service()), rig.builder()).await;
    let start = async |arguments: Value| pair.peer().invoke::<_, Container>("Agent.start", &arguments).await;
    let container = start(json!({"container": "web", "unknown": [1], "shares": 7})).await.expect("it starts");
    assert_eq!(container, Container { name: "web".into(), key: None, image: "nginx:7".into() });
    let container = start(json!({"image": "i", "container": "db"})).await.expect("it starts");
    assert_eq!(container.image, "i:0");
    for wrong in [json!({}), json!({"container": 7}), json!(7), json!({"container": "a", "shares": -1})] {
        let error = start(wrong).await.expect_err("no such arguments");
        assert_eq!(error.refusal(), Some(Refusal::InvalidArgument), "{error:?}");
    }
    // A method without arguments takes nothing for them.
    for nothing in [json!(null), json!({}), json!({"unknown": 1})] {
        pair.peer().invoke::<_, usize>("Agent.count", &nothing).await.expect("it counts");
    }
    for wrong in [json!([1]), json!(7)] {
        let error = pair.peer().invoke::<_, usize>("Agent.count", &wrong).await.expect_err("no arguments");
        assert_eq!(error.refusal(), Some(Refusal::InvalidArgument), "{error:?}");
    }
    let error = start(json!(null)).await.expect_err("not even a map").to_string();
    assert!(error.contains("expected a map of the arguments by their names"), "{error}");
    let error = start(json!({"container": "x", "image": "nothing"})).await.expect_err("no such image");
    let CallError::Remote(info) = error else { panic!("{error:?}") };
    assert_eq!((&*info.name, &*info.repr), ("NoSuchImage", "there is no image nothing"));
    assert_eq!(&*info.traceback, r#"callosum-data text {"NoSuchImage":{"image":"nothing"}}"#);
    let error = pair.peer().with_codec(Codec::MsgPack);
    // A method may have another name than its function.
    let error = error.invoke::<_, ()>("Agent.break", &json!({"how": "?"})).await.expect_err("not JSON");
    assert_eq!(error.refusal(), Some(Refusal::InvalidArgument), "{error:?}");
    pair.end().await;
}

/// Failures that are not of the declared type, or that lose their data, are those of an ordinary call.
pub async fn other_failures(rig: Rig) {
    let pair = rig.pair(rig.builder().serve(Docker::default().into_service()), rig.builder()).await;
    let agent = AgentClient::new(pair.peer().clone());
    for (how, name) in [("at once", "Panic"), ("large", "Corrupt")] {
        let error = agent.go_wrong(how.into()).await.expect_err("it goes wrong");
        assert!(error.may_have_run());
        let ServiceError::Call(CallError::Remote(info)) = error else { panic!("{error:?}") };
        assert_eq!(&*info.name, name);
    }
    pair.binder.handlers().remove("Agent.break");
    let error = agent.go_wrong(String::new()).await.expect_err("there is no such method");
    assert!(!error.may_have_run());
    let ServiceError::Call(error) = error else { panic!("{error:?}") };
    assert_eq!(error.refusal(), Some(Refusal::NoSuchMethod));
    pair.end().await;
}

/// Items come one by one, bytes as they are; an error before them, among them or after them is the declared one.
pub async fn streamed_results(rig: Rig) {
    let docker = Arc::new(Docker::default());
    let pair = rig.pair(rig.builder().serve(docker.clone().into_service()), rig.builder()).await;
    let agent = AgentClient::new(pair.peer().clone());
    let lines: Vec<String> = agent
        .logs("web".into())
        .timeout(SOON)
        .await
        .expect("it begins")
        .try_collect()
        .await
        .expect("it is complete");
    assert_eq!(lines, ["web 0 0", "web 1 0", "web 2 0"]);
    let mut silent = agent.logs("silent".into()).await.expect("it begins");
    assert!(silent.next().await.is_none(), "a stream may have no items");

    docker.started.lock().extend(["web".into(), "db".into()]);
    assert_eq!(failed(agent.containers(0).await), AgentError::NoSuchImage { image: "none".into() });
    let containers: Vec<_> =
        agent.containers(1).await.expect("it begins").try_collect().await.expect("it is complete");
    assert_eq!(containers, [Ok("web".to_owned()), Err(AgentError::DiskFull)], "an item may be an error");

    for size in [0, 25_000, 1 << 20] {
        let mut bytes = Vec::new();
        let mut file = agent.download(size).await.expect("it begins");
        file.read_to_end(&mut bytes).await.expect("it is complete");
        assert_eq!((bytes.len(), bytes.iter().all(|byte| *byte == 7)), (size, true));
    }
    // Bytes are complete, or an error. It may come before the first of them is read.
    let error = async { agent.export().await?.try_for_each(|_| std::future::ready(Ok(()))).await };
    assert_eq!(failed(error.await), AgentError::Corrupt { layer: vec![1] });
    pair.end().await;
}

/// A caller that drops the stream stops its handler.
pub async fn dropped_results(rig: Rig) {
    let pair = rig.pair(rig.builder().serve(Docker::default().into_service()), rig.builder()).await;
    let agent = AgentClient::new(pair.peer().clone());
    let mut lines = agent.logs("endless".into()).await.expect("it begins");
    assert_eq!(lines.next().await.expect("there are more").expect("there are more"), "endless 0 0");
    assert_eq!(pair.back.stats().requests_running, 1);
    drop(lines);
    rig.until(|| pair.back.stats().requests_running == 0).await;
    pair.end().await;
}

/// Streams of items and of bytes go up, without a task that writes them.
pub async fn streamed_arguments(rig: Rig) {
    let pair = rig.pair(rig.builder().serve(Docker::default().into_service()), rig.builder()).await;
    let agent = AgentClient::new(pair.peer().clone());
    assert_eq!(agent.sum(stream::iter(1..=1_000)).await.expect("they are added up"), 500_500);
    assert_eq!(agent.sum(stream::empty()).await.expect("there are none"), 0);
    let file = || stream::repeat(Bytes::from(vec![1; 50_000])).take(40);
    assert_eq!(agent.upload("image".into(), file()).timeout(SOON).await.expect("it is stored"), 2_000_000);
    // The caller gets the error although the handler has not read the file.
    let endless = stream::repeat(Bytes::from(vec![1; 50_000]));
    assert_eq!(failed(agent.upload("refused".into(), endless).await), AgentError::Exists("refused".into()));
    // The argument is dropped once the result has been read, though its handle still exists.
    let (sender, dropped) = oneshot::channel::<()>();
    let data = stream::once(async { Bytes::from_static(b"head") }).chain(stream::once(async move {
        let _until_it_is_dropped = sender;
        pending().await
    }));
    let mut head = agent.head(data).await.expect("it begins");
    let mut read = Vec::new();
    head.read_to_end(&mut read).await.expect("it is complete");
    assert_eq!((&*read, dropped.now_or_never()), (&b"head"[..], Some(Err(oneshot::Canceled))));
    drop(head);
    // A caller that sends no stream has an empty one.
    let sum = pair.peer().invoke::<_, u64>("Agent.sum", &json!({})).await.expect("it answers");
    assert_eq!(sum, 0);
    pair.end().await;
}

/// Both ways at once: more than any buffer holds, and each line only when the one before is back.
pub async fn both_ways(rig: Rig) {
    let pair = rig.pair(rig.builder().serve(Docker::default().into_service()), rig.builder()).await;
    let agent = AgentClient::new(pair.peer().clone());
    let (say, lines) = async_channel::bounded(1);
    let mut echo = agent.shout('!', lines).await.expect("it begins");
    for n in 0..10 {
        say.send(format!("line {n}")).await.expect("it is read");
        assert_eq!(echo.next().await.expect("it comes back").expect("it comes back"), format!("LINE {n}!"));
    }
    say.close();
    assert!(echo.next().await.is_none());
    let many = stream::iter(0..2_000).map(|n| format!("{n} {}", "x".repeat(1_000)));
    let echo: Vec<String> =
        agent.shout('?', many).await.expect("it begins").try_collect().await.expect("it is complete");
    assert_eq!(echo.len(), 2_000);
    assert!(
        echo.iter().enumerate().all(|(n, line)| line.starts_with(&format!("{n} X")) && line.ends_with("X?"))
    );
    pair.end().await;
}

/// Streams do not travel in dialect 1, and both sides are told.
pub async fn streams_in_dialect_1(rig: Rig) {
    let binder = rig.builder().dialect(Dialect::One).serve(Docker::default().into_service());
    let pair = rig.pair(binder, rig.builder()).await;
    let agent = AgentClient::new(pair.peer().clone());
    let error = agent.sum(stream::empty()).await.expect_err("an argument can't be streamed");
    let needs = CallError::NotSent(NotSent::Refused(InvokeError::NeedsDialect2)).to_string();
    assert_eq!(error.to_string(), needs);
    let ServiceError::Call(error) = agent.logs("web".into()).await.expect_err("a result can't either") else {
        panic!("no agent's error")
    };
    assert_eq!(error.refusal(), Some(Refusal::Unsupported));
    assert_eq!(failed(agent.containers(0).await), AgentError::NoSuchImage { image: "none".into() });
    pair.end().await;
}

/// A service on live handlers: all of it, or nothing.
pub async fn live_handlers(rig: Rig) {
    let pair = rig.pair(rig.builder(), rig.builder()).await;
    let handlers = pair.binder.handlers();
    handlers.add("Agent.sum", |(): (), _| async { HandlerResult::Ok(()) }).expect("a new name");
    let error = handlers.serve(Docker::default().into_service()).expect_err("a name is taken");
    assert_eq!((error.name(), handlers.names()), ("Agent.sum", vec!["Agent.sum".to_owned()]));
    handlers.remove("Agent.sum");
    let docker = Arc::new(Docker::default());
    let service = docker.clone().into_service();
    let names = [
        "start",
        "containers",
        "logs",
        "download",
        "export",
        "upload",
        "head",
        "sum",
        "shout",
        "break",
        "fail",
        "count",
    ];
    assert_eq!(service.names().collect::<Vec<_>>(), names.map(|name| format!("Agent.{name}")));
    handlers.serve(service).expect("the names are free");
    docker.started.lock().push("web".into());
    let agent = AgentClient::new(pair.peer().clone());
    assert_eq!(agent.count().await.expect("it answers"), 1, "the state is shared");
    pair.end().await;
    assert_eq!(Arc::strong_count(&docker), 1, "nothing is left");
}

/// The manager's side of the same connection.
#[service(prefix = "", codec = Codec::MsgPack, args_kwargs)]
trait Manager {
    /// An agent says what it does. Its name is by default its peer's.
    async fn progress(
        &self,
        context: &Context,
        percent: u8,
        #[default] note: Option<String>,
        by: Option<String>,
    ) -> Result<String, AgentError>;

    #[method(name = "pull")]
    async fn pull_on(
        &self,
        context: &Context,
        image: String,
        #[serde(rename = "type")]
        #[default = 3]
        kind: u8,
    ) -> Result<String, AgentError>;

    async fn nodes(&self) -> usize;
}

struct Watcher;

impl Manager for Watcher {
    async fn progress(
        &self,
        _: &Context,
        percent: u8,
        note: Option<String>,
        by: Option<String>,
    ) -> Result<String, AgentError> {
        Ok(format!("{percent} {note:?} {by:?}"))
    }

    async fn pull_on(&self, context: &Context, image: String, kind: u8) -> Result<String, AgentError> {
        match kind {
            // Its caller does the rest, with the same trait.
            0 => Err(AgentError::NoSuchImage { image }),
            _ => {
                let pulled = ManagerClient::new(context.peer().clone()).pull_on(image, kind - 1).await;
                pulled.map_err(|error| error.failed().unwrap_or(AgentError::DiskFull))
            }
        }
    }

    async fn nodes(&self) -> usize {
        3
    }
}

/// One trait on both ends: a call goes to and fro, and its error comes all the way back.
pub async fn both_ends(rig: Rig) {
    let builder = || {
        rig.builder().ordering(OrderingMode::KeySerialized).max_concurrency(1).serve(Watcher.into_service())
    };
    let pair = rig.pair(builder(), builder()).await;
    for peer in [pair.peer(), &pair.back] {
        let manager = ManagerClient::new(peer.clone());
        let error = failed(manager.pull_on("nginx".into(), 5).timeout(SOON).await);
        assert_eq!(error, AgentError::NoSuchImage { image: "nginx".into() });
    }
    pair.end().await;
}

/// Arguments by position and by name, as some Python services send them, in the service's own codec.
pub async fn args_kwargs(rig: Rig) {
    let pair = rig.pair(rig.builder().serve(Watcher.into_service()), rig.builder()).await;
    let manager = ManagerClient::new(pair.peer().clone());
    let said = manager.progress(50, Some("half".into()), None).await.expect("it is said");
    assert_eq!(said, r#"50 Some("half") None"#);
    let peer = pair.peer().with_codec(Codec::MsgPack);
    let say = async |body: Value| peer.invoke::<_, String>("progress", &body).await;
    for (body, said) in [
        (json!({"args": [7], "kwargs": {}}), "7 None None"),
        (json!({"kwargs": {"by": "me", "percent": 8}, "args": []}), r#"8 None Some("me")"#),
        (json!({"args": [9, null, "me"]}), r#"9 None Some("me")"#),
        (json!({"kwargs": {"percent": 1, "other": 2}, "more": 3}), "1 None None"),
        (json!({"args": [2], "kwargs": {"note": "n"}}), r#"2 Some("n") None"#),
    ] {
        assert_eq!(say(body).await.expect("it is said"), said);
    }
    for (wrong, why) in [
        (json!({"args": [1], "kwargs": {"percent": 1}}), "`percent` is given by position and by name"),
        (json!({"args": [], "kwargs": {}}), "the argument `percent` is missing"),
        (json!({"args": [1, "a", "b", "c"]}), ""),
        (json!({"args": ["a"]}), ""),
        (json!({"kwargs": {"percent": null}}), ""),
    ] {
        let error = say(wrong.clone()).await.expect_err("no such arguments");
        assert_eq!(error.refusal(), Some(Refusal::InvalidArgument), "{wrong}: {error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let body = json!({"args": ["nginx"], "kwargs": {"type": 0}});
    let error = peer.invoke::<_, ()>("pull", &body).await.expect_err("it says so");
    assert!(matches!(&error, CallError::Remote(info) if &*info.name == "NoSuchImage"), "{error:?}");
    // There may be nothing where there is no argument.
    assert_eq!(manager.nodes().await.expect("it answers"), 3);
    for body in [json!(null), json!({}), json!({"args": [], "kwargs": {"unknown": 1}})] {
        assert_eq!(peer.invoke::<_, usize>("nodes", &body).await.expect("it answers"), 3, "{body}");
    }
    for body in [json!({"args": [1]}), json!([1]), json!(1)] {
        let error = peer.invoke::<_, usize>("nodes", &body).await.expect_err("there is no argument");
        assert_eq!(error.refusal(), Some(Refusal::InvalidArgument), "{body}: {error:?}");
    }
    pair.end().await;
}

/// Options of ordinary calls hold for those of a client.
pub async fn options(rig: Rig) {
    let pair = rig.pair(rig.builder().serve(Docker::default().into_service()), rig.builder()).await;
    let agent = AgentClient::new(pair.peer().clone());
    let call = agent.logs("endless".into()).timeout(Duration::from_millis(20));
    let mut lines = call.await.expect("it begins");
    // It is read until its time is over.
    let error = loop {
        match lines.next().await.expect("it does not end by itself") {
            Ok(_) => rig.pause(Duration::from_millis(1)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ServiceError::Call(CallError::TimedOut { sent: true })), "{error:?}");
    let mut metadata = Metadata::new();
    metadata.insert("trace", "1").expect("it is small");
    let started = agent.start("a".into(), "nginx".into(), 1).metadata(metadata).send_with_metadata().await;
    assert!(started.expect("it starts").1.is_empty());
    // A call owns what it needs.
    let counting = agent.count().into_future();
    drop(agent);
    assert_eq!(rig.spawn(counting).join().await.expect("it answers"), 1);
    pair.end().await;
}

/// A peer that passes a call on passes its error on as well, data included.
pub async fn relayed(rig: Rig) {
    let far = rig.pair(rig.builder().serve(Docker::default().into_service()), rig.builder()).await;
    let target: Peer = far.peer().clone();
    let relay = move |body: Bytes, context: Context| {
        let call = target.invoke_raw(context.method(), body);
        async move { call.await.map_err(HandlerError::relay) }
    };
    let near = rig.pair(rig.builder().fallback(relay), rig.builder()).await;
    let agent = AgentClient::new(near.peer().clone());
    let error = failed(agent.start("web".into(), "nothing".into(), 1).await);
    assert_eq!(error, AgentError::NoSuchImage { image: "nothing".into() });
    near.end().await;
    far.end().await;
}

/// Adds.
#[service(schema)]
trait Math {
    /// Adds two numbers.
    ///
    /// Wraps.
    #[method(key = a)]
    async fn add(&self, a: i32, #[default = 2] b: i32) -> i32;
}

struct Adder;

impl Math for Adder {
    async fn add(&self, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
}

/// An endpoint tells of its services if its builder says so, and only of those that are there.
pub async fn described(rig: Rig) {
    let silent = rig.builder().serve(Adder.into_service());
    let pair =
        rig.pair(rig.builder().serve(Docker::default().into_service()).describe_services(), silent).await;
    let describe = async |peer: &Peer| peer.invoke::<_, Vec<MethodDescription>>(DESCRIBE, &json!({})).await;
    let error = describe(&pair.back).await.expect_err("it does not say so");
    assert_eq!(error.refusal(), Some(Refusal::NoSuchMethod));
    let handlers = pair.binder.handlers();
    handlers.serve(Adder.into_service()).expect("a new name");
    let methods = describe(pair.peer()).await.expect("it says so");
    let names: Vec<_> = methods.iter().map(|method| &*method.name).collect();
    let mut served = handlers.names();
    served.retain(|name| name != DESCRIBE);
    assert_eq!(names, served, "sorted, and without itself");

    let find = |name: &str| methods.iter().find(|method| method.name == name).expect("it is there");
    let start = find("Agent.start");
    assert_eq!((&*start.docs, start.key.as_deref()), ("Starts a container.", Some("container")));
    assert_eq!((&*start.result, start.error.as_deref()), ("Container", Some("AgentError")));
    let arguments: Vec<_> = start
        .arguments
        .iter()
        .map(|argument| (&*argument.name, &*argument.type_name, argument.required))
        .collect();
    assert_eq!(
        arguments,
        [("container", "String", true), ("image", "String", false), ("shares", "u32", false)]
    );
    let containers = find("Agent.containers");
    assert_eq!((&*containers.result, containers.streamed_result), ("Result<String, AgentError>", true));
    assert_eq!(find("Agent.upload").streamed_argument.as_deref(), Some("Bytes"));
    assert_eq!(start.arguments_schema, None, "nobody has asked for it");

    let add = find("Math.add");
    assert_eq!(add.docs, "Adds two numbers.\n\nWraps.");
    let schema: Value = serde_json::from_str(add.arguments_schema.as_ref().expect("a schema")).expect("JSON");
    assert_eq!((&schema["title"], &schema["required"]), (&json!("Arguments of Math.add"), &json!(["a"])));
    assert_eq!(
        (&schema["properties"]["a"]["format"], &schema["properties"]["b"]["default"]),
        (&json!("int32"), &json!(2))
    );
    let schema: Value = serde_json::from_str(add.result_schema.as_ref().expect("a schema")).expect("JSON");
    assert_eq!(schema["type"], "integer");

    handlers.remove("Math.add");
    let methods = describe(pair.peer()).await.expect("it says so");
    assert!(methods.iter().all(|method| method.name != "Math.add"));
    assert_eq!(MathClient::new(pair.back.clone()).add(40, 2).await.expect("it adds"), 42);
    pair.end().await;
}
