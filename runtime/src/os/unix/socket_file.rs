//! The files of Unix domain sockets: which process may listen at a path, and which removes a dead socket.
//!
//! The system leaves a socket's file behind, and refuses to bind where there is one. The next listener has to find out that the
//! socket is dead, remove the file, and bind. If another process did the same between these three steps, one would remove the live
//! socket of the other. So the right to a path is a lock (`flock`) on a file beside it, held as long as the socket
//! lives. The system releases it when the process ends, however it ends.

use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::rt::BACKLOG;
use crate::{Endpoint, SocketOptions};

/// The file of a Unix domain socket that this process listens on. Dropping it removes the file, unless another has taken
/// its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Released last.
    _lock: Lock,
}

impl SocketFile {
    /// Listens at `path`. The listener does not block. A dead socket there, which has no listener, is replaced. Of the options,
    /// [`owner_only`](SocketOptions::owner_only) has an effect.
    ///
    /// While this lives, `path` with `.lock` at its end is locked: of several programs that use this function at the same time, one
    /// gets the path. A program that does not, as one of another library, is noticed if it listens already.
    ///
    /// Never waits for anybody.
    ///
    /// # Errors
    /// `AddrInUse` if the socket has a listener, or `path` is not a socket; `PermissionDenied` also if a `.lock` file
    /// is there that another user left behind; or as the system's.
    pub fn listen(path: &Path, options: &SocketOptions) -> io::Result<(UnixListener, Self)> {
        let lock = Lock::take(path)?;
        remove_stale(path)?;
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        listener.set_nonblocking(true)?;
        listener.bind(&SockAddr::unix(path)?)?;
        let identity = identity(&std::fs::symlink_metadata(path)?);
        // If what follows fails, dropping `file` removes the socket.
        let file = Self { path: path.to_owned(), identity, _lock: lock };
        if options.is_owner_only() {
            // Nobody can connect before it listens, whatever the mode that the umask, which is the whole process's, has given it.
            std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        }
        listener.listen(BACKLOG)?;
        Ok((listener.into(), file))
    }

    /// Where it is.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Ipc(self.path.clone())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        remove_if(&self.path, self.identity);
    }
}

/// Which file it is, whatever its name.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn remove_if(path: &Path, is: (u64, u64)) {
    if std::fs::symlink_metadata(path).is_ok_and(|now| identity(&now) == is) {
        // Another process may have removed it meanwhile.
        let _ = std::fs::remove_file(path);
    }
}

/// Removes the socket at `path` if it has no listener.
fn remove_stale(path: &Path) -> io::Result<()> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Non-blocking, as a listener whose queue is full would block us.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)
        }
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        // There is no socket, or binding will report the error.
        Err(_) => Ok(()),
    }
}

/// The right to a path. Dropping it removes the lock's file, then releases it.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::AddrInUse.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Its last holder may have removed the file after we opened it, and others lock the next one.
            let ours = identity(&file.metadata()?);
            if std::fs::symlink_metadata(&path).is_ok_and(|there| identity(&there) == ours) {
                return Ok(Self { path, file });
            }
        }
    }
}

/// Opens the file of a lock, with a mode that lets no other user open it: a user who can open it could hold the lock.
fn open(path: &Path) -> io::Result<File> {
    // In a directory that others can write to, the name may be a symbolic link or a pipe: don't follow it, and don't block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.cast_signed());
    options.open(path)
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(file) = self.file.metadata() {
            remove_if(&self.path, identity(&file));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::auth::scratch::Scratch;

    fn is_in_use<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    }

    fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
        SocketFile::listen(path, &SocketOptions::default())
    }

    fn leave_stale(path: &Path) {
        drop(UnixListener::bind(path).unwrap());
    }

    #[test]
    fn stale_sockets_are_replaced_and_nothing_is_left() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        leave_stale(&path);
        // As if its holder had been killed.
        let lock = scratch.write("socket.lock", "");
        for _ in 0..3 {
            let (_listener, _file) = listen(&path).unwrap();
            assert!(is_in_use(listen(&path)));
            UnixStream::connect(&path).unwrap();
        }
        assert!(!path.exists() && !lock.exists());
    }

    #[test]
    fn the_owner_may_have_it_alone() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let mode = || std::fs::metadata(&path).unwrap().mode() & 0o7777;
        let listening = SocketFile::listen(&path, &SocketOptions::default().owner_only()).unwrap();
        assert_eq!(mode(), 0o600);
        UnixStream::connect(&path).unwrap();
        drop(listening);
        // By the umask, as what the standard library binds.
        let _listening = listen(&path).unwrap();
        let _other = UnixListener::bind(scratch.path("other")).unwrap();
        assert_eq!(mode(), std::fs::metadata(scratch.path("other")).unwrap().mode() & 0o7777);
    }

    #[test]
    fn what_is_in_the_way_stays() {
        let scratch = Scratch::new();
        let path = scratch.write("socket", "precious");
        assert!(is_in_use(listen(&path)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        assert!(!scratch.path("socket.lock").exists());
    }

    #[test]
    fn another_socket_in_its_place_stays() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let ours = listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        UnixStream::connect(&path).unwrap();
        assert!(is_in_use(listen(&path)), "somebody listens who has no lock");
    }

    /// A listener that accepts no connection, and whose queue is full, is alive. The probe does not block on it.
    #[test]
    fn probing_does_not_wait() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let address = SockAddr::unix(&path).unwrap();
        listener.bind(&address).unwrap();
        listener.listen(1).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let Ok(()) = client.connect(&address) else { break };
            waiting.push(client);
        }
        assert!(is_in_use(listen(&path)));
        assert!(path.exists());
    }

    /// A user who can write to the directory can keep others from listening, and no more than that.
    #[test]
    fn nothing_under_the_name_of_the_lock_is_followed_or_waited_for() {
        let scratch = Scratch::new();
        let lock = scratch.path("socket.lock");
        std::os::unix::fs::symlink(scratch.path("elsewhere"), &lock).unwrap();
        listen(&scratch.path("socket")).unwrap_err();
        assert!(!scratch.path("elsewhere").exists());
        #[cfg(target_os = "linux")]
        {
            std::fs::remove_file(&lock).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, &lock, rustix::fs::Mode::RWXU).unwrap();
            listen(&scratch.path("socket")).unwrap_err();
        }
    }

    /// If many processes start at a stale socket at the same time, one gets the path, and keeps it.
    #[test]
    fn one_starter_wins() {
        const STARTERS: usize = 8;
        let scratch = Scratch::new();
        for round in 0..50 {
            let path = scratch.path(&round.to_string());
            leave_stale(&path);
            let (start, end) = (Barrier::new(STARTERS), Barrier::new(STARTERS));
            let winners = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..STARTERS {
                    scope.spawn(|| {
                        start.wait();
                        let listening = listen(&path);
                        end.wait();
                        if let Ok((listener, _file)) = listening {
                            winners.fetch_add(1, Ordering::SeqCst);
                            let _client = UnixStream::connect(&path).unwrap();
                            listener.accept().expect("it is the one that is reached");
                        }
                    });
                }
            });
            assert_eq!(winners.into_inner(), 1, "round {round}");
            assert!(!path.exists());
        }
    }

    /// No two have the path at the same time, however often it changes hands.
    #[test]
    fn the_path_changes_hands() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let holders = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        match listen(&path) {
                            Ok(held) => {
                                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                                UnixStream::connect(&path).expect("nobody removes a live socket");
                                holders.fetch_sub(1, Ordering::SeqCst);
                                drop(held);
                            }
                            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
                        }
                    }
                });
            }
        });
    }
}
