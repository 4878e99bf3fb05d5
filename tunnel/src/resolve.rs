//! Resolves names of hosts to addresses.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use futures_channel::oneshot;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

/// Finds the addresses of a host.
///
/// It is asked once per connection, on the side that connects, and what it says is what is checked and then connected to: a name whose
/// address changes between the two (DNS rebinding) reaches nothing that was not checked.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of a host, best first; none, or an error, if it has none.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Look-ups of [`SystemResolver`] at a time, in this process: they take threads of a pool that others use too, and an
/// abandoned one goes on until the system gives up.
const MAX_LOOKUPS: usize = 64;

static LOOKUPS: Mutex<Lookups> = Mutex::new(Lookups { under_way: 0, waiting: VecDeque::new() });

/// The look-ups of this process. Tasks that wait are woken without the lock.
struct Lookups {
    under_way: usize,
    waiting: VecDeque<oneshot::Sender<Lookup>>,
}

/// A look-up that goes on, until this is dropped.
#[derive(Debug)]
struct Lookup;

impl Lookup {
    /// Waits until there may be one more.
    async fn begin() -> Self {
        let (sender, place) = oneshot::channel();
        let given_up = {
            let mut lookups = LOOKUPS.lock();
            if lookups.under_way < MAX_LOOKUPS {
                lookups.under_way += 1;
                return Self;
            }
            let mut given_up = VecDeque::new();
            if lookups.waiting.len() == lookups.waiting.capacity() {
                // They would pile up while no look-up ends.
                let all = std::mem::take(&mut lookups.waiting).into_iter();
                (given_up, lookups.waiting) = all.partition(oneshot::Sender::is_canceled);
            }
            lookups.waiting.push_back(sender);
            given_up
        };
        drop(given_up);
        place.await.expect("those that wait are dropped only when they get their place")
    }

    /// The one that gets the place of a look-up that ends.
    fn next() -> Option<oneshot::Sender<Self>> {
        let mut lookups = LOOKUPS.lock();
        let next = lookups.waiting.pop_front();
        if next.is_none() {
            lookups.under_way -= 1;
        }
        next
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        while let Some(next) = Self::next() {
            match next.send(Self) {
                Ok(()) => return,
                // It has given up. Forgotten, or the place would be given away twice.
                Err(place) => std::mem::forget(place),
            }
        }
    }
}

/// The system's resolver, on a thread of its own for as long as it takes; 64 at a time, and more wait.
///
/// It may complete a name with the domains of its search list. A [`Target`](crate::Target) has no dot at the end of its name that would
/// prevent this.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move {
            let lookup = Lookup::begin().await;
            let look_up = move || {
                let _lookup = lookup;
                let mut addresses = Vec::new();
                for address in (name.as_str(), 0).to_socket_addrs()? {
                    if !addresses.contains(&address.ip()) {
                        addresses.push(address.ip());
                    }
                }
                Ok(addresses)
            };
            blocking::unblock(look_up).await
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_place_goes_to_the_first_that_still_waits() {
        let mut places: Vec<_> = std::iter::from_fn(|| Lookup::begin().now_or_never()).collect();
        assert_eq!(places.len(), MAX_LOOKUPS);
        let mut waiting: VecDeque<_> = (0..100).map(|_| Box::pin(Lookup::begin())).collect();
        assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        // Some give up before they have a place, and one gives up the place that it has just got.
        waiting.drain(..10);
        places.pop();
        waiting.pop_front();
        let place = waiting[0].as_mut().now_or_never().expect("it is the first");
        assert!(waiting[1].as_mut().now_or_never().is_none());
        drop((waiting, place, places));
        let lookups = LOOKUPS.lock();
        assert_eq!(lookups.under_way, 0);
        assert!(lookups.waiting.is_empty());
    }
}
