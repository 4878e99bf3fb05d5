//! Tunnels over real sockets, on every runtime.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use callosum_hosts::{Host, for_each_host};
use callosum_runtime::{Binder, Connector, Drained};
use callosum_tunnel::{RuleSet, Rules, ServerSettings, Tunnel, TunnelServer, TunnelSettings};

macro_rules! host {
    ($module:ident, $host:ident) => {
        mod $module {
            #[test]
            fn forwards_of_each_kind() {
                super::forwards_of_each_kind(super::Host::$host);
            }
        }
    };
}

for_each_host!(host);

/// How long what is open may take to end. Only a safety net against hanging.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server of tunnels and a client of it, on one runtime.
struct Ends {
    serving: TunnelServer,
    binder: Binder,
    connector: Connector,
    tunnel: Tunnel,
}

impl Ends {
    async fn new(host: Host, rules: &str) -> Self {
        let rules = RuleSet::new(Rules::parse(rules).unwrap()).anonymous("test");
        let spawn = |task: Box<dyn Future<Output = ()> + Send>| host.runtime().spawn(Box::into_pin(task));
        let builder = host.builder();
        let (serving, following) = TunnelServer::new(builder.runtime(), rules, ServerSettings::default());
        let (binder, serve) = serving.add_to(builder).bind("tcp://127.0.0.1:0").await.unwrap();
        let (connector, connect) = host.builder().connect(&binder.endpoints()[0]).unwrap();
        let (tunnel, forward) =
            Tunnel::new(connector.peer(), connector.handlers(), TunnelSettings::default());
        spawn(Box::new(following));
        spawn(Box::new(forward));
        spawn(Box::new(async { drop(serve.await) }));
        spawn(Box::new(async { drop(connect.await) }));
        Self { serving, binder, connector, tunnel }
    }

    async fn end(self) {
        assert_eq!(self.tunnel.drain(DEADLINE).await, Drained::Completely);
        assert_eq!(self.serving.drain(DEADLINE).await, Drained::Completely);
        self.connector.shutdown(DEADLINE).await;
        self.binder.shutdown(DEADLINE).await;
    }
}

/// Echoes what each connection sends, until this process ends.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || {
                // Both may find that the client is gone.
                let _ = std::io::copy(&mut &socket, &mut &socket);
                let _ = socket.shutdown(Shutdown::Write);
            });
        }
    });
    port
}

/// Sends a megabyte and the end of it, while it comes back with the end of that.
fn assert_echoes(socket: &TcpStream) {
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| ((n / 251) ^ n) as u8).collect();
    let back = thread::scope(|scope| {
        scope.spawn(|| {
            (&mut &*socket).write_all(&sent).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&mut &*socket).read_to_end(&mut back).unwrap();
        back
    });
    assert!(back == sent, "{} bytes", back.len());
}

fn forwards_of_each_kind(host: Host) {
    let port = echo();
    let executor = host.start().unwrap();
    let rules = format!(
        r#"
        [[connect]]
        name = "echo"
        users = ["test"]
        networks = ["127.0.0.1"]
        ports = [{port}]

        [[listen]]
        name = "back"
        users = ["test"]
        addresses = ["127.0.0.1"]
        ports = [0]
        "#
    );
    let target = || format!("127.0.0.1:{port}").parse().unwrap();
    let free = || "127.0.0.1:0".parse().unwrap();
    let (ends, forwards) = executor.block_on(async {
        let ends = Ends::new(host, &rules).await;
        let local = ends.tunnel.local(free(), target()).await.unwrap();
        let remote = ends.tunnel.remote(free(), target()).await.unwrap();
        let dynamic = ends.tunnel.dynamic(free()).await.unwrap();
        let forbidden = ends.tunnel.local(free(), "127.0.0.1:1".parse().unwrap()).await.unwrap();
        (ends, [local, remote, dynamic, forbidden])
    });
    let [local, remote, mut dynamic, mut forbidden] =
        forwards.map(|forward| TcpStream::connect(forward.address().to_string()).unwrap());
    assert_echoes(&local);
    assert_echoes(&remote);

    // RFC 1928: no authentication; CONNECT to an IPv4 address.
    dynamic.write_all(&[5, 1, 0]).unwrap();
    let request = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    dynamic.write_all(&request).unwrap();
    let mut reply = [0; 12];
    dynamic.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], [5, 0, 5, 0]);
    assert_echoes(&dynamic);

    assert_eq!(forbidden.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let tunnel = ends.tunnel.clone();
    executor.block_on(ends.end());
    assert_eq!(tunnel.totals().iter().map(|totals| totals.refused).sum::<u64>(), 1);
}
