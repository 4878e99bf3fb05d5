//! Key pairs in files: the secret key in one that only its owner can read, the public key in one beside it.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{CurveKeyPair, CurvePublicKey, KeyError};
use crate::os::{Readers, mode, new_file, open_without_waiting};

/// More than any file with a key in it has, in bytes.
const MAX_FILE: u64 = 1_024;

/// Permissions that a secret key must not give: any to the group or to others.
const EXPOSED: u32 = 0o077;

/// Why a key could not be read from a file, or written to it. Says nothing of what the file holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The system refused. A file that exists is never written over.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others than the owner may use the file. Only Unix can tell.
    #[error("{path} has the mode {mode:04o}, so others may read the secret key: run `chmod 600` on it", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{path} does not hold a key as one line of Z85: {error}", path = .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
}

/// A new key pair, of the operating system's randomness.
///
/// # Panics
/// If the system has no randomness.
pub fn generate_keys() -> CurveKeyPair {
    let mut seed = Zeroizing::new([0; 32]);
    #[expect(clippy::disallowed_methods, reason = "keys are the user's, whatever they run on")]
    getrandom::fill(&mut *seed).expect("the operating system provides randomness");
    CurveKeyPair::generate(seed)
}

/// Writes the secret key to `path`, with mode 0600, and the public key to a file beside it whose name has `.pub` in
/// addition; each as one line of Z85. Returns the public key's path. Blocks.
///
/// Only Unix has modes. Elsewhere, as on Windows, the permissions of their directory decide who can read both files: choose one that
/// no other user can read.
///
/// # Errors
/// If either file exists, or the system refuses; nothing is left then.
pub fn save_keys(keys: &CurveKeyPair, path: impl AsRef<Path>) -> Result<PathBuf, KeyFileError> {
    let path = path.as_ref();
    let mut public_path = path.as_os_str().to_owned();
    public_path.push(".pub");
    let public_path = PathBuf::from(public_path);
    write_new(path, Readers::Owner, &keys.secret_z85())?;
    let written = write_new(&public_path, Readers::Everybody, &keys.public().to_string());
    if written.is_err() {
        // A secret key without its public key is useless. An error of removing it would hide the first error.
        let _ = std::fs::remove_file(path);
    }
    written.map(|()| public_path)
}

/// Reads a secret key that [`save_keys`] has written. Blocks.
///
/// Only Unix has modes. Elsewhere, as on Windows, nothing checks who else may read the file, and a warning with `tracing` says so each time.
///
/// # Errors
/// If the system refuses, the file's permissions let anyone but its owner read it, or it holds no key.
pub fn load_keys(path: impl AsRef<Path>) -> Result<CurveKeyPair, KeyFileError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    if metadata.is_dir() {
        // First, or the error would be about its mode.
        return Err(io_error(path, io::ErrorKind::IsADirectory.into()));
    }
    match mode(&metadata) {
        Some(mode) if mode & EXPOSED != 0 => {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
        }
        Some(_) => {}
        None => {
            tracing::warn!(path = %path.display(), "this system can't tell who else may read a secret key")
        }
    }
    let text = read(path, file)?;
    CurveKeyPair::from_secret_z85(line(&text)).map_err(|error| not_a_key(path, error))
}

/// Reads a public key, such as [`save_keys`] has written. Blocks.
///
/// # Errors
/// If the system refuses, or the file holds no public key.
pub fn load_public_key(path: impl AsRef<Path>) -> Result<CurvePublicKey, KeyFileError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    read_public_key(path, file)
}

pub(super) fn read_public_key(path: &Path, file: File) -> Result<CurvePublicKey, KeyFileError> {
    line(&read(path, file)?).parse().map_err(|error| not_a_key(path, error))
}

/// Opening a pipe would block until it has a writer, and its bytes can be read only once.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let check = |metadata: Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("not a regular file")),
    };
    // Check before opening: opening a device may have side effects.
    check(std::fs::metadata(path)?)?;
    // Check again: the path may name another file by now.
    let file = open_without_waiting(path)?;
    check(file.metadata()?)?;
    Ok(file)
}

fn write_new(path: &Path, readers: Readers, line: &str) -> Result<(), KeyFileError> {
    let mut file = new_file(path, readers).map_err(|error| io_error(path, error))?;
    // Written one after the other: one buffer for both would be another copy of the secret.
    let written = file.write_all(line.as_bytes()).and_then(|()| file.write_all(b"\n"));
    let written = written.and_then(|()| file.sync_all());
    written.map_err(|error| {
        // This call created the file, and it is incomplete.
        let _ = std::fs::remove_file(path);
        io_error(path, error)
    })
}

fn read(path: &Path, file: File) -> Result<Zeroizing<String>, KeyFileError> {
    // Its final size from the start: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize));
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => not_a_key(path, KeyError::NotZ85),
        _ => io_error(path, error),
    })?;
    Ok(text)
}

/// The text of a file, without the byte order mark that some editors write.
fn line(text: &str) -> &str {
    text.strip_prefix('\u{FEFF}').unwrap_or(text).trim()
}

fn io_error(path: &Path, error: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), error }
}

fn not_a_key(path: &Path, error: KeyError) -> KeyFileError {
    KeyFileError::NotAKey { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::auth::scratch::Scratch;

    #[test]
    fn keys_come_back() {
        let scratch = Scratch::new();
        let (keys, path) = (generate_keys(), scratch.path("server"));
        let public_path = save_keys(&keys, &path).unwrap();
        assert_eq!(public_path, scratch.path("server.pub"));
        let loaded = load_keys(&path).unwrap();
        assert_eq!(loaded.public(), keys.public());
        assert_eq!(*loaded.secret_z85(), *keys.secret_z85());
        assert_eq!(load_public_key(&public_path).unwrap(), keys.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", *keys.secret_z85()));
        assert_eq!(fs::read_to_string(&public_path).unwrap(), format!("{}\n", keys.public()));
    }

    #[test]
    fn what_editors_put_around_a_key_is_no_part_of_it() {
        let scratch = Scratch::new();
        let keys = generate_keys();
        let public = scratch.write("public", &format!("\u{FEFF}{}\r\n", keys.public()));
        assert_eq!(load_public_key(public).unwrap(), keys.public());
        let secret = scratch.write("secret", &format!("\u{FEFF}{}\r\n", *keys.secret_z85()));
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load_keys(secret).unwrap().public(), keys.public());
    }

    #[test]
    fn nothing_is_written_over() {
        let scratch = Scratch::new();
        let exists = |result: Result<PathBuf, KeyFileError>| {
            let Err(KeyFileError::Io { error, .. }) = result else { panic!("{result:?}") };
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        };
        let first = scratch.write("secret", "precious");
        exists(save_keys(&generate_keys(), &first));
        assert_eq!(fs::read_to_string(&first).unwrap(), "precious");
        assert!(!scratch.path("secret.pub").exists());

        let public = scratch.write("other.pub", "precious");
        exists(save_keys(&generate_keys(), scratch.path("other")));
        assert_eq!(fs::read_to_string(public).unwrap(), "precious");
        assert!(!scratch.path("other").exists(), "a half is not left");
    }

    #[test]
    fn a_secret_that_others_can_read_is_not_used() {
        let scratch = Scratch::new();
        let path = scratch.path("server");
        save_keys(&generate_keys(), &path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_keys(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Exposed { mode: seen, .. } if seen == mode), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        load_keys(&path).unwrap();
    }

    #[test]
    fn errors_give_nothing_away() {
        let scratch = Scratch::new();
        let text = "0123456789 a secret that is no key";
        let path = scratch.write("wrong", text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = load_keys(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::NotAKey { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("0123456789"));
        fs::write(&path, [0xFF; 40]).unwrap();
        assert!(matches!(load_keys(&path), Err(KeyFileError::NotAKey { .. })));
        assert!(matches!(load_public_key(scratch.path("none")), Err(KeyFileError::Io { .. })));
        assert!(
            matches!(load_keys(scratch.root()), Err(KeyFileError::Io { .. })),
            "no advice to change its mode"
        );
    }
}
