//! Sockets of the `zeromq` crate as message links, whatever the executor. Included by the tests on each runtime, which
//! bring `run` and `spawn`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::callosum::zeromq::util::PeerIdentity;
use crate::callosum::zeromq::{
    DealerSocket, RouterSocket, Socket, SocketOptions, SocketRecv, SocketSend, ZmqMessage,
};
use crate::callosum::{
    Binder, Builder, CallError, CloseCause, Connector, Context, DisconnectCause, Drained, DriverError,
    HandlerResult, Peer, builder,
};
use crate::common::{connected, disconnected, drive, echo, for_ever};
use crate::run;

const PATIENCE: Duration = Duration::from_secs(10);
const ANYWHERE: &str = "tcp://127.0.0.1:0";

fn echoing() -> Builder {
    builder().handle_raw("echo", echo).handle_raw("for ever", for_ever).handle_raw(
        "ask back",
        async |body: Bytes, context: Context| {
            HandlerResult::Ok(context.peer().invoke_raw("echo", body.clone()).await?)
        },
    )
}

async fn bind_router(endpoint: &str) -> (Binder, String) {
    let mut socket = RouterSocket::new();
    let endpoint = socket.bind(endpoint).await.unwrap().to_string();
    let (binder, driver) = echoing().bind_zeromq(socket);
    let _ending = drive(driver);
    (binder, endpoint)
}

async fn dealer(endpoint: &str) -> DealerSocket {
    let mut socket = DealerSocket::new();
    socket.connect(endpoint).await.unwrap();
    socket
}

fn connect_dealer(socket: DealerSocket) -> (Connector, impl Future<Output = Result<(), DriverError>>) {
    let (connector, driver) = echoing().connect_zeromq(socket);
    let ending = drive(driver);
    (connector, async { ending.await.expect("the driver runs to its end") })
}

async fn assert_answers(peer: &Peer, method: &str) {
    for size in [0, 1, 255, 256, 100_000, 3 << 20] {
        let body = Bytes::from(vec![b'x'; size]);
        assert!(peer.invoke_raw(method, body.clone()).timeout(PATIENCE).await.unwrap() == body);
    }
    let body = Bytes::from_static(b"one of many");
    let calls = (0..200).map(|_| peer.invoke_raw(method, body.clone()).timeout(PATIENCE).into_future());
    for result in join_all(calls).await {
        assert_eq!(result.unwrap(), body);
    }
}

/// Calls from both sides, and back within them; then both drain.
async fn assert_peers(binder: &Binder, connector: &Connector) {
    assert_answers(connector.peer(), "echo").await;
    assert_answers(connector.peer(), "ask back").await;
    let peers = binder.peers();
    assert_eq!(peers.len(), 1);
    assert_answers(&peers[0], "echo").await;
    assert_eq!(connector.shutdown(PATIENCE).await, Drained::Completely);
    assert_eq!(binder.shutdown(PATIENCE).await, Drained::Completely);
}

#[test]
fn a_router_serves_a_connector() {
    run(async {
        let (binder, endpoint) = bind_router(ANYWHERE).await;
        let (connector, driver) = echoing().connect(&endpoint).unwrap();
        let _ending = drive(driver);
        assert_peers(&binder, &connector).await;
    });
}

#[test]
fn a_dealer_calls_a_binder() {
    run(async {
        let (binder, driver) = echoing().bind(ANYWHERE).await.unwrap();
        let _ending = drive(driver);
        let (connector, _ending) = connect_dealer(dealer(&binder.endpoints()[0].to_string()).await);
        assert_peers(&binder, &connector).await;
    });
}

#[test]
fn a_dealer_calls_a_router() {
    run(async {
        let (binder, endpoint) = bind_router(ANYWHERE).await;
        let (connector, ending) = connect_dealer(dealer(&endpoint).await);
        assert_peers(&binder, &connector).await;
        ending.await.unwrap();
    });
}

#[test]
fn a_dealer_calls_a_router_over_ipc() {
    run(async {
        let path = std::env::temp_dir().join(format!("callosum-{}-router.sock", std::process::id()));
        let (binder, endpoint) = bind_router(&format!("ipc://{}", path.display())).await;
        let (connector, _ending) = connect_dealer(dealer(&endpoint).await);
        assert_peers(&binder, &connector).await;
        // The crate leaves its socket behind.
        let _ = std::fs::remove_file(path);
    });
}

#[test]
fn a_router_has_many_peers() {
    run(async {
        let (binder, endpoint) = bind_router(ANYWHERE).await;
        let mut connectors = Vec::new();
        for _ in 0..6 {
            connectors.push(connect_dealer(dealer(&endpoint).await).0);
        }
        let body = Bytes::from_static(b"one of many");
        let calls = connectors.iter().map(async |connector| {
            for _ in 0..50 {
                assert_eq!(
                    connector.peer().invoke_raw("ask back", body.clone()).timeout(PATIENCE).await.unwrap(),
                    body
                );
            }
        });
        join_all(calls).await;
        assert_eq!(binder.peers().len(), 6);
    });
}

#[test]
fn a_connection_that_closes_is_noticed_at_once() {
    run(async {
        let (binder, endpoint) = bind_router(ANYWHERE).await;
        let mut events = binder.events();
        let (connector, _ending) = connect_dealer(dealer(&endpoint).await);
        let peer = connected(&mut events).await;
        // Once the probes at the beginning of a link are answered, the binder has nothing to send that could fail first.
        connector.peer().ready().await.unwrap();
        for _ in 0..8 {
            futures_util::try_join!(connector.peer().ping(), peer.ping()).unwrap();
        }
        assert_eq!(connector.shutdown(PATIENCE).await, Drained::Completely);
        let cause = disconnected(&mut events).await;
        assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause:?}");
        assert!(!peer.is_connected());

        let (connector, ending) = connect_dealer(dealer(&endpoint).await);
        connected(&mut events).await;
        let body = Bytes::new();
        let pending = connector.peer().invoke_raw("for ever", body.clone()).into_future();
        let (result, drained) = futures_util::join!(pending, async {
            while binder.peers()[0].stats().requests_running == 0 {
                connector.peer().ping().await.unwrap();
            }
            binder.shutdown(Duration::ZERO).await
        });
        assert_eq!(drained, Drained::DeadlinePassed);
        // Input that the binder has not read makes the system reset the connection, which is an error of the link.
        let ended = |cause: &_| matches!(cause, DisconnectCause::PeerClosed | DisconnectCause::Link(_));
        let Err(CallError::Disconnected(cause)) = result else { panic!("{result:?}") };
        assert!(ended(&cause), "{cause:?}");
        let Err(DriverError::Disconnected(cause)) = ending.await else { panic!("it was not shut down") };
        assert!(ended(&cause), "{cause:?}");
    });
}

#[test]
fn a_newcomer_with_the_same_identity_gets_a_new_connection() {
    run(async {
        let with_identity = async |endpoint: &str| {
            let mut options = SocketOptions::default();
            options.peer_identity(PeerIdentity::try_from(&b"agent-1"[..]).unwrap());
            let mut socket = DealerSocket::with_options(options);
            socket.connect(endpoint).await.unwrap();
            connect_dealer(socket)
        };
        let (binder, endpoint) = bind_router(ANYWHERE).await;
        let mut events = binder.events();
        let (former, ending) = with_identity(&endpoint).await;
        let peer = connected(&mut events).await;
        assert_eq!(peer.info().routing_id, "agent-1");
        let body = Bytes::new();
        let pending = peer.invoke_raw("for ever", body.clone()).into_future();
        let (result, mut newcomer) = futures_util::join!(pending, async {
            while former.peer().stats().requests_running == 0 {
                peer.ping().await.unwrap();
            }
            with_identity(&endpoint).await
        });
        // Whether the old connection's end or the newcomer's hello is seen first is the socket's affair.
        let Err(CallError::Disconnected(cause)) = result else { panic!("{result:?}") };
        let restarted = matches!(cause, DisconnectCause::Connection(CloseCause::PeerRestarted));
        assert!(restarted || matches!(cause, DisconnectCause::PeerClosed), "{cause:?}");
        assert!(ending.await.is_err());
        // That crate has one list of peers, by identity: when it notices that the former connection has ended, it may take the newcomer off
        // it, which then gets no answer. The next newcomer has no former one.
        for _ in 0..2 {
            if newcomer.0.peer().invoke_raw("echo", body.clone()).timeout(PATIENCE / 2).await.is_ok() {
                break;
            }
            newcomer = with_identity(&endpoint).await;
        }
        assert_answers(newcomer.0.peer(), "ask back").await;
        assert_eq!(binder.peers().len(), 1);
    });
}

#[test]
fn garbage_between_calls_does_no_harm() {
    run(async {
        let (binder, endpoint) = bind_router(ANYWHERE).await;
        let (connector, _ending) = connect_dealer(dealer(&endpoint).await);
        let mut raw = dealer(&endpoint).await;
        for frames in 1..20 {
            let junk = vec![Bytes::from_static(b"junk"); frames];
            raw.send(ZmqMessage::try_from(junk).unwrap()).await.unwrap();
            let body = Bytes::from_static(b"good");
            assert_eq!(
                connector.peer().invoke_raw("echo", body.clone()).timeout(PATIENCE).await.unwrap(),
                body
            );
        }
        let empty = Bytes::new();
        let ping = vec![Bytes::from_static(b"PING"), empty.clone(), empty.clone()];
        raw.send(ZmqMessage::try_from(ping).unwrap()).await.unwrap();
        assert_eq!(raw.recv().await.unwrap().into_vec(), [Bytes::from_static(b"PONG"), empty.clone(), empty]);
        assert_eq!(binder.peers().len(), 2);
    });
}
