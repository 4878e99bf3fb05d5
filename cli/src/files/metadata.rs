//! The metadata of transfers.

use blake3::Hash;
use bytes::Bytes;
use callosum_runtime::Metadata;

use super::{FileError, field};

/// A decimal number.
pub(super) fn number(metadata: &Metadata, name: &str) -> Result<Option<u64>, FileError> {
    let Some(value) = metadata.get(name) else { return Ok(None) };
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or(FileError::InvalidRequest("a number in the metadata is malformed"))
}

pub(super) fn checksum(metadata: &Metadata) -> Result<Option<Hash>, FileError> {
    let Some(value) = metadata.get(field::CHECKSUM) else { return Ok(None) };
    let checksum = Hash::from_slice(value);
    checksum
        .map(Some)
        .map_err(|_| FileError::InvalidRequest("the checksum in the metadata does not have 32 bytes"))
}

pub(super) fn set(
    metadata: &mut Metadata,
    name: &'static str,
    value: impl Into<Bytes>,
) -> Result<(), FileError> {
    let set = metadata.insert(name, value);
    set.map(drop).map_err(|_| FileError::invalid("", "it is too long to send; use a shorter one"))
}
