use std::future::IntoFuture;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use callosum_proto::CloseCause;
use futures_util::FutureExt;

use crate::by_hand::Pair;
use crate::lock::Mutex;
use crate::peer::Peer;
use crate::{DisconnectCause, Drained};

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

/// A waker whose first use says so, and then keeps its thread until the test goes on.
struct Stops {
    stopped: mpsc::Sender<()>,
    until: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Stops {
    fn waker() -> (Waker, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((stopped, is_stopped), (go_on, until)) = (mpsc::channel(), mpsc::channel());
        (Waker::from(Arc::new(Self { stopped, until: Mutex::new(Some(until)) })), is_stopped, go_on)
    }
}

impl Wake for Stops {
    fn wake(self: Arc<Self>) {
        let until = self.until.lock().take();
        if let Some(until) = until {
            self.stopped.send(()).expect("the test waits for it");
            // An error if the test has failed.
            let _ = until.recv();
        }
    }
}

/// Ends a connection with several calls on a thread of its own, which stops as it wakes the first caller, and the endpoint meanwhile.
fn end_meanwhile(end_connection: impl FnOnce(Pair) + Send + 'static) {
    let pair = Pair::connected();
    let (waker, is_stopped, go_on) = Stops::waker();
    let mut cx = Context::from_waker(&waker);
    let peer = Peer::new(pair.peer.clone(), None, None);
    let mut calls: Vec<_> = (0..3).map(|_| peer.invoke_raw("call", "").into_future()).collect();
    assert!(calls.iter_mut().all(|call| call.poll_unpin(&mut cx).is_pending()));
    let node = pair.node.clone();
    let link = thread::spawn(move || end_connection(pair));
    is_stopped.recv().expect("somebody waits for a call");
    node.finish(Drained::Completely);
    assert!(node.wait_until_over().now_or_never().is_some(), "a shutdown waits for no waker");
    assert!(calls.into_iter().all(|call| call.now_or_never().is_some()), "an outcome is still under way");
    assert_eq!(node.core.stats().calls_in_flight, 0);
    go_on.send(()).expect("it waits for this");
    link.join().expect("it does not panic");
}

#[test]
fn calls_that_a_link_has_ended_have_their_outcome_when_the_endpoint_is_over() {
    end_meanwhile(|mut pair| {
        pair.peer.cut(DisconnectCause::Shutdown);
        pair.pump.run();
    });
}

#[test]
fn calls_of_a_connection_that_has_ended_have_their_outcome_when_the_endpoint_is_over() {
    end_meanwhile(|pair| pair.peer.detach(&DisconnectCause::PeerClosed, false));
}
