//! Strangers that begin handshakes and don't end them, and good clients that get in all the same.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::auth::{
    Admission, AuthenticationError, CurveClient, CurveKeyPair, CurvePublicKey, FnAuthenticator, Identity,
    generate_keys,
};
use callosum_runtime::rt::BoxStream;
use callosum_runtime::{
    Binder, Builder, Connector, DisconnectCause, Event, Events, HandlerResult, Limits, Reconnect,
};
use futures_util::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Rig, Running, next_event};
use crate::suite::abuse::Scene;

/// Places for unfinished handshakes.
const PLACES: usize = 32;

/// As much of a handshake as an attacker says: nothing, a part of the greeting, all of it, and a part of READY.
const PARTS: [usize; 4] = [0, 10, 64, 70];

/// Who trickles has sent so many bytes, without a pause, when a good client comes.
const NEWCOMERS_BYTE: usize = 5;

fn limits(max_handshakes: usize) -> Limits {
    Limits::default().max_handshakes(max_handshakes)
}

/// What a connector under NULL says first (RFC 23).
fn opening() -> Vec<u8> {
    let mut bytes = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec();
    bytes.resize(64, 0);
    bytes.extend(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER");
    bytes
}

async fn half_open(scene: &Scene, part: usize) -> BoxStream {
    let mut stream = scene.open().await;
    stream.write_all(&opening()[..part]).await.expect("the binder reads");
    stream
}

async fn until_closed(mut stream: BoxStream) {
    let mut scratch = [0; 1024];
    while matches!(stream.read(&mut scratch).await, Ok(1..)) {}
}

/// Far more connections than places, held open for ever: each good client gets in at its first attempt, and it is the
/// attacker's own that make way.
pub async fn more_half_open_than_allowed(rig: Rig) {
    const ROUNDS: usize = 10;
    let scene = Scene::new(&rig, rig.builder().limits(limits(PLACES))).await;
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        // Fewer than there are places at a time, so that a good client has the time that it takes.
        let batch = async {
            for n in 0..PLACES - 2 {
                held.push(half_open(&scene, PARTS[(round + n) % PARTS.len()]).await);
            }
        };
        scene.beside(0, batch).await;
        let good = rig.builder().reconnect(Reconnect::Never);
        let (connector, driver) = rig.connect(good, &scene.binder.endpoints()[0]);
        let body = Bytes::from("good");
        assert_eq!(connector.peer().invoke_raw("echo", body.clone()).await.expect("it gets in"), body);
        driver.cut().await;
    }
    // Those that made way were told so, the oldest first.
    for stream in held.drain(..PLACES * (ROUNDS - 2)) {
        until_closed(stream).await;
    }
    scene.end().await;
}

/// One byte after another, each in good time, but not the whole; a good client comes in the midst of it.
pub async fn slow_loris(rig: Rig) {
    // Time enough to open all of these, and for the good client.
    let limits = limits(PLACES).handshake_timeout(Duration::from_secs(3));
    let mut scene = Scene::new(&rig, rig.builder().limits(limits)).await;
    let mut streams = Vec::new();
    for _ in 0..PLACES {
        streams.push(scene.open().await);
    }
    let trickle = async {
        // Never complete: the last byte is left out.
        let opening = opening();
        for (at, byte) in opening[..opening.len() - 1].iter().enumerate() {
            if at == NEWCOMERS_BYTE {
                // Every place is taken by those that trickle: the last bytes of none have come, nor its time.
                let newcomer = scene.rig.builder().reconnect(Reconnect::Never);
                let (connector, driver) = scene.rig.connect(newcomer, &scene.binder.endpoints()[0]);
                let body = Bytes::from("good");
                assert_eq!(
                    connector.peer().invoke_raw("echo", body.clone()).await.expect("it gets in"),
                    body
                );
                driver.cut().await;
            }
            for stream in &mut streams {
                // It may be closed by now.
                let _ = stream.write_all(&[*byte]).await;
            }
            if at >= NEWCOMERS_BYTE {
                // Each in good time: the whole would take longer than a handshake may.
                scene.rig.pause(Duration::from_millis(40)).await;
            }
        }
        for stream in streams {
            until_closed(stream).await;
        }
    };
    scene.beside(10, trickle).await;
    // One made way for the newcomer; the others' time ran out.
    let first = refusal(&mut scene.events).await;
    assert!(matches!(first, DisconnectCause::TooManyHandshakes), "{first:?}");
    let second = refusal(&mut scene.events).await;
    assert!(matches!(second, DisconnectCause::Protocol(_)), "{second:?}");
    scene.end().await;
}

/// A client's ERROR is no word of a server's.
pub async fn a_client_that_says_it_refuses(rig: Rig) {
    let (binder, driver) = rig.serve(rig.builder()).await;
    let mut events = binder.events();
    let mut stream = rig.open(&binder.endpoints()[0]).await;
    let words = [&opening()[..64], b"\x04\x0a\x05ERROR\x03400"].concat();
    stream.write_all(&words).await.expect("the binder reads");
    until_closed(stream).await;
    let cause = refusal(&mut events).await;
    assert!(matches!(cause, DisconnectCause::Protocol(_)), "{cause:?}");
    driver.cut().await;
}

async fn refusal(events: &mut Events) -> DisconnectCause {
    next_event(events, |event| match event {
        Event::Refused { cause, .. } => Some(cause),
        _ => None,
    })
    .await
}

/// However many strangers are refused, they don't push what happened to others out of a subscriber's buffer.
pub async fn refusals_drown_no_events(rig: Rig) {
    const STRANGERS: usize = 3_000;
    let serving = rig.builder().handle_raw("echo", |body, _| async move { HandlerResult::Ok(body) });
    let (binder, driver) = rig.serve(serving).await;
    let mut events = binder.events();
    let pair = rig.connect(rig.builder(), &binder.endpoints()[0]);
    pair.0.peer().ready().await.expect("the binder is there");
    let body = Bytes::from("good");
    for _ in 0..STRANGERS {
        let mut stream = rig.open(&binder.endpoints()[0]).await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("the binder reads");
        until_closed(stream).await;
        assert_eq!(
            pair.0.peer().invoke_raw("echo", body.clone()).await.expect("an honest call succeeds"),
            body
        );
    }
    pair.1.cut().await;
    let (mut connected, mut refused, mut unreported) = (0, 0, 0);
    next_event(&mut events, |event| {
        match event {
            Event::Connected(_) => connected += 1,
            Event::Refused { unreported: more, .. } => {
                refused += 1;
                unreported += more;
            }
            _ => {}
        }
        matches!(event, Event::Disconnected { .. }).then_some(())
    })
    .await;
    assert_eq!(connected, 1);
    assert!(refused >= 16 && refused + unreported <= STRANGERS as u64, "{refused} and {unreported}");
    driver.cut().await;
}

fn client(rig: &Rig, keys: CurveKeyPair, server: CurvePublicKey) -> Builder {
    rig.builder().reconnect(Reconnect::Never).authenticator(CurveClient::new(keys, server))
}

/// A binder that admits one key, and never makes up its mind about any other.
async fn undecided(
    rig: &Rig,
    good: CurvePublicKey,
) -> (Binder, Running, CurvePublicKey, async_channel::Receiver<()>) {
    let server = generate_keys();
    let server_key = server.public();
    let (ask, asked) = async_channel::unbounded();
    let check = FnAuthenticator::new(server, move |credential| {
        let ask = ask.clone();
        async move {
            if credential.public_key == good {
                return Admission::Admit(Identity::new("good"));
            }
            ask.try_send(()).expect("the test waits");
            pending().await
        }
    });
    let builder = rig.builder().limits(limits(PLACES)).authenticator(check);
    let (binder, driver) =
        rig.serve(builder.handle_raw("echo", |body, _| async move { HandlerResult::Ok(body) })).await;
    (binder, driver, server_key, asked)
}

/// Under CURVE, with every place taken by clients that the authenticator does not decide about, and more of them coming,
/// beside others that say nothing: a good one is admitted.
pub async fn places_taken_while_the_application_decides(rig: Rig) {
    let good = generate_keys();
    let (binder, driver, server_key, asked) = undecided(&rig, good.public()).await;
    let mut events = binder.events();
    let mut attackers: Vec<(Connector, Running)> = Vec::new();
    let mut silent = Vec::new();
    for round in 0..4 {
        for _ in 0..PLACES {
            attackers.push(rig.connect(client(&rig, generate_keys(), server_key), &binder.endpoints()[0]));
            asked.recv().await.expect("it is asked about");
        }
        for _ in 0..PLACES * (round % 2) {
            silent.push(rig.open(&binder.endpoints()[0]).await);
        }
        let (connector, good_driver) =
            rig.connect(client(&rig, good.clone(), server_key), &binder.endpoints()[0]);
        let body = Bytes::from("good");
        assert_eq!(connector.peer().invoke_raw("echo", body.clone()).await.expect("it gets in"), body);
        good_driver.cut().await;
    }
    let cause = refusal(&mut events).await;
    assert!(matches!(cause, DisconnectCause::TooManyHandshakes), "{cause:?}");
    // The first that made way learns that it was not admitted.
    let (_connector, first) = attackers.remove(0);
    let ended = first.join().await.expect_err("it was pushed out");
    let callosum_runtime::DriverError::Disconnected(DisconnectCause::Authentication(cause)) = ended else {
        panic!("{ended:?}")
    };
    assert!(matches!(cause, AuthenticationError::BrokenOff { .. }), "{cause:?}");
    for (_, attacker) in attackers {
        attacker.cut().await;
    }
    drop(silent);
    driver.cut().await;
}
