//! Room for the bodies that all peers of an endpoint together may have under way, in the order in which it was asked
//! for.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_channel::oneshot;
use parking_lot::Mutex;

/// Bytes of memory that large bodies share.
#[derive(Debug)]
pub(crate) struct Reassembly {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    waiting: VecDeque<(usize, oneshot::Sender<Room>)>,
}

/// Room for one body, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    pool: Arc<Reassembly>,
    bytes: usize,
}

impl Reassembly {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// Waits for its turn, and for so many bytes. One body alone may be larger than the limit.
    ///
    /// Cancel safe: whoever stops waiting holds up nobody.
    pub(crate) async fn room(self: &Arc<Self>, bytes: usize) -> Room {
        loop {
            let turn = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() && state.fits(bytes, self.limit) {
                    state.used += bytes;
                    return Room { pool: self.clone(), bytes };
                }
                let (sender, turn) = oneshot::channel();
                state.waiting.push_back((bytes, sender));
                turn
            };
            self.serve();
            if let Ok(room) = turn.await {
                return room;
            }
        }
    }

    /// Gives room to those whose turn it is.
    fn serve(self: &Arc<Self>) {
        loop {
            let (bytes, sender) = {
                let mut state = self.state.lock();
                state.waiting.retain(|(_, sender)| !sender.is_canceled());
                let Some((bytes, _)) = state.waiting.front() else { return };
                let bytes = *bytes;
                if !state.fits(bytes, self.limit) {
                    return;
                }
                state.used += bytes;
                let Some((_, sender)) = state.waiting.pop_front() else { return };
                (bytes, sender)
            };
            // One who has stopped waiting gives it back at once.
            drop(sender.send(Room { pool: self.clone(), bytes }));
        }
    }
}

impl State {
    fn fits(&self, bytes: usize, limit: usize) -> bool {
        self.used == 0 || bytes <= limit.saturating_sub(self.used)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.pool.state.lock().used -= self.bytes;
        self.pool.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::task::noop_waker;
    use std::pin::pin;
    use std::task::{Context, Poll};

    use super::*;

    #[test]
    fn room_goes_round_in_turn_and_comes_back() {
        let pool = Reassembly::new(100);
        let first = pool.room(60).now_or_never().unwrap();
        let mut large = pin!(pool.room(50));
        let mut small = pin!(pool.room(10));
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(large.as_mut().poll(&mut cx).is_pending());
        assert!(small.as_mut().poll(&mut cx).is_pending(), "it does not overtake");
        drop(first);
        assert!(matches!(large.poll(&mut cx), Poll::Ready(_)));
        assert!(matches!(small.poll(&mut cx), Poll::Ready(_)));
        assert_eq!(pool.state.lock().used, 0);
    }

    #[test]
    fn who_stops_waiting_holds_up_nobody() {
        let pool = Reassembly::new(100);
        let first = pool.room(60).now_or_never().unwrap();
        assert!(pool.room(50).now_or_never().is_none());
        let _second = pool.room(40).now_or_never().expect("there is room, and nobody waits");
        drop(first);
    }

    #[test]
    fn one_alone_may_be_too_large() {
        let pool = Reassembly::new(100);
        let _giant = pool.room(1_000).now_or_never().unwrap();
        assert!(pool.room(1).now_or_never().is_none());
    }
}
