//! Connecting to a target.
//!
//! Responsible for everything between the name of a target and its socket: resolving once, checking each address,
//! trying the allowed addresses one after the other. Not for whether the user may name the target, which is decided
//! before.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use callosum_runtime::rt::{BoxSocket, Runtime, from_now};
use callosum_runtime::{Endpoint, SocketOptions};

use crate::resolve::Resolver;
use crate::time::{sleep, within};
use crate::{Host, Reason, Target};

/// Options that notice when the other end of a connection has vanished, which a connection that is idle for hours would not.
pub(crate) fn keepalive() -> SocketOptions {
    SocketOptions::default().keepalive(Duration::from_secs(60), Duration::from_secs(10))
}

/// Pauses between attempts to connect to a Unix socket whose backlog is full: at first, and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// Everything that is needed to connect.
pub(crate) struct Dialer<'a> {
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) resolver: &'a dyn Resolver,
    pub(crate) socket: SocketOptions,
    /// For all of it: resolving, and every address.
    pub(crate) timeout: Duration,
}

/// A socket, and the address that it is connected to if it is TCP.
pub(crate) struct Dialled {
    pub(crate) socket: BoxSocket,
    pub(crate) address: Option<SocketAddr>,
}

impl Dialer<'_> {
    /// Connects to one of the addresses of `target` that `admit` lets through. What `admit` returns is called before the address is
    /// tried, and gives what is held while it is connected to. A Unix socket has no address.
    ///
    /// # Errors
    /// What became of the last address that was tried. If none was, why an allowed one was not; [`Reason::Forbidden`] if none is allowed.
    pub(crate) async fn dial<A, T>(
        &self,
        target: &Target,
        admit: impl Fn(Option<IpAddr>) -> Result<A, Reason>,
    ) -> Result<(Dialled, T), Reason>
    where
        A: FnOnce() -> Result<T, Reason>,
    {
        let end = from_now(self.runtime, self.timeout);
        let dialling = async {
            match target {
                Target::Unix(path) => {
                    let admitted = admit(None)?()?;
                    let socket = self.connect_unix(path).await;
                    let socket = socket.map_err(|error| reason(&error, Reason::Refused))?;
                    Ok((Dialled { socket, address: None }, admitted))
                }
                Target::Tcp { host, port } => {
                    let found = self.resolve(host).await?;
                    let admitted = found.iter().filter_map(|ip| Some((*ip, admit(Some(*ip)).ok()?)));
                    self.try_each(admitted.collect(), *port, end).await
                }
            }
        };
        within(self.runtime, self.timeout, dialling).await.unwrap_or(Err(Reason::TimedOut))
    }

    /// Waits while the target's backlog is full, as a connection to a TCP port does in the kernel: a Unix socket that does not block
    /// gets `EAGAIN` instead, and nothing tells when to try again.
    async fn connect_unix(&self, path: &Path) -> io::Result<BoxSocket> {
        let endpoint = Endpoint::Ipc(path.to_owned());
        let mut pause = RETRY[0];
        loop {
            match self.runtime.connect(&endpoint, self.socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sleep(self.runtime, pause).await;
                    pause = (pause * 2).min(RETRY[1]);
                }
                connected => return connected,
            }
        }
    }

    async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, Reason> {
        let found = match host {
            Host::Ip(address) => vec![*address],
            Host::Name(name) => self.resolver.resolve(name).await.unwrap_or_default(),
        };
        match found.is_empty() {
            true => Err(Reason::UnknownHost),
            // An IPv4-mapped IPv6 address is checked and connected to as the IPv4 address that it stands for.
            false => Ok(found.iter().map(IpAddr::to_canonical).collect()),
        }
    }

    /// Each address has an equal share of the time that is left, so that one that never answers leaves some for the next.
    async fn try_each<T>(
        &self,
        addresses: Vec<(IpAddr, impl FnOnce() -> Result<T, Reason>)>,
        port: u16,
        end: Instant,
    ) -> Result<(Dialled, T), Reason> {
        let (mut not_tried, mut failed) = (Reason::Forbidden, None);
        let count = addresses.len();
        for (at, (ip, take)) in addresses.into_iter().enumerate() {
            let admitted = match take() {
                Ok(admitted) => admitted,
                Err(reason) => {
                    not_tried = reason;
                    continue;
                }
            };
            let left = end.saturating_duration_since(self.runtime.now());
            let share = left / u32::try_from(count - at).unwrap_or(u32::MAX);
            let endpoint = Endpoint::Tcp { host: ip.to_string(), port };
            match within(self.runtime, share, self.runtime.connect(&endpoint, self.socket)).await {
                Some(Ok(socket)) => {
                    return Ok((Dialled { socket, address: Some(SocketAddr::new(ip, port)) }, admitted));
                }
                Some(Err(error)) => failed = Some(unreached(&error)),
                None => failed = Some(Reason::TimedOut),
            }
        }
        Err(failed.unwrap_or(not_tried))
    }
}

/// The reason that a system error of a TCP connection stands for. On Linux, routes of the types `prohibit` and `blackhole` have these
/// two.
fn unreached(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => Reason::Unreachable,
        _ => reason(error, Reason::Unreachable),
    }
}

/// The reason that a system error stands for; `absent` is the one for `NotFound`.
fn reason(error: &io::Error, absent: Reason) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::Refused,
        io::ErrorKind::NotFound => absent,
        io::ErrorKind::TimedOut => Reason::TimedOut,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => Reason::Unreachable,
        _ => Reason::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_lead_nowhere_are_unreachable() {
        // EACCES, EINVAL, EHOSTUNREACH, ENETUNREACH, EADDRNOTAVAIL on Linux.
        for error in [13, 22, 113, 101, 99] {
            assert_eq!(unreached(&io::Error::from_raw_os_error(error)), Reason::Unreachable);
        }
        assert_eq!(
            reason(&io::Error::from_raw_os_error(13), Reason::Refused),
            Reason::Failed,
            "of a Unix socket"
        );
    }
}
