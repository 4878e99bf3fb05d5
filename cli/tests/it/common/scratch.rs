//! Directories, and files of any size that need no memory.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::wait_until;

/// A directory, gone when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("callosum-files-{}-{number}", std::process::id()));
        fs::create_dir(&directory).expect("it is new");
        let scratch = Self(directory);
        fs::create_dir(scratch.path("root")).expect("it is new");
        scratch
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file of `size` bytes.
    pub(crate) fn file(&self, name: &str, size: u64, seed: u64) -> String {
        let mut file = BufWriter::new(File::create(self.path(name)).expect("it can be made"));
        std::io::copy(&mut noise(seed).take(size), &mut file).expect("there is room");
        file.flush().expect("there is room");
        self.text(name)
    }

    /// Names in a directory, sorted.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).expect("it is there");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("it can be read").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    /// The partial files in a directory.
    pub(crate) fn partials(&self, directory: &str) -> Vec<String> {
        self.names(directory).into_iter().filter(|name| name.starts_with(".callosum-")).collect()
    }

    /// Waits until so much of a file has come.
    #[track_caller]
    pub(crate) fn wait_for_partial(&self, directory: &str, bytes: u64) {
        wait_until("a partial file", || {
            let sizes = self.partials(directory).into_iter().map(|name| {
                fs::metadata(self.path(directory).join(name)).map_or(0, |metadata| metadata.len())
            });
            sizes.max().is_some_and(|size| size >= bytes)
        });
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed lies where the system cleans.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
pub(crate) fn assert_same(one: impl AsRef<Path>, other: impl AsRef<Path>) {
    let (one, other) = (one.as_ref(), other.as_ref());
    let size = |path: &Path| fs::metadata(path).expect("it is there").len();
    assert_eq!(size(one), size(other), "{one:?} {other:?}");
    let mut files = [one, other].map(|path| File::open(path).expect("it is there"));
    let mut pieces = [(); 2].map(|()| Vec::with_capacity(1 << 20));
    loop {
        for (file, piece) in files.iter_mut().zip(&mut pieces) {
            piece.clear();
            file.take(1 << 20).read_to_end(piece).expect("it can be read");
        }
        assert!(pieces[0] == pieces[1], "{one:?} differs from {other:?}");
        if pieces[0].is_empty() {
            return;
        }
    }
}

/// Bytes without end that nobody would make by accident.
pub(crate) fn noise(seed: u64) -> impl Read {
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof()
}
