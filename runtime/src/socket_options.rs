//! Options that an endpoint sets on its sockets.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Bytes that the kernel may hold of a TCP connection before it has sent them: more could not be overtaken by urgent messages.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// Options of the sockets of an endpoint: of its TCP connections, those that it accepts and those that it makes, and of the Unix domain
/// sockets that it listens on. What is not set is the system's, except for two options of TCP connections, which are always set: Nagle's
/// algorithm is off, and on Linux at most 128 KiB wait unsent in the kernel (`TCP_NOTSENT_LOWAT`), so that what is urgent can overtake
/// the rest in the send queue.
///
/// ```
/// # use std::time::Duration;
/// # use callosum_runtime::SocketOptions;
/// let options = SocketOptions::default().keepalive(Duration::from_secs(60), Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "options hold for the builder that they are given to"]
pub struct SocketOptions {
    keepalive: Option<Keepalive>,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
    owner_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keepalive {
    idle: Duration,
    interval: Duration,
}

impl SocketOptions {
    /// Lets the system probe a connection that was silent for `idle`, and then every `interval` (RFC 9293, section 3.8.4), both
    /// rounded down to seconds and at least 1 s. Default: it does not.
    ///
    /// Callosum probes by itself ([`Builder::keepalive`](crate::Builder::keepalive)); these probes keep entries of NATs and
    /// firewalls alive without waking the process.
    pub fn keepalive(mut self, idle: Duration, interval: Duration) -> Self {
        let least = Duration::from_secs(1);
        self.keepalive = Some(Keepalive { idle: idle.max(least), interval: interval.max(least) });
        self
    }

    /// Bytes that the system may hold to be sent (`SO_SNDBUF`). It rounds and limits them, and then does not adapt the buffer any more.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// Bytes that the system may hold that have come and were not read (`SO_RCVBUF`). It rounds and limits them, and then does
    /// not adapt the buffer any more.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Lets only the user of this process, and root, connect to the Unix domain sockets that it listens on: their files get the mode 0600
    /// before they accept connections. Default: the mode follows the umask.
    pub fn owner_only(mut self) -> Self {
        self.owner_only = true;
        self
    }

    #[cfg_attr(any(not(unix), callosum_portable), expect(dead_code, reason = "there are no such files"))]
    pub(crate) fn is_owner_only(&self) -> bool {
        self.owner_only
    }

    pub(crate) fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        // Not every system that poses as Linux supports this option, and it is optional.
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        if let Some(Keepalive { idle, interval }) = self.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval))?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_tcp_nodelay(true)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::rt::set_up_tcp;

    #[test]
    fn options_reach_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let stream =
            TcpStream::connect(listener.local_addr().expect("it has one")).expect("somebody listens");
        let socket = SockRef::from(&stream);
        set_up_tcp(&stream, &SocketOptions::default()).expect("it is open");
        assert!(socket.tcp_nodelay().expect("it is open") && !socket.keepalive().expect("it is open"));
        let options = SocketOptions::default()
            .keepalive(Duration::from_secs(7), Duration::from_millis(1))
            .send_buffer(32 * 1024)
            .receive_buffer(48 * 1024);
        set_up_tcp(&stream, &options).expect("it is open");
        assert!(socket.tcp_nodelay().expect("it is open") && socket.keepalive().expect("it is open"));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().expect("it is open"), Duration::from_secs(7));
            assert_eq!(socket.tcp_keepalive_interval().expect("it is open"), Duration::from_secs(1));
            // Linux doubles them.
            assert_eq!(socket.send_buffer_size().expect("it is open"), 64 * 1024);
            assert_eq!(socket.recv_buffer_size().expect("it is open"), 96 * 1024);
        }
    }
}
