//! An argument that is streamed from a file or from stdin.
//!
//! A thread of its own reads, as reading may block for as long as the writer likes. It is at most [`AHEAD`] pieces
//! ahead of the call.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;
use std::thread;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::STANDARD_INPUT;
use crate::exit::Failure;

/// Pieces that are read before they are asked for.
const AHEAD: usize = 4;

/// Bytes that are read at a time.
const SIZE: usize = 64 * 1024;

/// The pieces of an argument, as they come.
pub(super) struct Input(Receiver<Result<Piece, Failure>>);

pub(super) enum Piece {
    /// A JSON value.
    Item(Box<RawValue>),
    /// Bytes as they are.
    Bytes(Bytes),
}

impl Input {
    /// Opens a file, or stdin for `-`. It is read as bytes if it is `raw`, and as JSON values otherwise.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub(super) fn open(path: &Path, raw: bool) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let source: Box<dyn Read + Send> = match name.as_str() {
            STANDARD_INPUT => Box::new(io::stdin()),
            _ => Box::new(File::open(path).map_err(|error| Failure::Input { name: name.clone(), error })?),
        };
        let (tell, told) = async_channel::bounded(AHEAD);
        let reader = Reader { name, tell };
        // The thread ends with the process, or when the receiver is dropped.
        thread::Builder::new().spawn(move || match raw {
            true => reader.bytes(source),
            false => reader.items(source),
        })?;
        Ok(Self(told))
    }

    /// The next piece. Cancel safe.
    ///
    /// # Errors
    /// If it can't be read, or is not JSON.
    pub(super) async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        self.0.recv().await.ok()
    }
}

struct Reader {
    name: String,
    tell: Sender<Result<Piece, Failure>>,
}

impl Reader {
    fn bytes(self, mut source: impl Read) {
        let mut buffer = vec![0; SIZE];
        loop {
            let piece = match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Piece::Bytes(Bytes::copy_from_slice(&buffer[..count]))),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(Failure::Input { name: self.name.clone(), error }),
            };
            if !self.hands_on(piece) {
                return;
            }
        }
    }

    fn items(self, source: impl Read) {
        for item in Deserializer::from_reader(BufReader::new(source)).into_iter::<Box<RawValue>>() {
            let piece = item.map(Piece::Item).map_err(|error| match error.classify() {
                serde_json::error::Category::Io => {
                    Failure::Input { name: self.name.clone(), error: error.into() }
                }
                _ => Failure::Usage(format!("{}: not JSON: {error}", self.name)),
            });
            if !self.hands_on(piece) {
                return;
            }
        }
    }

    /// Returns whether to go on.
    fn hands_on(&self, piece: Result<Piece, Failure>) -> bool {
        let last = piece.is_err();
        self.tell.send_blocking(piece).is_ok() && !last
    }
}
