//! The same small service with four libraries, to compare what one writes: a container is started from an image, or fails because there is
//! none, which is data; its log is a stream; an image is uploaded in pieces.
//!
//! Each file is all that its library needs, the interface, a server and a client, and says the same in the end. A test counts their
//! lines without comments and blank ones, and holds the documents to them.

pub mod callosum;
#[allow(missing_docs, reason = "its macro makes a client that is public")]
pub mod jsonrpsee;
pub mod tarpc;
pub mod tonic;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

/// What the agent does, whichever library calls it.
#[derive(Debug, Default)]
pub struct Node(Mutex<BTreeMap<String, u64>>);

impl Node {
    /// Starts a container; returns the size of its image, if there is that.
    pub fn start(&self, image: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(image).copied()
    }

    /// Takes the next piece of an image; returns the size so far.
    pub fn append(&self, image: &str, piece: &[u8]) -> u64 {
        let mut images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = images.entry(image.to_owned()).or_default();
        *size += piece.len() as u64;
        *size
    }

    /// What a container has printed.
    pub fn log(&self, container: &str) -> Vec<String> {
        (1..=3).map(|n| format!("{container}: line {n}")).collect()
    }
}

/// An image, as it is uploaded.
pub fn pieces() -> impl Iterator<Item = Bytes> + Send + 'static {
    (0..10).map(|n| Bytes::from(vec![n; 64 * 1024]))
}

/// What a client has seen: the image that was missing, its size when it was uploaded and when a container was started from it, and the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// The image in the error.
    pub missing: String,
    /// Bytes.
    pub uploaded: u64,
    /// Bytes.
    pub started: u64,
    /// Lines.
    pub log: Vec<String>,
}
