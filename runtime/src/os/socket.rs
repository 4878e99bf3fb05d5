//! Sockets as the system knows them, whatever it calls their handles.

#[cfg(unix)]
use std::os::fd::AsFd as AsHandle;
#[cfg(windows)]
use std::os::windows::io::AsSocket as AsHandle;

use socket2::SockRef;

/// What has a socket of the operating system, whose options can be set: on Unix all that is
/// [`AsFd`](https://doc.rust-lang.org/std/os/fd/trait.AsFd.html), on Windows all that is
/// [`AsSocket`](https://doc.rust-lang.org/std/os/windows/io/trait.AsSocket.html). A type that wraps such a socket gives that one's.
pub trait AsSystemSocket {
    /// The socket.
    fn as_system_socket(&self) -> SystemSocket<'_>;
}

/// A socket of the operating system, borrowed. For [`set_up_tcp`](crate::rt::set_up_tcp), and for Callosum itself.
#[derive(Debug)]
pub struct SystemSocket<'a>(pub(crate) SockRef<'a>);

#[cfg(any(unix, windows))]
impl<T: AsHandle> AsSystemSocket for T {
    fn as_system_socket(&self) -> SystemSocket<'_> {
        SystemSocket(SockRef::from(self))
    }
}
