//! Names of hosts to addresses.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use futures_util::future::BoxFuture;

/// Finds the addresses of a host.
///
/// It is asked once per connection, on the side that connects, and what it says is what is checked and then connected to: a name whose
/// address changes between the two (DNS rebinding) reaches nothing that was not checked.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of a host, best first; none, or an error, if it has none.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver, on a thread of its own for as long as it takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(blocking::unblock(move || {
            let mut addresses = Vec::new();
            for address in (name.as_str(), 0).to_socket_addrs()? {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            Ok(addresses)
        }))
    }
}
