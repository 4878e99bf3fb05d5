//! Programs of others through a tunnel, in plaintext and under CURVE: `curl`, Redis and OpenSSH.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

mod gateway;
mod openssh;
mod programs;

use std::net::Ipv4Addr;
use std::process::Command;

use callosum_tunnel::Forward;
use futures_util::FutureExt;
use gateway::{Gateway, NAME, Security, USER};
use programs::{Redis, Scratch, find, printed, run, text};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Bytes that hold no line twice, and compress badly.
fn body(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b' ' + (state % 95) as u8
    };
    std::iter::repeat_with(&mut next).take(size).collect()
}

/// A web server that sends back what is sent to it.
struct Web {
    port: u16,
    _serving: JoinSet<()>,
}

impl Web {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async { echo(stream).await.unwrap() });
            }
        });
        Self { port, _serving: serving }
    }
}

/// Answers one request with its own body.
async fn echo(stream: TcpStream) -> std::io::Result<()> {
    let (mut stream, mut length, mut line) = (BufReader::new(stream), 0, String::new());
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// `curl` through a dynamic forward, without the user's own settings.
fn curl(way: Way, proxy: &Forward) -> Command {
    let mut command = Command::new(find("curl"));
    // `-q` must come first.
    command.args(["-q", "--silent", "--show-error", "--noproxy", ""]);
    let address = proxy.address();
    match way {
        Way::Socks5 => command.args(["--socks5-hostname", &address.to_string()]),
        Way::HttpConnect => command.args(["--proxytunnel", "--proxy", &format!("http://{address}")]),
    };
    command
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Socks5,
    HttpConnect,
}

impl Way {
    const BOTH: [Self; 2] = [Self::Socks5, Self::HttpConnect];
}

fn web_rules(ports: &[u16]) -> String {
    format!(
        r#"
        [[connect]]
        name = "by name"
        users = ["{USER}"]
        hosts = ["*.internal"]
        networks = ["127.0.0.1"]
        ports = {ports:?}

        [[connect]]
        name = "by address"
        users = ["{USER}"]
        networks = ["127.0.0.1"]
        ports = {ports:?}
        "#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_posts_by_name_and_by_address() {
    let (web, body) = (Web::start().await, body(3_000_000));
    for security in Security::BOTH {
        let gateway = Gateway::new(security, &web_rules(&[web.port])).await;
        let proxy = gateway.tunnel.dynamic("127.0.0.1:0".parse().unwrap()).await.unwrap();
        for way in Way::BOTH {
            for host in [NAME, "127.0.0.1"] {
                let mut curl = curl(way, &proxy);
                curl.args(["--header", "Expect:", "--data-binary", "@-"]);
                curl.arg(format!("http://{host}:{}/", web.port));
                let echoed = printed(run(curl, &body).await);
                assert!(echoed == body, "{security:?}, {way:?}, {host}: {} bytes", echoed.len());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_learns_why_it_is_refused() {
    let forbidden = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let forbidden_port = forbidden.local_addr().unwrap().port();
    // A port that the system gives to no other process, and that has no listener.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let closed_port = closed.local_addr().unwrap().port();
    // The reply codes of RFC 1928, and the status codes.
    let refusals = [
        (format!("127.0.0.1:{forbidden_port}"), "2", "403"),
        (format!("{NAME}:{forbidden_port}"), "2", "403"),
        (format!("127.0.0.1:{closed_port}"), "5", "502"),
        (format!("nowhere.internal:{closed_port}"), "4", "502"),
    ];
    for security in Security::BOTH {
        let gateway = Gateway::new(security, &web_rules(&[closed_port])).await;
        let proxy = gateway.tunnel.dynamic("127.0.0.1:0".parse().unwrap()).await.unwrap();
        for (target, reply, status) in &refusals {
            let mut socks5 = curl(Way::Socks5, &proxy);
            socks5.arg(format!("http://{target}/"));
            let output = run(socks5, b"").await;
            let said = text(&output.stderr);
            // What curl ends with if a proxy refuses.
            assert_eq!(output.status.code(), Some(97), "{security:?}, {target}: {said}");
            assert!(said.contains(&format!("({reply})")), "{security:?}, {target}: {said}");

            let mut connect = curl(Way::HttpConnect, &proxy);
            connect.args(["--write-out", "%{http_connect}", &format!("http://{target}/")]);
            let output = run(connect, b"").await;
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(56), "{security:?}, {target}: {said}");
            assert_eq!(text(&output.stdout), *status, "{security:?}, {target}: {said}");
        }
    }
    assert!(forbidden.accept().now_or_never().is_none(), "nobody has connected");
}

fn redis_cli(connection: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(find("redis-cli"));
    command.args(connection).args(arguments).env_remove("REDISCLI_AUTH");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_on_a_port_and_on_a_unix_socket() {
    const SETS: usize = 10_000;
    let scratch = Scratch::new("redis");
    let redis = Redis::start(&scratch);
    let rules = format!(
        r#"
        [[connect]]
        name = "Redis"
        users = ["{USER}"]
        networks = ["127.0.0.1"]
        ports = [{}]

        [[connect]]
        name = "the socket of Redis"
        users = ["{USER}"]
        paths = ["{}"]
        "#,
        redis.port, redis.socket
    );
    let blob = body(2_000_000);
    let sets: String = (0..SETS).map(|n| format!("SET key-{n} value-{n}\r\n")).collect();
    for security in Security::BOTH {
        let gateway = Gateway::new(security, &rules).await;
        let target = format!("127.0.0.1:{}", redis.port).parse().unwrap();
        let by_port = gateway.tunnel.local("127.0.0.1:0".parse().unwrap(), target).await.unwrap();
        let here = scratch.path(&format!("{security:?}.sock"));
        let target = format!("unix:{}", redis.socket).parse().unwrap();
        gateway.tunnel.local(format!("unix:{here}").parse().unwrap(), target).await.unwrap();
        let address = by_port.address().to_string();
        let (host, port) = address.rsplit_once(':').unwrap();
        let (tcp, unix) = (["-h", host, "-p", port], ["-s", &here]);

        assert_eq!(printed(run(redis_cli(&tcp, &["FLUSHALL"]), b"").await), b"OK\n");
        assert_eq!(printed(run(redis_cli(&tcp, &["-x", "SET", "blob"]), &blob).await), b"OK\n");
        let got = printed(run(redis_cli(&unix, &["GET", "blob"]), b"").await);
        assert!(got.strip_suffix(b"\n") == Some(&blob[..]), "{security:?}: {} bytes", got.len());

        // Ten thousand commands at once, each answered.
        let piped = text(&printed(run(redis_cli(&unix, &["--pipe"]), sets.as_bytes()).await));
        assert!(piped.contains(&format!("errors: 0, replies: {SETS}")), "{security:?}: {piped}");
        assert_eq!(
            printed(run(redis_cli(&tcp, &["DBSIZE"]), b"").await),
            format!("{}\n", SETS + 1).as_bytes()
        );

        // One connection waits for what another brings.
        let waits = run(redis_cli(&unix, &["BLPOP", "queue", "0"]), b"");
        let brings = run(redis_cli(&tcp, &["RPUSH", "queue", "job"]), b"");
        let (waited, brought) = tokio::join!(waits, brings);
        assert_eq!(text(&printed(waited)), "queue\njob\n");
        assert_eq!(text(&printed(brought)), "1\n");
    }
}
