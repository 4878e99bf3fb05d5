//! Where binders listen and connectors connect.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use callosum_runtime::{BindError, Builder, Connector, Endpoint, HandlerResult};
use serde_json::Value;

use crate::rig::{Rig, Running, SOON};

struct Fixture {
    binder: callosum_runtime::Binder,
    driver: Running,
}

impl Fixture {
    async fn bind(rig: &Rig, text: &str) -> Self {
        Self::with(rig, rig.builder(), text).await
    }

    async fn with(rig: &Rig, builder: Builder, text: &str) -> Self {
        let builder = builder.handle("echo", |n: Value, _| async move { HandlerResult::Ok(n) });
        let (binder, driver) = builder.bind(text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        Self { binder, driver: rig.drive(driver) }
    }

    async fn end(self) {
        self.binder.shutdown(SOON).await;
        self.driver.join().await.expect("it ends well");
    }
}

async fn echo(rig: &Rig, endpoint: &Endpoint) {
    let (connector, driver) = rig.connect(rig.builder(), endpoint);
    let one: Value = connector.peer().invoke("echo", &1).await.expect("the binder answers");
    assert_eq!(one, 1);
    connector.shutdown(SOON).await;
    driver.join().await.expect("it ends well");
}

fn port(endpoint: &Endpoint) -> u16 {
    match endpoint {
        Endpoint::Tcp { port, .. } => *port,
        other => panic!("{other}"),
    }
}

/// Port 0 and port `*` are ones that the system chooses; the real endpoint is reported.
pub async fn chosen_port(rig: Rig) {
    for text in ["tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "tcp://localhost:0"] {
        let fixture = Fixture::bind(&rig, text).await;
        let endpoint = fixture.binder.endpoints().remove(0);
        assert_ne!(port(&endpoint), 0);
        assert_eq!(endpoint.to_string().parse::<Endpoint>().expect("it is an endpoint"), endpoint);
        echo(&rig, &endpoint).await;
        fixture.end().await;
    }
}

/// `*` as host is every IPv4 address; a connector may name the host.
pub async fn every_address(rig: Rig) {
    let fixture = Fixture::with(&rig, rig.builder().allow_plaintext(), "tcp://*:*").await;
    let endpoint = fixture.binder.endpoints().remove(0);
    assert!(endpoint.to_string().starts_with("tcp://0.0.0.0:"), "{endpoint}");
    for host in ["127.0.0.1", "localhost"] {
        echo(&rig, &Endpoint::Tcp { host: host.into(), port: port(&endpoint) }).await;
    }
    fixture.end().await;
}

/// IPv6 addresses stand in brackets. Where the machine has no IPv6, there is nothing to test.
pub async fn ipv6(rig: Rig) {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let fixture = Fixture::bind(&rig, "tcp://[::1]:0").await;
    let endpoint = fixture.binder.endpoints().remove(0);
    assert!(endpoint.to_string().starts_with("tcp://[::1]:"), "{endpoint}");
    echo(&rig, &endpoint).await;
    fixture.end().await;
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("callosum-test-{}-{name}.sock", std::process::id()))
}

/// A socket file without a listener is replaced, and removed in the end.
pub async fn stale_socket_file(rig: Rig) {
    let path = socket_path("stale");
    drop(UnixListener::bind(&path).expect("the path is free"));
    assert!(path.exists(), "the system leaves it");
    let fixture = Fixture::bind(&rig, &format!("ipc://{}", path.display())).await;
    let endpoint = fixture.binder.endpoints().remove(0);
    assert_eq!(endpoint, Endpoint::Ipc(path.clone()));
    echo(&rig, &endpoint).await;
    fixture.end().await;
    assert!(!path.exists());
}

fn in_use(error: &BindError) -> bool {
    matches!(error, BindError::Io { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse)
}

/// An endpoint with a listener is in use, whatever the transport; so is a path that is no socket.
pub async fn in_use_already(rig: Rig) {
    let fixture = Fixture::bind(&rig, &rig.endpoint()).await;
    let endpoint = fixture.binder.endpoints().remove(0);
    let error = rig.builder().bind(&endpoint).await.expect_err("it is taken");
    assert!(in_use(&error), "{error}");
    let error = fixture.binder.listen(&endpoint).await.expect_err("it is taken");
    assert!(in_use(&error), "{error}");
    assert_eq!(fixture.binder.endpoints().len(), 1);
    echo(&rig, &endpoint).await;
    fixture.end().await;

    let path = socket_path("file");
    std::fs::write(&path, "precious").expect("the directory is writable");
    let error = rig.builder().bind(&Endpoint::Ipc(path.clone())).await.expect_err("there is a file");
    assert!(in_use(&error), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "precious");
    std::fs::remove_file(&path).expect("it is still there");
}

/// An endpoint is free again once its binder is gone, and can be bound again.
pub async fn bound_again(rig: Rig) {
    let fixture = Fixture::bind(&rig, &rig.endpoint()).await;
    let endpoint = fixture.binder.endpoints().remove(0).to_string();
    fixture.end().await;
    for _ in 0..2 {
        let fixture = Fixture::bind(&rig, &endpoint).await;
        echo(&rig, &fixture.binder.endpoints()[0]).await;
        fixture.end().await;
    }
}

/// A malformed endpoint is refused with the reason.
pub async fn bad_texts(rig: Rig) {
    let texts = [
        ("", "must start with"),
        ("127.0.0.1:80", "must start with"),
        ("http://host:80", "the scheme must be"),
        ("TCP://host:80", "the scheme must be"),
        ("tcp://", "needs a port"),
        ("tcp://host", "needs a port"),
        ("tcp://:80", "host is missing"),
        ("tcp://[]:80", "host is missing"),
        ("tcp://host:", "a number up to 65535"),
        ("tcp://host:65536", "a number up to 65535"),
        ("tcp://host:-1", "a number up to 65535"),
        ("tcp://::1:80", "needs brackets"),
        ("tcp://[::1:80", "the `]` after"),
        ("ipc://", "needs a path"),
        ("inproc://", "needs a name"),
    ];
    for (text, reason) in texts {
        let error = rig.builder().connect(text).expect_err(text);
        assert!(error.to_string().contains(reason), "{text}: {error}");
        assert!(error.to_string().contains(&format!("`{text}`")), "{text}: {error}");
        let error = rig.builder().bind(text).await.expect_err(text);
        assert!(matches!(&error, BindError::Endpoint(same) if same.to_string().contains(reason)), "{error}");
    }
}

/// Addresses that the system has not got are errors of the system.
pub async fn unbindable(rig: Rig) {
    for text in ["tcp://192.0.2.1:0", "ipc:///nonexistent/directory/socket"] {
        let error = rig.builder().allow_plaintext().bind(text).await.expect_err(text);
        assert!(matches!(error, BindError::Io { .. }), "{error}");
    }
}

/// One binder listens on several endpoints of several transports, also while it runs.
pub async fn several_endpoints(rig: Rig) {
    let fixture = Fixture::bind(&rig, "tcp://127.0.0.1:0").await;
    echo(&rig, &fixture.binder.endpoints()[0]).await;
    let ipc = Endpoint::Ipc(socket_path("several"));
    let inproc = Endpoint::Inproc(format!("several-{}", std::process::id()));
    for endpoint in [&"tcp://127.0.0.1:0".parse().expect("an endpoint"), &ipc, &inproc] {
        let real = fixture.binder.listen(endpoint).await.expect("it is free");
        assert_eq!(fixture.binder.endpoints().last(), Some(&real));
    }
    assert_eq!(fixture.binder.endpoints().len(), 4);
    let connectors: Vec<(Connector, Running)> =
        fixture.binder.endpoints().iter().map(|endpoint| rig.connect(rig.builder(), endpoint)).collect();
    for (connector, _) in &connectors {
        let one: Value = connector.peer().invoke("echo", &1).await.expect("the binder answers");
        assert_eq!(one, 1);
    }
    assert_eq!(rig.peers(&fixture.binder, 4).await.len(), 4);
    for (connector, driver) in connectors {
        connector.shutdown(SOON).await;
        driver.join().await.expect("it ends well");
    }
    rig.peers(&fixture.binder, 0).await;
    fixture.end().await;
}

/// A binder that was shut down listens nowhere any more.
pub async fn no_listening_after_the_end(rig: Rig) {
    let fixture = Fixture::bind(&rig, &rig.endpoint()).await;
    let binder = fixture.binder.clone();
    fixture.end().await;
    let error = binder.listen("tcp://127.0.0.1:0").await.expect_err("it is over");
    assert!(matches!(error, BindError::Shutdown), "{error}");
    assert!(binder.peers().is_empty());
}

/// Sixty-four connectors at once call and are called.
pub async fn many_peers(rig: Rig) {
    let fixture = Fixture::bind(&rig, &rig.endpoint()).await;
    let connectors: Vec<(Connector, Running)> = (0..64)
        .map(|n: u32| {
            let builder =
                rig.builder().handle("number", move |_: Value, _| async move { HandlerResult::Ok(n) });
            rig.connect(builder, &fixture.binder.endpoints()[0])
        })
        .collect();
    let calls = connectors.iter().map(|(connector, _)| async {
        let one: Value = connector.peer().invoke("echo", &1).await.expect("the binder answers");
        assert_eq!(one, 1);
    });
    futures_util::future::join_all(calls).await;
    let peers = rig.peers(&fixture.binder, 64).await;
    let binder = &fixture.binder;
    let numbers = peers.iter().map(|peer| async move {
        assert_eq!(binder.peer(peer.id()).as_ref(), Some(peer));
        peer.invoke::<_, u32>("number", &()).await.expect("the connector answers")
    });
    let mut numbers = futures_util::future::join_all(numbers).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..64).collect::<Vec<_>>());
    let ends = connectors.into_iter().map(|(connector, driver)| async move {
        connector.shutdown(SOON).await;
        driver.join().await.expect("it ends well");
    });
    futures_util::future::join_all(ends).await;
    rig.peers(&fixture.binder, 0).await;
    fixture.end().await;
}
