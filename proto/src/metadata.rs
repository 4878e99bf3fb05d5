//! What a call carries besides its body: request ids, trace context and the like.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::Text;

/// Named values that travel with a call or with its answer, over dialect 2 only.
///
/// At most [`MAX_ENTRIES`](Self::MAX_ENTRIES), of [`MAX_BYTES`](Self::MAX_BYTES) in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<Text, Bytes>);

/// Metadata that is more than may travel. Nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata of {entries} entries and {bytes} bytes; the limits are {} and {}",
    Metadata::MAX_ENTRIES,
    Metadata::MAX_BYTES
)]
pub struct MetadataTooLarge {
    /// Entries that there would be.
    pub entries: usize,
    /// Bytes that they would have.
    pub bytes: usize,
}

impl Metadata {
    /// Most entries.
    pub const MAX_ENTRIES: usize = 64;

    /// Most bytes of all names and values together.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// No entries.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets a value; returns the one that was there before.
    ///
    /// # Errors
    /// If with it there would be more than may travel.
    pub fn insert(
        &mut self,
        name: impl Into<Text>,
        value: impl Into<Bytes>,
    ) -> Result<Option<Bytes>, MetadataTooLarge> {
        let (name, value) = (name.into(), value.into());
        let replaced = self.0.get(name.as_bytes());
        let freed = replaced.map_or(0, |old| name.as_bytes().len() + old.len());
        let entries = self.0.len() + usize::from(replaced.is_none());
        let bytes = self.size() - freed + name.as_bytes().len() + value.len();
        if entries > Self::MAX_ENTRIES || bytes > Self::MAX_BYTES {
            return Err(MetadataTooLarge { entries, bytes });
        }
        Ok(self.0.insert(name, value))
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.get(name.as_bytes())
    }

    /// Names and values, ordered by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &Bytes)> {
        self.0.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.as_bytes().len() + value.len()).sum()
    }

    /// The same, in buffers of its own.
    pub(crate) fn detached(&self) -> Self {
        let copy = |(name, value): (&Text, &Bytes)| (name.detached(), Bytes::copy_from_slice(value));
        Self(self.0.iter().map(copy).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_at_the_limit_and_one_past_it() {
        let mut metadata = Metadata::new();
        for n in 0..Metadata::MAX_ENTRIES {
            metadata.insert(format!("{n:02}"), "").unwrap();
        }
        let bytes = 2 * Metadata::MAX_ENTRIES + 1;
        assert_eq!(metadata.insert("x", ""), Err(MetadataTooLarge { entries: 65, bytes }));
        assert_eq!(metadata.insert("00", "new"), Ok(Some(Bytes::new())), "it replaces one");
        assert_eq!((metadata.len(), metadata.get("x")), (64, None));
    }

    #[test]
    fn bytes_at_the_limit_and_one_past_it() {
        let mut metadata = Metadata::new();
        metadata.insert("name", vec![0; Metadata::MAX_BYTES - 4]).unwrap();
        let past = MetadataTooLarge { entries: 1, bytes: Metadata::MAX_BYTES + 1 };
        assert_eq!(metadata.insert("name", vec![0; Metadata::MAX_BYTES - 3]), Err(past));
        assert_eq!(metadata.size(), Metadata::MAX_BYTES);
    }
}
