//! What tests of tunnels have in common: a world with a server, a client and a target, and who may do what in it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use callosum_runtime::rt::{BoxSocket, Listener, Runtime};
use callosum_runtime::{Binder, Connector, Endpoint, SocketOptions};
use callosum_testkit::world::{Host, Link, World};
use callosum_tunnel::{
    Authorizer, Forward, ListenAddress, Permission, Requester, Resolver, ServerSettings, Target, Tunnel,
    TunnelDriver, TunnelEvent, TunnelEvents, TunnelServer, TunnelSettings,
};
use futures_util::future::BoxFuture;
use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The address of the target in a world, and the name that its resolver knows it by.
pub(crate) const TARGET: &str = "10.0.0.5";
pub(crate) const TARGET_NAME: &str = "db.internal";

/// Allows everything.
pub(crate) struct Anyone;

impl Authorizer for Anyone {
    fn connect<'a>(&'a self, _: &'a Requester, _: &'a Target) -> BoxFuture<'a, Option<Permission>> {
        Box::pin(std::future::ready(Some(Permission::new("anyone"))))
    }

    fn listen<'a>(&'a self, _: &'a Requester, _: &'a ListenAddress) -> BoxFuture<'a, Option<Permission>> {
        Box::pin(std::future::ready(Some(Permission::new("anyone"))))
    }
}

/// Knows these names.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<&'static str, Vec<IpAddr>>);

impl Names {
    pub(crate) fn with(mut self, name: &'static str, addresses: &[&str]) -> Self {
        self.0.insert(name, addresses.iter().map(|address| address.parse().unwrap()).collect());
        self
    }
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let found = self.0.get(name).cloned().ok_or_else(|| io::Error::other("no such name"));
        Box::pin(std::future::ready(found))
    }
}

/// A server of tunnels, a client of it, and a host that the server reaches. Between client and server are 10 ms.
pub(crate) struct Rig {
    pub(crate) server: Host,
    pub(crate) client: Host,
    pub(crate) target: Host,
    pub(crate) binder: Binder,
    pub(crate) connector: Connector,
    pub(crate) serving: TunnelServer,
    pub(crate) tunnel: Tunnel,
}

impl Rig {
    pub(crate) async fn new(world: &Arc<World>) -> Self {
        Self::with(world, Anyone, TunnelSettings::default()).await
    }

    pub(crate) async fn with(
        world: &Arc<World>,
        authorizer: impl Authorizer,
        settings: TunnelSettings,
    ) -> Self {
        let names = Names::default().with(TARGET_NAME, &[TARGET]).with("nowhere.internal", &["10.9.9.9"]);
        let names = names.with("evil.example", &["127.0.0.1"]).with("both.example", &["127.0.0.1", TARGET]);
        let server_settings = ServerSettings::default().resolver(names);
        let (rig, serving, tunnelling) = Self::undriven(world, authorizer, server_settings, settings).await;
        rig.server.spawn(serving);
        rig.client.spawn(tunnelling);
        rig
    }

    pub(crate) async fn undriven(
        world: &Arc<World>,
        authorizer: impl Authorizer,
        server_settings: ServerSettings,
        settings: TunnelSettings,
    ) -> (Self, TunnelDriver, TunnelDriver) {
        let (server, client, target) = (world.host("server"), world.host("client"), world.host(TARGET));
        world.set_link(&server, &client, Link::default().latency(10 * MS));
        let builder = server.builder();
        let (serving, serving_driver) = TunnelServer::new(builder.runtime(), authorizer, server_settings);
        let (binder, driver) = serving.add_to(builder).bind("tcp://server:7000").await.unwrap();
        server.spawn(async { drop(driver.await) });
        let builder = client.builder().keepalive(SECOND, 2);
        let (connector, driver) = builder.connect("tcp://server:7000").unwrap();
        client.spawn(async { drop(driver.await) });
        let (tunnel, tunnel_driver) = Tunnel::new(connector.peer(), connector.handlers(), settings);
        connector.peer().ready().await.unwrap();
        let rig = Self { server, client, target, binder, connector, serving, tunnel };
        (rig, serving_driver, tunnel_driver)
    }

    /// A local forward to port 80 of the target.
    pub(crate) async fn local(&self) -> Forward {
        self.tunnel.local(free(), format!("{TARGET}:80").parse().unwrap()).await.unwrap()
    }

    /// A program on the client that connects to a forward.
    pub(crate) async fn open(&self, forward: &Forward) -> BoxSocket {
        connect(&self.client, forward.address()).await.unwrap()
    }

    /// Both ends of a connection through a new local forward: the client's, and the target's.
    pub(crate) async fn through(&self) -> (BoxSocket, BoxSocket) {
        let mut listener = listen(&self.target, "0.0.0.0:80").await;
        let forward = self.local().await;
        let here = self.open(&forward).await;
        (here, listener.accept().await.unwrap().0)
    }
}

/// A port that the system chooses.
pub(crate) fn free() -> ListenAddress {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn endpoint(address: &ListenAddress) -> Endpoint {
    match address {
        ListenAddress::Tcp(address) => Endpoint::Tcp { host: address.ip().to_string(), port: address.port() },
        ListenAddress::Unix(path) => Endpoint::Ipc(path.clone()),
        other => panic!("{other}"),
    }
}

pub(crate) async fn connect(host: &Host, address: &ListenAddress) -> io::Result<BoxSocket> {
    host.runtime().connect(&endpoint(address), SocketOptions::default()).await
}

pub(crate) async fn listen(host: &Host, address: &str) -> Box<dyn Listener> {
    bind(&*host.runtime(), address).await
}

pub(crate) async fn bind(runtime: &dyn Runtime, address: &str) -> Box<dyn Listener> {
    runtime.bind(&endpoint(&address.parse().unwrap()), SocketOptions::default()).await.unwrap()
}

pub(crate) async fn write(socket: &mut BoxSocket, bytes: impl AsRef<[u8]>) {
    socket.write_all(bytes.as_ref()).await.unwrap();
}

/// Reads as many bytes as are expected, and compares them.
pub(crate) async fn expect(socket: &mut BoxSocket, bytes: impl AsRef<[u8]>) {
    let mut read = vec![0; bytes.as_ref().len()];
    socket.read_exact(&mut read).await.unwrap();
    assert_eq!(read, bytes.as_ref());
}

/// Reads the end of the stream.
pub(crate) async fn expect_end(socket: &mut BoxSocket) {
    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0, "the end of the stream");
}

/// Reads to an error, and gives what came before.
pub(crate) async fn expect_reset(socket: &mut BoxSocket) -> Vec<u8> {
    let mut read = Vec::new();
    let error = socket.read_to_end(&mut read).await.unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
    read
}

/// The next event that this takes.
pub(crate) async fn event<T>(events: &mut TunnelEvents, mut take: impl FnMut(TunnelEvent) -> Option<T>) -> T {
    loop {
        if let Some(taken) = take(events.next().await.expect("there are more events")) {
            return taken;
        }
    }
}

/// What becomes of the next connection that was open.
pub(crate) async fn summary(events: &mut TunnelEvents) -> callosum_tunnel::Summary {
    event(events, |event| match event {
        TunnelEvent::Closed(summary) => Some(summary),
        _ => None,
    })
    .await
}

/// How the next connection ends that was open.
pub(crate) async fn end(events: &mut TunnelEvents) -> callosum_tunnel::End {
    summary(events).await.end
}

/// Why the next connection is refused.
pub(crate) async fn refusal(events: &mut TunnelEvents) -> callosum_tunnel::Reason {
    event(events, |event| match event {
        TunnelEvent::Refused { reason, .. } => Some(reason),
        _ => None,
    })
    .await
}

/// A directory that is removed with what is in it.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("callosum-tunnel-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        std::fs::create_dir(&root).unwrap();
        Self(root)
    }

    pub(crate) fn write(&self, text: &str) -> PathBuf {
        let path = self.0.join("rules.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
