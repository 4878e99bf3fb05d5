//! A complete host on blocking sockets and threads. `serve ENDPOINT` answers calls, and `call ENDPOINT METHOD JSON` makes
//! one; under CURVE with keys (Z85) in the environment: SECRET_KEY, and for calls SERVER_KEY.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a host has I/O and a clock")]
use callosum_proto::ordering::OrderingMode;
use callosum_proto::zmtp::{CurveKeyPair, LinkConfig, Mechanism};
use callosum_proto::{
    Body, Call, CallId, CloseCause, Connection, ConnectionConfig, ConnectionId, Endpoint, EndpointConfig,
    Event, Metadata, Outcome, Refusal, Reply, Request, RequestId, Role, WriteError,
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use std::{env, error::Error, sync::Arc, thread};

#[derive(Default)]
struct Host {
    engine: Mutex<Engine>,
    /// The engine has changed: writers look for output, and handlers for what they wait for.
    changed: Condvar,
}

#[derive(Default)]
struct Engine {
    endpoint: Endpoint,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Handlers that are to stop, and handlers whose streamed reply may begin.
    stopped: BTreeSet<RequestId>,
    may_reply: BTreeSet<RequestId>,
    ended: BTreeMap<(ConnectionId, CallId), Outcome>,
}

impl Host {
    fn connect(self: &Arc<Self>, socket: TcpStream, link: &LinkConfig) -> io::Result<ConnectionId> {
        socket.set_write_timeout(Some(Duration::from_secs(30)))?;
        let (reader, writer, reading) = (self.clone(), self.clone(), socket.try_clone()?);
        let mut engine = self.engine.lock();
        let (id, config, now) = (engine.endpoint.open(), ConnectionConfig::default(), Instant::now());
        let mut connection = Connection::new(id, link.role, config, rand::random(), CallId::FIRST, now);
        connection.open(now, link, rand::random());
        engine.connections.insert(id, connection);
        thread::spawn(move || reader.read(id, reading));
        thread::spawn(move || writer.write(id, socket));
        Ok(id)
    }

    fn read(self: &Arc<Self>, id: ConnectionId, mut socket: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = socket.read(&mut buffer)
            && let Some(Ok(())) = self.change(id, |it| it.handle_input(Instant::now(), &buffer[..n]))
        {
        }
        self.change(id, |it| it.close(CloseCause::LinkLost));
    }

    fn write(self: &Arc<Self>, id: ConnectionId, mut socket: TcpStream) {
        let (mut engine, mut idle) = (self.engine.lock(), false);
        while let Some(connection) = engine.connections.get_mut(&id) {
            let (now, mut bytes) = (Instant::now(), Vec::new());
            let sent = connection.handle_timeout(now).and(connection.transmit(now, &mut bytes));
            let due = connection.poll_timeout();
            self.settle(&mut engine, id);
            let write = || socket.write_all(&bytes);
            if sent.is_ok() && bytes.is_empty() && idle {
                self.changed.wait_until(&mut engine, due.unwrap_or(now + Duration::from_secs(60)));
            } else if MutexGuard::unlocked(&mut engine, write).is_err() || sent.is_err() {
                break;
            }
            // What was settled may have given it something to send: it looks twice before it sleeps.
            idle = bytes.is_empty() && !idle;
        }
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// Changes a connection, and does what follows from that.
    fn change<T>(self: &Arc<Self>, id: ConnectionId, to: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let mut engine = self.engine.lock();
        let result = engine.connections.get_mut(&id).map(to);
        self.settle(&mut engine, id);
        self.changed.notify_all();
        result
    }

    /// Carries events between endpoint and connections, and takes those for the host, until there are none.
    fn settle(self: &Arc<Self>, engine: &mut Engine, id: ConnectionId) {
        let mut moved = engine.endpoint.settle(Instant::now(), &mut engine.connections, id);
        let _ = (moved.len() > 1).then(|| self.changed.notify_all());
        while let Some(id) = moved.pop_first() {
            while let Some(event) = engine.connections.get_mut(&id).and_then(Connection::poll_event) {
                self.handle(engine, id, event);
                moved.extend(engine.endpoint.settle(Instant::now(), &mut engine.connections, id));
                self.changed.notify_all();
            }
        }
    }

    fn handle(self: &Arc<Self>, engine: &mut Engine, id: ConnectionId, event: Event) {
        let host = self.clone();
        match event {
            // Whom to admit is up to the application; this one admits everyone who has a key.
            Event::AuthenticationRequested { .. } => {
                engine.connections.get_mut(&id).into_iter().for_each(|it| it.admit(Instant::now()));
            }
            Event::Request(request) => drop(thread::spawn(move || host.run(request))),
            Event::Stop { request, .. } => drop(engine.stopped.insert(request)),
            Event::MayReply(request) => drop(engine.may_reply.insert(request)),
            Event::Ended { call, outcome, .. } => drop(engine.ended.insert((id, call), outcome)),
            Event::Closed(_) => drop(engine.connections.remove(&id)),
            _ => {}
        }
    }

    fn run(self: &Arc<Self>, Request { id, method, body, .. }: Request) {
        let Body::Whole(body) = body else { unreachable!("streams were not asked for") };
        let number = |name| serde_json::from_slice::<serde_json::Value>(&body).ok()?.get(name)?.as_f64();
        let unsupported = |why: &str| Refusal::Unsupported.reply(why);
        let reply = match &*method {
            "echo" => Reply::result(body),
            "delay" => {
                let time = Duration::from_secs_f64(number("seconds").unwrap_or(0.0).clamp(0.0, 1e6));
                let goes_on = |engine: &mut Engine| !engine.stopped.contains(&id);
                let waited = self.changed.wait_while_for(&mut self.engine.lock(), goes_on, time);
                if waited.timed_out() { Reply::result(body) } else { Reply::Cancelled }
            }
            "call_back" => match self.call(id.connection(), Call::new("echo", body)) {
                Ok(Outcome::Result(body)) => Reply::result(body),
                other => unsupported(&format!("{other:?}")),
            },
            "count" => self.count(id, number("to").unwrap_or(0.0) as u64).unwrap_or(unsupported("a stream")),
            other => Refusal::NoSuchMethod.reply(other),
        };
        let mut engine = self.engine.lock();
        let (stopped, _) = (engine.stopped.remove(&id), engine.may_reply.remove(&id));
        engine.endpoint.finish(id, (!stopped).then_some(reply));
        self.settle(&mut engine, id.connection());
        self.changed.notify_all();
    }

    /// Streams the numbers up to `to`, as fast as the caller reads them.
    fn count(self: &Arc<Self>, id: RequestId, to: u64) -> Option<Reply> {
        let mut engine = self.engine.lock();
        engine.endpoint.begin_reply(id);
        self.settle(&mut engine, id.connection());
        self.changed.wait_while(&mut engine, |it| !it.may_reply.contains(&id) && !it.stopped.contains(&id));
        engine.connections.get_mut(&id.connection())?.begin_reply(id, false, Metadata::new(), None).ok()?;
        for line in (1..=to).map(|number| format!("{number}\n")) {
            let write = |it: &mut Connection| it.send_stream(id).write(line.clone().into(), true);
            while let Err(error) = write(engine.connections.get_mut(&id.connection())?) {
                if error != WriteError::Full || engine.stopped.contains(&id) {
                    return None;
                }
                self.changed.notify_all();
                self.changed.wait(&mut engine);
            }
        }
        Some(Reply::End)
    }

    fn call(self: &Arc<Self>, id: ConnectionId, mut call: Call) -> Result<Outcome, Box<dyn Error>> {
        call.deadline = Some(Instant::now() + Duration::from_secs(30));
        let call = self.change(id, |it| it.invoke(Instant::now(), call)).ok_or("it is closed")??;
        let mut engine = self.engine.lock();
        self.changed.wait_while(&mut engine, |engine| !engine.ended.contains_key(&(id, call)));
        Ok(engine.ended.remove(&(id, call)).ok_or("it has ended")?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words = env::args().skip(1).collect::<Vec<_>>().join(" ").replacen("tcp://", "", 1);
    let keys = CurveKeyPair::from_secret_z85;
    let mechanism = match (env::var("SECRET_KEY"), env::var("SERVER_KEY")) {
        (Err(_), _) => Mechanism::Null,
        (Ok(secret), Err(_)) => Mechanism::CurveServer { keys: keys(&secret)? },
        (Ok(own), Ok(server)) => Mechanism::CurveClient { keys: keys(&own)?, server: server.parse()? },
    };
    let (mut config, host) = (EndpointConfig::default(), Arc::new(Host::default()));
    config.ordering.mode = OrderingMode::KeySerialized;
    host.engine.lock().endpoint = Endpoint::new(config);
    let mut link = LinkConfig::new(if words.starts_with("serve") { Role::Binder } else { Role::Connector });
    link.mechanism = mechanism;
    match words.splitn(4, ' ').collect::<Vec<_>>()[..] {
        ["serve", address] => {
            let listener = TcpListener::bind(address)?;
            println!("listening on tcp://{}", listener.local_addr()?);
            let connect = |socket: io::Result<TcpStream>| host.connect(socket?, &link);
            listener.incoming().filter_map(|it| connect(it).err()).for_each(|error| eprintln!("{error}"));
        }
        ["call", address, method, json] => {
            let id = host.connect(TcpStream::connect(address)?, &link)?;
            match host.call(id, Call::new(method, json.to_owned()))? {
                Outcome::Result(body) => println!("{}", String::from_utf8_lossy(&body)),
                other => return Err(format!("{other:?}").into()),
            }
        }
        _ => return Err("usage: blocking serve ENDPOINT | blocking call ENDPOINT METHOD JSON".into()),
    }
    Ok(())
}
