//! Protocol Buffers: a service, its client, and statuses.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_protobuf::framing::to_item;
use callosum_protobuf::prost::{Message, encode_length_delimiter};
use callosum_protobuf::{Code, Request, Response, Status, Streaming, prost_types};
use callosum_runtime::service::{DESCRIBE, MethodDescription};
use callosum_runtime::{
    BodyReader, Builder, CallError, Context, ErrorInfo, HandlerError, HandlerResult, Metadata, Method,
    Refusal, Responder,
};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use crate::proto::limited::{Text, Twice, TwiceClient};
use crate::proto::packages::tests::fleet::v1::jobs::{Job, Jobs, JobsClient};
use crate::proto::packages::tests::fleet::v1::node::State;
use crate::proto::packages::tests::fleet::v1::{self, Fleet};
use crate::proto::packages::{Bare, BareClient, Plain};
use crate::proto::{
    Agent, AgentClient, Container, Docker, Everything, Failure, IMAGE, Line, LogsRequest, NoSuchImage, Piece,
    StartRequest, Uploaded, everything, no_such_image,
};
use crate::rig::{Pair, Rig, SOON};

const START: &str = "tests.agent.v1.Agent/Start";
const PACK: &str = "tests.agent.v1.Agent/Pack";

fn serving(rig: &Rig) -> Builder {
    rig.builder().serve(Docker.into_service())
}

async fn served(rig: &Rig) -> (Pair, AgentClient) {
    let pair = rig.pair(serving(rig), rig.builder()).await;
    let agent = AgentClient::new(pair.peer().clone());
    (pair, agent)
}

fn start(container: &str, image: &str) -> StartRequest {
    StartRequest { container: container.into(), image: image.into() }
}

/// The code of an error, and whether the handler may have run.
fn told<T>(result: Result<T, Status>) -> (Code, bool) {
    let status = result.err().expect("it fails");
    (status.code(), status.may_have_run())
}

/// Messages, keys, deadlines and metadata arrive; the same trait is served on both ends, by a builder and on live handlers.
pub async fn messages_either_way(rig: Rig) {
    let pair = rig.pair(serving(&rig), rig.builder()).await;
    let agent = Arc::new(Docker);
    pair.connector.handlers().serve(agent.clone().into_service()).expect("the names are free");
    pair.connector.handlers().serve(agent.into_service()).expect_err("the names are taken");
    for peer in [pair.peer(), &pair.back] {
        let agent = AgentClient::new(peer.clone());
        let mut metadata = Metadata::new();
        metadata.insert("request-id", "42").expect("it is small");
        let request = start("web", IMAGE);
        let call = agent.start(&request).key("web").timeout(SOON).metadata(metadata);
        let (container, metadata) = call.send_with_metadata().await.expect("it starts");
        let started = Some(prost_types::Timestamp { seconds: 7, nanos: 0 });
        let (name, image, key) = ("web".into(), IMAGE.into(), "web".into());
        assert_eq!(container, Container { name, image, key, has_deadline: true, started });
        assert_eq!(metadata.get("answers").map(|id| &id[..]), Some(&b"42"[..]));
        let container = agent.start(&request).no_timeout().await.expect("it starts");
        assert_eq!((&*container.key, container.has_deadline), ("", false));

        let packed = agent.pack(&everything()).await.expect("it is packed");
        assert_eq!(packed.type_url, "type.googleapis.com/tests.agent.v1.Everything");
        assert_eq!(packed.to_msg::<Everything>().expect("it is that"), everything());
    }
    // The names of methods are those of gRPC, and bodies are messages.
    let body = start("db", IMAGE).encode_to_vec();
    let raw = pair.peer().invoke_raw(START, body).await.expect("it starts");
    assert_eq!(Container::decode(raw).expect("it is one").name, "db");
    pair.end().await;
}

/// What a method fails with comes back as it was, and may be passed on.
pub async fn statuses(rig: Rig) {
    let (pair, agent) = served(&rig).await;
    let status = agent.start(&start("web", "größe")).await.expect_err("there is no such image");
    assert_eq!(status, no_such_image("größe"));
    assert_eq!(status.detail::<NoSuchImage>().expect("it is there").image, "größe");
    assert_eq!(status.detail::<prost_types::Duration>().expect("it is there").nanos, 7);
    assert!(status.detail::<Line>().is_none() && status.may_have_run());
    for code in Code::ALL {
        let failure = Failure { code: code.number(), message: "so".into(), ..Failure::default() };
        let status = agent.fail(&failure).await.expect_err("it fails");
        let code = if *code == Code::Ok { Code::Unknown } else { *code };
        assert_eq!(status, Status::new(code, "so"));
    }
    // A peer that knows nothing of statuses has the name and the text.
    let error = pair.peer().invoke_raw(START, Bytes::new()).await;
    let Err(CallError::Remote(info)) = error else { panic!("{error:?}") };
    assert_eq!((&*info.name, &*info.repr), ("NOT_FOUND", "there is no image "));
    assert!(info.traceback.starts_with("callosum-data base64 "), "{}", info.traceback);
    // Over 64 KiB the details stay behind.
    let detail = prost_types::Any { type_url: "large".into(), value: vec![7; 60_000] };
    let failure = Failure { code: 10, message: "large".into(), details: vec![detail], panic: false };
    assert_eq!(agent.fail(&failure).await.expect_err("it fails"), Status::aborted("large"));

    let failure = Failure { message: "at once".into(), panic: true, ..Failure::default() };
    let status = agent.fail(&failure).await.expect_err("it panics");
    assert_eq!((status.code(), status.may_have_run()), (Code::Unknown, true));
    assert!(
        matches!(status.call_error(), Some(CallError::Remote(_))) && status.message().contains("at once")
    );
    pair.end().await;
}

/// What the transport makes of a call has the code of gRPC.
pub async fn statuses_of_the_transport(rig: Rig) {
    let (pair, agent) = served(&rig).await;
    let timeout = agent.start(&start("web", "slow")).timeout(Duration::from_millis(20));
    assert_eq!(told(timeout.await).0, Code::DeadlineExceeded);
    rig.until(|| pair.back.stats().requests_running == 0).await;
    let slow = agent.clone();
    let call = rig.spawn(async move { slow.start(&start("web", "slow")).await });
    rig.until(|| pair.back.stats().requests_running == 1).await;
    pair.back.disconnect();
    assert_eq!(told(call.join().await), (Code::Unavailable, true));

    // A server of something else, and then of nothing.
    let answer = async |_: Bytes, _: Context| HandlerResult::Ok(Bytes::from_static(b"\xff"));
    pair.binder.handlers().replace(START, Method::raw(answer));
    assert_eq!(told(agent.start(&start("web", IMAGE)).await), (Code::Internal, true));
    pair.binder.handlers().remove(START);
    assert_eq!(told(agent.start(&start("web", IMAGE)).await), (Code::Unimplemented, false));
    pair.end().await;
    assert_eq!(told(agent.start(&start("web", IMAGE)).await), (Code::Unavailable, false));
}

/// Arguments that are none are refused before the method runs: nesting and declared lengths are bounded by what is there.
pub async fn refused_arguments(rig: Rig) {
    let (pair, _) = served(&rig).await;
    let mut nested = Vec::new();
    for _ in 0..200 {
        // Field 19, `nested`.
        let mut outer = vec![0x9a, 0x01];
        encode_length_delimiter(nested.len(), &mut outer).expect("a vector takes it");
        outer.append(&mut nested);
        nested = outer;
    }
    // Field 9, a text, of 2 GiB.
    let long = b"\x4a\xff\xff\xff\xff\x07x".to_vec();
    for body in [nested, long, b"\xff".to_vec()] {
        let error = pair.peer().invoke_raw(PACK, body).await.expect_err("it is refused");
        assert_eq!(error.refusal(), Some(Refusal::InvalidArgument));
        assert_eq!(told(Err::<(), _>(error.into())), (Code::InvalidArgument, false));
    }
    pair.end().await;
}

/// Says everything twice.
struct Doubling;

impl Twice for Doubling {
    async fn say(&self, request: Request<Text>) -> Result<Response<Text>, Status> {
        Ok(twice(request.into_inner()).into())
    }

    async fn say_all(
        &self,
        request: Request<Streaming<Text>>,
    ) -> Result<Response<impl Stream<Item = Result<Text, Status>>>, Status> {
        Ok(request.into_inner().map_ok(twice).into())
    }
}

fn twice(Text { text }: Text) -> Text {
    Text { text: text.repeat(2) }
}

/// A message that is larger than its reader's codec allows is over a limit, on either side, whole or in a stream.
pub async fn larger_than_the_codec_reads(rig: Rig) {
    let pair = rig.pair(rig.builder().serve(Doubling.into_service()), rig.builder()).await;
    let client = TwiceClient::new(pair.peer().clone());
    let text = |length| Text { text: "x".repeat(length) };
    // Two bytes come before the text; the limit is 64.
    assert_eq!(client.say(&text(31)).await, Ok(text(62)));
    assert_eq!(told(client.say(&text(63)).await), (Code::ResourceExhausted, false), "no handler reads it");
    assert_eq!(told(client.say(&text(32)).await), (Code::ResourceExhausted, true), "its result is larger");
    for length in [63, 32] {
        let texts = stream::iter([text(31), text(length)]);
        // What its caller has not read by then is lost.
        let read = async { client.say_all(texts).await?.try_collect::<Vec<_>>().await };
        assert_eq!(told(read.await).0, Code::ResourceExhausted, "{length}");
    }
    pair.end().await;
}

fn logs(lines: u32, fail: bool) -> LogsRequest {
    LogsRequest { container: "web".into(), lines, fail }
}

/// Messages come one by one; a status before them, or among them, is the method's.
pub async fn streamed_results(rig: Rig) {
    let (pair, agent) = served(&rig).await;
    for lines in [0, 1, 3] {
        let mut log = agent.logs(&logs(lines, false)).timeout(SOON).await.expect("it begins");
        assert_eq!(log.metadata().and_then(|metadata| metadata.get("format")), Some(&Bytes::from("text")));
        for n in 0..lines {
            let line = log.message().await.expect("it is complete").expect("there are more");
            assert_eq!(line.text, format!("web {n}"));
        }
        assert_eq!(log.message().await.expect("it is complete"), None);
    }
    let status = agent.logs(&LogsRequest::default()).await.expect_err("it does not begin");
    assert_eq!(status, Status::invalid_argument("which container?"));
    // It may come before the first line is read.
    let broken = async { agent.logs(&logs(3, true)).await?.try_collect::<Vec<_>>().await };
    assert_eq!(broken.await.expect_err("it is incomplete"), no_such_image("the log"));
    // A caller that drops the stream stops its handler.
    let mut endless = agent.logs(&logs(u32::MAX, false)).await.expect("it begins");
    endless.message().await.expect("there are more").expect("there are more");
    assert_eq!(pair.back.stats().requests_running, 1);
    drop(endless);
    rig.until(|| pair.back.stats().requests_running == 0).await;
    pair.end().await;
}

/// Answers with one item that is none of a message.
async fn nonsense(_: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    let mut writer = responder.begin().await?;
    writer.write_raw_item(Bytes::from_static(b"\x01")).await?;
    Ok(())
}

fn pieces(sizes: &[usize]) -> impl Stream<Item = Piece> + Send + 'static {
    stream::iter(sizes.to_vec()).map(|size| Piece { data: vec![7; size] })
}

/// Messages go up without a task that writes them, those without bytes included; one that is none fails the call.
pub async fn streamed_arguments(rig: Rig) {
    let (pair, agent) = served(&rig).await;
    for sizes in [&[][..], &[0], &[0, 0, 5], &[100_000; 30]] {
        let (bytes, pieces_sent) = (sizes.iter().sum::<usize>() as u64, sizes.len() as u32);
        let call = agent.upload(pieces(sizes)).timeout(SOON).send_with_metadata();
        let (uploaded, metadata) = call.await.expect("it is stored");
        assert_eq!(uploaded, Uploaded { bytes, pieces: pieces_sent });
        assert_eq!(metadata.get("stored"), Some(&Bytes::from("yes")));
    }
    // The caller gets the error although the stream never ends.
    let endless = stream::repeat(Piece { data: b"stop".to_vec() });
    assert_eq!(agent.upload(endless).await.expect_err("it is stopped"), Status::aborted("stopped"));
    // A whole body is one item, or none.
    let upload = async |body: Bytes| pair.peer().invoke_raw("tests.agent.v1.Agent/Upload", body).await;
    let one = upload(to_item(&Piece { data: vec![1, 2] }.encode_to_vec())).await.expect("it is stored");
    assert_eq!(Uploaded::decode(one).expect("it is one"), Uploaded { bytes: 2, pieces: 1 });
    let none = upload(Bytes::new()).await.expect("it is stored");
    assert_eq!(Uploaded::decode(none).expect("it is one"), Uploaded::default());
    for wrong in [&b"\x01"[..], b"\x00\xff"] {
        let error = upload(Bytes::copy_from_slice(wrong)).await.expect_err("it is no message");
        assert_eq!(Status::from(error).code(), Code::InvalidArgument);
    }
    pair.binder.handlers().replace("tests.agent.v1.Agent/Logs", Method::stream(nonsense));
    let broken = async { agent.logs(&logs(1, false)).await?.try_collect::<Vec<_>>().await };
    assert_eq!(told(broken.await), (Code::Internal, true));
    pair.end().await;
}

/// Both ways at once, each message only when the one before is back; and a status of a third side that is passed on.
pub async fn both_ways(rig: Rig) {
    let (pair, agent) = served(&rig).await;
    let (say, lines) = async_channel::bounded(1);
    let mut echo = agent.shout(lines).await.expect("it begins");
    for n in 0..10 {
        say.send(Line { text: format!("line {n}") }).await.expect("it is read");
        let line = echo.message().await.expect("it comes back").expect("it comes back");
        assert_eq!(line.text, format!("LINE {n}"));
    }
    say.close();
    assert_eq!(echo.message().await.expect("it is complete"), None);
    for count in [0, 1, 3] {
        let beats = agent.beat(stream::repeat(()).take(count)).await.expect("it begins");
        assert_eq!(beats.try_collect::<Vec<_>>().await.expect("they come back").len(), count);
    }
    let relay = agent.clone();
    let relayed = move |_: Bytes, _: Context| {
        let call = relay.start(&start("web", "none")).into_future();
        async move {
            call.await.map(|_| Bytes::new()).map_err(|status| HandlerError::from(ErrorInfo::from(status)))
        }
    };
    pair.connector.handlers().add_raw("relayed", relayed).expect("the name is free");
    let error = pair.back.invoke_raw("relayed", Bytes::new()).await.expect_err("there is no such image");
    assert_eq!(Status::from(error), no_such_image("none"));
    pair.end().await;
}

/// Nodes and jobs of several packages.
struct Node;

impl Bare for Node {
    async fn same(&self, request: Request<Plain>) -> Result<Response<Plain>, Status> {
        Ok(request.into_inner().into())
    }
}

impl Fleet for Node {
    async fn join(&self, request: Request<v1::FleetClient>) -> Result<Response<v1::Node>, Status> {
        Ok(node(&request.into_inner().name).into())
    }
}

impl Jobs for Node {
    async fn run(
        &self,
        request: Request<Job>,
    ) -> Result<Response<impl Stream<Item = Result<v1::Node, Status>>>, Status> {
        Ok(Response::new(stream::iter([Ok(node(&request.into_inner().name))])))
    }

    async fn check(&self, request: Request<Streaming<State>>) -> Result<Response<Plain>, Status> {
        let states: Vec<_> = request.into_inner().try_collect().await?;
        Ok(Plain { text: format!("{states:?}") }.into())
    }
}

fn node(name: &str) -> v1::Node {
    let note = Some(Plain { text: "here".into() });
    v1::Node { name: name.into(), state: Some(State { up: true }), note }
}

/// A file without a package, a package in another, and types of one in another's methods.
pub async fn packages(rig: Rig) {
    let builder = rig.builder().serve(Bare::into_service(Node));
    let builder = builder.serve(Fleet::into_service(Node)).serve(Jobs::into_service(Node));
    let pair = rig.pair(builder.describe_services(), rig.builder()).await;
    let peer = pair.peer();
    let plain = Plain { text: "x".into() };
    assert_eq!(BareClient::new(peer.clone()).same(&plain).await.expect("it comes back"), plain);
    peer.invoke_raw("Bare/Same", Bytes::new()).await.expect("its name has no package");
    // The message has the name that this client would have.
    let fleet = v1::FleetClient_::new(peer.clone());
    let joined = fleet.join(&v1::FleetClient { name: "a".into() }).await.expect("it joins");
    assert_eq!(joined, node("a"));
    let jobs = JobsClient::new(peer.clone());
    let run = jobs.run(&Job { name: "b".into(), note: None }).await.expect("it begins");
    assert_eq!(run.try_collect::<Vec<_>>().await.expect("it is complete"), [node("b")]);
    let checked = jobs.check(stream::iter([State { up: false }])).await.expect("it is checked");
    assert_eq!(checked.text, "[State { up: false }]");
    peer.invoke_raw("tests.fleet.v1.jobs.Jobs/Check", Bytes::new())
        .await
        .expect("its name has all of its package");
    let told: Vec<MethodDescription> = peer.invoke(DESCRIBE, &()).await.expect("it tells");
    let shown = |method: &MethodDescription| {
        let arguments = method.arguments.iter().map(|argument| &*argument.type_name);
        let arguments: Vec<_> = arguments.chain(method.streamed_argument.as_deref()).collect();
        (method.name.clone(), arguments.concat(), method.result.clone(), method.streamed_result)
    };
    let expected = [
        ("Bare/Same", "Plain", "Plain", false),
        ("tests.fleet.v1.Fleet/Join", "tests.fleet.v1.FleetClient", "tests.fleet.v1.Node", false),
        ("tests.fleet.v1.jobs.Jobs/Check", "tests.fleet.v1.Node.State", "Plain", false),
        ("tests.fleet.v1.jobs.Jobs/Run", "tests.fleet.v1.jobs.Job", "tests.fleet.v1.Node", true),
    ];
    let expected = expected.map(|(name, argument, result, streamed)| {
        (name.to_owned(), argument.to_owned(), result.to_owned(), streamed)
    });
    assert_eq!(told.iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!(told[0].docs, "As it comes.");
    pair.end().await;
}
