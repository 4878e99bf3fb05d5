//! Tunnels over real sockets, on every runtime.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use callosum_hosts::{Host, for_each_host};
use callosum_runtime::{Binder, Connector, Drained};
use callosum_tunnel::{
    End, Forward, ListenAddress, RuleSet, Rules, ServerSettings, Target, Tunnel, TunnelEvent, TunnelEvents,
    TunnelServer, TunnelSettings,
};
use futures_util::StreamExt;

macro_rules! host {
    ($module:ident, $host:ident) => {
        mod $module {
            #[test]
            fn forwards_of_each_kind() {
                super::forwards_of_each_kind(super::Host::$host);
            }

            #[test]
            fn resets_and_a_reader_that_stalls() {
                super::resets_and_a_reader_that_stalls(super::Host::$host);
            }

            #[test]
            fn a_reset_after_the_end() {
                super::a_reset_after_the_end(super::Host::$host);
            }

            #[test]
            fn unix_sockets_are_their_owners_alone() {
                super::unix_sockets_are_their_owners_alone(super::Host::$host);
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

/// Rules by which a test may connect to these ports, and listen.
fn rules(ports: &[u16]) -> String {
    format!(
        r#"
        [[connect]]
        name = "targets"
        users = ["test"]
        networks = ["127.0.0.1"]
        ports = {ports:?}

        [[listen]]
        name = "back"
        users = ["test"]
        addresses = ["127.0.0.1"]
        ports = [0]
        "#
    )
}

fn connect(forward: &Forward) -> TcpStream {
    TcpStream::connect(forward.address().to_string()).unwrap()
}

fn forwards_of_each_kind(host: Host) {
    let port = echo();
    let executor = host.start().unwrap();
    let target = || format!("127.0.0.1:{port}").parse().unwrap();
    let free = || "127.0.0.1:0".parse().unwrap();
    let (ends, forwards) = executor.block_on(async {
        let ends = Ends::new(host, &rules(&[port])).await;
        let local = ends.tunnel.local(free(), target()).await.unwrap();
        let remote = ends.tunnel.remote(free(), target()).await.unwrap();
        let dynamic = ends.tunnel.dynamic(free()).await.unwrap();
        let forbidden = ends.tunnel.local(free(), "127.0.0.1:1".parse().unwrap()).await.unwrap();
        (ends, [local, remote, dynamic, forbidden])
    });
    let [local, remote, mut dynamic, mut forbidden] = forwards.map(|forward| connect(&forward));
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

fn resets_and_a_reader_that_stalls(host: Host) {
    /// More than there is room for on the way.
    const STALLS: usize = 32 << 20;
    let executor = host.start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [listener.local_addr().unwrap().port(), echo()];
    let (ends, forwards) = executor.block_on(async {
        let ends = Ends::new(host, &rules(&ports)).await;
        let mut forwards = Vec::new();
        for port in ports {
            let target = format!("127.0.0.1:{port}").parse().unwrap();
            forwards.push(ends.tunnel.local("127.0.0.1:0".parse().unwrap(), target).await.unwrap());
        }
        (ends, forwards)
    });
    let stalled = connect(&forwards[0]);
    let (mut unread, _) = listener.accept().unwrap();
    let writing = thread::spawn(move || (&stalled).write_all(&vec![7; STALLS]).map(|()| stalled).unwrap());
    assert_echoes(&connect(&forwards[1]));
    for client_resets in [true, false] {
        let here = connect(&forwards[0]);
        let (there, _) = listener.accept().unwrap();
        let (first, mut second) = if client_resets { (here, there) } else { (there, here) };
        second.write_all(b"unread").unwrap();
        first.peek(&mut [0]).unwrap();
        // A socket that is closed with unread bytes is reset.
        drop(first);
        assert_eq!(second.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let mut read = vec![0; STALLS];
    unread.read_exact(&mut read).unwrap();
    assert!(read.iter().all(|byte| *byte == 7));
    drop((writing.join().unwrap(), unread));
    executor.block_on(ends.end());
}

/// How the next connection ends.
async fn end(events: &mut TunnelEvents) -> End {
    loop {
        if let TunnelEvent::Closed(summary) = events.next().await.unwrap() {
            return summary.end;
        }
    }
}

/// A system does not report it to who reads.
fn a_reset_after_the_end(host: Host) {
    let executor = host.start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ends, forward) = executor.block_on(async {
        let ends = Ends::new(host, &rules(&[port])).await;
        let target = format!("127.0.0.1:{port}").parse().unwrap();
        let forward = ends.tunnel.local("127.0.0.1:0".parse().unwrap(), target).await.unwrap();
        (ends, forward)
    });
    let mut pairs = Vec::new();
    for client_resets in [true, false] {
        let here = connect(&forward);
        let (there, _) = listener.accept().unwrap();
        let (mut first, mut second) = if client_resets { (here, there) } else { (there, here) };
        first.write_all(b"all of it").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        let mut read = Vec::new();
        second.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"all of it");
        second.write_all(b"unread").unwrap();
        first.peek(&mut [0]).unwrap();
        pairs.push((first, second));
    }
    let (mut events, mut serving) = (ends.tunnel.events(), ends.serving.events());
    for (first, second) in pairs {
        // With unread bytes, and so reset.
        drop(first);
        let mut ended = executor.block_on(async { [end(&mut events).await, end(&mut serving).await] });
        ended.sort_by_key(|end| *end == End::ResetThere);
        assert_eq!(ended, [End::ResetHere, End::ResetThere]);
        (&second).write_all(b"too late").unwrap_err();
    }
    executor.block_on(ends.end());
}

/// Whatever the umask: the sockets that a forward listens on, here and on the other side.
fn unix_sockets_are_their_owners_alone(host: Host) {
    let executor = host.start().unwrap();
    let path = |name: &str| {
        let file = format!("callosum-tunnel-{}-{host:?}-{name}.sock", std::process::id());
        std::env::temp_dir().join(file)
    };
    let (here, there) = (path("here"), path("there"));
    let rules = format!("[[listen]]\nname = 'sockets'\nusers = ['test']\npaths = [{there:?}]\n");
    let ends = executor.block_on(async {
        let ends = Ends::new(host, &rules).await;
        let target: Target = "127.0.0.1:1".parse().unwrap();
        ends.tunnel.local(ListenAddress::Unix(here.clone()), target.clone()).await.unwrap();
        ends.tunnel.remote(ListenAddress::Unix(there.clone()), target).await.unwrap();
        ends
    });
    for path in [&here, &there] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    executor.block_on(ends.end());
}
