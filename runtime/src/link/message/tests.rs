use std::task::Waker;

use futures_util::future::BoxFuture;

use super::*;
use crate::by_hand::Pair;
use crate::link::LinkFailure;

/// Many peers say hello, then the link fails.
struct FailsAfter {
    hello: Multipart,
    peers: usize,
}

impl MessageReceiver for FailsAfter {
    fn receive(&mut self) -> BoxFuture<'_, Result<Received, LinkFailure>> {
        let received = match self.peers.checked_sub(1) {
            Some(left) => {
                self.peers = left;
                Ok(Received::Message { from: format!("peer {left}").into(), message: self.hello.clone() })
            }
            None => Err(Arc::new(std::io::Error::other("it fails")) as LinkFailure),
        };
        std::future::ready(received).boxed()
    }
}

struct Takes;

impl MessageSender for Takes {
    fn send<'a>(&'a self, _: &'a Bytes, _: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        std::future::ready(Ok(())).boxed()
    }
}

#[test]
fn while_the_peers_of_a_link_end_others_have_their_turn() {
    let mut pair = Pair::new();
    let hello = pair.client.poll_message(pair.runtime.now).expect("a connector speaks first");
    let peers = PeersOfLink::new(pair.node.clone(), Box::new(Takes));
    let mut receiver = FailsAfter { hello, peers: 5 * MAX_TURNS };
    let mut running = pin!(peers.run(&mut receiver));
    let mut left = 0;
    let most_at_once = std::iter::from_fn(|| {
        let polled = running.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let ended = left - peers.peers.lock().len().min(left);
        left = peers.peers.lock().len();
        polled.is_pending().then_some(ended)
    });
    assert_eq!(most_at_once.max(), Some(MAX_TURNS));
    assert_eq!(left, 0);
    assert_eq!(pair.node.everyone().len(), 1, "the one that is not of this link");
}
