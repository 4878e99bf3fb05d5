use std::pin::pin;
use std::task::{Context, Poll, Waker};

use callosum_proto::CloseCause;

use crate::DisconnectCause;
use crate::by_hand::Pair;
use crate::peer::Peer;

/// What the connection said before it was closed may not have been taken yet.
#[test]
fn nobody_is_told_of_a_link_that_is_closed_already() {
    let mut pair = Pair::new();
    let hello = pair.client.poll_message(pair.runtime.now).expect("a connector speaks first");
    pair.peer.lock().connection.handle_message(pair.runtime.now, hello);
    let peer = Peer::new(pair.peer.clone(), None, None);
    assert!(peer.is_connected());
    peer.disconnect();
    let mut ready = pin!(peer.ready());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(ready.as_mut().poll(&mut cx).is_pending());
    pair.pump.run();
    assert!(ready.as_mut().poll(&mut cx).is_pending(), "there is no link");
    let cause = pair.peer.end_cause().expect("it is closed");
    pair.peer.detach(&cause, false);
    let Poll::Ready(Err(cause)) = ready.as_mut().poll(&mut cx) else { panic!("there will be none") };
    assert!(matches!(cause, DisconnectCause::Connection(CloseCause::Local)), "{cause:?}");
}

#[test]
fn who_gives_up_waiting_for_a_link_leaves_room_to_those_who_wait() {
    let pair = Pair::new();
    let peer = Peer::new(pair.peer.clone(), None, None);
    let mut cx = Context::from_waker(Waker::noop());
    let mut ask = || {
        let peer = peer.clone();
        let mut ready = Box::pin(async move { peer.ready().await });
        assert!(ready.as_mut().poll(&mut cx).is_pending());
        ready
    };
    let waiting: Vec<_> = std::iter::repeat_with(&mut ask).take(100).collect();
    for _ in 0..1_000 {
        drop(ask());
    }
    let kept = pair.peer.lock().ready.len();
    assert!((100..=200).contains(&kept), "{kept}");
    drop(waiting);
}
