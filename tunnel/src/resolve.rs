//! Resolves names of hosts to addresses.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::LazyLock;

use async_channel::{Receiver, Sender};
use futures_util::future::BoxFuture;

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

/// Has as many items as there are look-ups.
static LOOKUPS: LazyLock<(Sender<()>, Receiver<()>)> = LazyLock::new(|| async_channel::bounded(MAX_LOOKUPS));

/// A look-up that goes on, until this is dropped.
struct Lookup;

impl Lookup {
    /// Waits until there may be one more.
    async fn begin() -> Self {
        // The receiver lives as long as the process.
        let _ = LOOKUPS.0.send(()).await;
        Self
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let _ = LOOKUPS.1.try_recv();
    }
}

/// The system's resolver, on a thread of its own for as long as it takes; 64 at a time, and more wait.
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
