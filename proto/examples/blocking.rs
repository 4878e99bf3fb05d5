//! A complete host on blocking sockets and threads. `blocking serve tcp://127.0.0.1:0 [SECRET_KEY]` answers calls, and
//! `blocking call ENDPOINT METHOD JSON [SECRET_KEY SERVER_KEY]` makes one; with keys (Z85) under CURVE.
//!
//! A connection has one thread that reads and one that writes, and each handler has one of its own. All of them change the
//! engine under one lock; `settle` then carries events until nothing moves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{env, thread};

use callosum_proto::ordering::OrderingMode;
use callosum_proto::zmtp::{CurveKeyPair, CurveSecretKey, Decision, LinkConfig, Mechanism};
use callosum_proto::{
    Body, Call, CallId, CloseCause, Connection, ConnectionConfig, ConnectionId, Endpoint, EndpointConfig,
    Event, Metadata, Outcome, Refusal, Reply, Request, RequestId, Role, WriteError,
};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

struct Host {
    engine: Mutex<Engine>,
    /// The engine has changed: writers look for output, and handlers for what they wait for.
    changed: Condvar,
    mechanism: Mechanism,
}

struct Engine {
    endpoint: Endpoint,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Handlers that are to stop, and handlers whose streamed reply may begin.
    stopped: HashSet<RequestId>,
    may_reply: HashSet<RequestId>,
    calls: HashMap<(ConnectionId, CallId), Sender<Outcome>>,
}

impl Host {
    fn new(mechanism: Mechanism) -> Arc<Self> {
        let mut config = EndpointConfig::default();
        config.ordering.mode = OrderingMode::KeySerialized;
        let (stopped, may_reply, calls) = (HashSet::new(), HashSet::new(), HashMap::new());
        let (endpoint, connections) = (Endpoint::new(config), BTreeMap::new());
        let engine = Mutex::new(Engine { endpoint, connections, stopped, may_reply, calls });
        Arc::new(Self { engine, changed: Condvar::new(), mechanism })
    }

    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().expect("no thread panics while it holds the lock")
    }

    fn connect(self: &Arc<Self>, role: Role, socket: TcpStream) -> Fallible<ConnectionId> {
        let (mut link, mut engine) = (LinkConfig::new(role), self.lock());
        link.mechanism = self.mechanism.clone();
        let (id, config, now) = (engine.endpoint.open(), ConnectionConfig::default(), Instant::now());
        let mut connection = Connection::new(id, role, config, random(), CallId(0), now);
        connection.open(now, &link, random());
        engine.connections.insert(id, connection);
        let (reader, writer, reading) = (self.clone(), self.clone(), socket.try_clone()?);
        thread::spawn(move || reader.read(id, reading));
        thread::spawn(move || writer.write(id, socket));
        Ok(id)
    }

    fn read(self: &Arc<Self>, id: ConnectionId, mut socket: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = socket.read(&mut buffer).unwrap_or(0);
            let mut engine = self.lock();
            let Some(connection) = engine.connections.get_mut(&id) else { return };
            if n == 0 || connection.handle_input(Instant::now(), &buffer[..n]).is_err() {
                connection.close(CloseCause::LinkLost);
            }
            self.settle(&mut engine, id);
            self.changed.notify_all();
        }
    }

    fn write(self: &Arc<Self>, id: ConnectionId, mut socket: TcpStream) {
        let mut engine = self.lock();
        while let Some(connection) = engine.connections.get_mut(&id) {
            let (now, mut bytes) = (Instant::now(), Vec::new());
            let timed = connection.handle_timeout(now);
            let alive = timed.and_then(|()| connection.transmit(now, &mut bytes)).is_ok();
            let wait = connection.poll_timeout().map_or(Duration::from_secs(60), |due| due - now);
            self.settle(&mut engine, id);
            if alive && bytes.is_empty() {
                engine = self.changed.wait_timeout(engine, wait).expect("see lock").0;
                continue;
            }
            drop(engine);
            let alive = socket.write_all(&bytes).is_ok() && alive;
            engine = self.lock();
            engine.connections.get_mut(&id).filter(|_| !alive).map(|lost| lost.close(CloseCause::LinkLost));
            self.settle(&mut engine, id);
        }
        // The reader finds the end of it.
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// Carries events between connections, endpoint and host, after something has changed at a connection.
    fn settle(self: &Arc<Self>, engine: &mut Engine, id: ConnectionId) {
        let mut moved = engine.endpoint.settle(Instant::now(), &mut engine.connections, id);
        while let Some(id) = moved.pop_first() {
            while let Some(event) = engine.connections.get_mut(&id).and_then(Connection::poll_event) {
                self.handle(engine, id, event);
                moved.extend(engine.endpoint.settle(Instant::now(), &mut engine.connections, id));
                self.changed.notify_all();
            }
        }
    }

    fn handle(self: &Arc<Self>, engine: &mut Engine, id: ConnectionId, event: Event) {
        match event {
            // Whom to admit is up to the application; this one admits everyone who has a key.
            Event::AuthenticationRequested { .. } => {
                let connection = engine.connections.get_mut(&id);
                connection.map(|connection| connection.authenticate(Instant::now(), Decision::Admit));
            }
            Event::Request(request) => {
                let host = self.clone();
                thread::spawn(move || {
                    let (id, reply) = (request.id, host.run(request));
                    let mut engine = host.lock();
                    let _ = (engine.stopped.remove(&id), engine.may_reply.remove(&id));
                    engine.endpoint.finish(id, Some(reply));
                    host.settle(&mut engine, id.connection());
                    host.changed.notify_all();
                });
            }
            Event::Stop { request, .. } => drop(engine.stopped.insert(request)),
            Event::MayReply(request) => drop(engine.may_reply.insert(request)),
            Event::Ended { call, outcome, .. } => {
                engine.calls.remove(&(id, call)).map(|caller| caller.send(outcome));
            }
            Event::Closed(_) => drop(engine.connections.remove(&id)),
            _ => {}
        }
    }

    /// The handlers, by name.
    fn run(self: &Arc<Self>, Request { id, method, body, .. }: Request) -> Reply {
        let Body::Whole(body) = body else { unreachable!("streams were not asked for") };
        let number = |name| serde_json::from_slice::<serde_json::Value>(&body).ok()?.get(name)?.as_f64();
        match &*method {
            "echo" => Reply::result(body),
            "delay" => {
                let time = Duration::from_secs_f64(number("seconds").unwrap_or(0.0));
                let goes_on = |engine: &mut Engine| !engine.stopped.contains(&id);
                let waited = self.changed.wait_timeout_while(self.lock(), time, goes_on).expect("see lock");
                if waited.1.timed_out() { Reply::result(body) } else { Reply::Cancelled }
            }
            "call_back" => match self.call(id.connection(), Call::new("hello", "null")) {
                Ok(Outcome::Result(body)) => Reply::result(body),
                other => Reply::Error(Refusal::Unsupported.to_error(&format!("{other:?}"))),
            },
            "hello" => Reply::result(r#""hello from threads""#),
            "count" => self.count(id, number("to").unwrap_or(0.0) as u64).unwrap_or(Reply::Cancelled),
            other => Reply::Error(Refusal::NoSuchMethod.to_error(other)),
        }
    }

    /// Streams the numbers up to `to`, as fast as the caller reads them.
    fn count(self: &Arc<Self>, id: RequestId, to: u64) -> Option<Reply> {
        let mut engine = self.lock();
        engine.endpoint.begin_reply(id);
        self.settle(&mut engine, id.connection());
        let waits = |engine: &mut Engine| !engine.may_reply.contains(&id) && !engine.stopped.contains(&id);
        engine = self.changed.wait_while(engine, waits).expect("see lock");
        engine.connections.get_mut(&id.connection())?.begin_reply(id, false, Metadata::new(), None).ok()?;
        for number in 1..=to {
            let line = format!("{number}\n");
            let write = |engine: &mut Engine| {
                let connection = engine.connections.get_mut(&id.connection());
                connection.map(|connection| connection.send_stream(id).write(line.clone().into(), true))
            };
            while write(&mut engine)? == Err(WriteError::Full) {
                self.changed.notify_all();
                engine = self.changed.wait(engine).expect("see lock");
            }
        }
        Some(Reply::End)
    }

    /// Makes a call, and waits for its end.
    fn call(self: &Arc<Self>, id: ConnectionId, mut call: Call) -> Fallible<Outcome> {
        call.deadline = Some(Instant::now() + Duration::from_secs(30));
        let (sender, outcome) = channel();
        let mut engine = self.lock();
        let connection = engine.connections.get_mut(&id).ok_or("the connection is closed")?;
        let call = connection.invoke(Instant::now(), call)?;
        engine.calls.insert((id, call), sender);
        drop(engine);
        self.changed.notify_all();
        Ok(outcome.recv()?)
    }
}

/// Bytes of the operating system's randomness, for nonces and keys.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> =
        arguments.iter().map(|argument| argument.trim_start_matches("tcp://")).collect();
    let keys = |secret: &str| CurveSecretKey::from_z85(secret).map(CurveKeyPair::from_secret);
    let mechanism = match arguments[..] {
        ["serve", _, secret] => Mechanism::CurveServer { keys: keys(secret)? },
        ["call", _, _, _, secret, server] => {
            Mechanism::CurveClient { keys: keys(secret)?, server: server.parse()? }
        }
        _ => Mechanism::Null,
    };
    let host = Host::new(mechanism);
    match arguments[..] {
        ["serve", address, ..] => {
            let listener = TcpListener::bind(address)?;
            println!("listening on tcp://{}", listener.local_addr()?);
            listener.incoming().try_for_each(|socket| host.connect(Role::Binder, socket?).map(drop))
        }
        ["call", address, method, json, ..] => {
            let id = host.connect(Role::Connector, TcpStream::connect(address)?)?;
            match host.call(id, Call::new(method, json.to_owned()))? {
                Outcome::Result(body) => Ok(println!("{}", String::from_utf8_lossy(&body))),
                other => Err(format!("{other:?}").into()),
            }
        }
        _ => Err("usage: blocking serve ENDPOINT | blocking call ENDPOINT METHOD JSON".into()),
    }
}
