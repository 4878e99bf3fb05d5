//! Files on the wire: what `serve --files` answers, and the commands `file put`, `file get` and `file ls`.
//!
//! `get` is called with the metadata `name`, and to go on with a partial file `offset` (decimal) and `checksum` (of what is
//! there). Its result has the metadata `offset` and `size`, and is the file from that offset on.
//!
//! `put` is called with the metadata `name`, and with `id` if the source can be read again. Its result has the
//! metadata `offset`, how much the server has of it already, and is the checksum of that, if that is anything; both ends
//! read what they have meanwhile. The argument is the offset from which it goes on, that one or zero, in 8 bytes with the
//! most significant first, and then the file from there.
//!
//! What is sent of a file is followed by the BLAKE3 of all of it, 32 bytes. A prefix is used only if both ends have the
//! same checksum of it, so that files that have changed are not stitched together.

pub(crate) mod client;
mod error;
mod metadata;
mod name;
mod partial;
mod permits;
mod progress;
mod root;
mod server;
mod transfer;

pub(crate) use client::run;
pub(crate) use error::FileError;
pub(crate) use root::Root;
pub(crate) use server::add_methods;

/// Bytes that are read or written at a time, off the threads of the runtime.
const PIECE: usize = 256 * 1024;

/// Bytes of a checksum.
const CHECKSUM: usize = blake3::OUT_LEN;

/// Names of metadata.
mod field {
    pub(super) const NAME: &str = "name";
    pub(super) const ID: &str = "id";
    pub(super) const OFFSET: &str = "offset";
    pub(super) const SIZE: &str = "size";
    pub(super) const CHECKSUM: &str = "checksum";
}
