//! Metadata of calls and results: request ids, trace context and the like.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::Text;

/// Named values that are sent with a call or its answer, in dialect 2 only.
///
/// At most [`MAX_ENTRIES`](Self::MAX_ENTRIES) entries, and [`MAX_BYTES`](Self::MAX_BYTES) bytes of names and
/// values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(
    /// `None` if there are no entries: most calls have none, and every record, request and reply has this
    /// field.
    Option<Box<Entries>>,
);

// A tree: peers choose the names, and equal metadata must give equal bytes on the wire.
type Entries = BTreeMap<Text, Bytes>;

// For the reference that `entries` returns if there are none.
static NO_ENTRIES: Entries = BTreeMap::new();

/// The entry would exceed a limit of [`Metadata`]. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata of {entries} entries and {bytes} bytes; the limits are {} and {}",
    Metadata::MAX_ENTRIES,
    Metadata::MAX_BYTES
)]
#[non_exhaustive]
pub struct MetadataTooLarge {
    /// Entries with the new one.
    pub entries: usize,
    /// Bytes of all names and values with the new ones.
    pub bytes: usize,
}

impl Metadata {
    /// The highest number of entries.
    pub const MAX_ENTRIES: usize = 64;

    /// The most bytes of all names and values together.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// No entries.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Sets a value; returns the one that was there before.
    ///
    /// # Errors
    /// If the entry would exceed a limit; nothing is changed.
    pub fn insert(
        &mut self,
        name: impl Into<Text>,
        value: impl Into<Bytes>,
    ) -> Result<Option<Bytes>, MetadataTooLarge> {
        let (name, value) = (name.into(), value.into());
        let replaced = self.entries().get(name.as_bytes());
        let freed = replaced.map_or(0, |old| name.as_bytes().len() + old.len());
        let entries = self.len() + usize::from(replaced.is_none());
        let bytes = self.size() - freed + name.as_bytes().len() + value.len();
        // Checked before anything is changed: this is also how received metadata is limited.
        if entries > Self::MAX_ENTRIES || bytes > Self::MAX_BYTES {
            return Err(MetadataTooLarge { entries, bytes });
        }
        Ok(self.0.get_or_insert_default().insert(name, value))
    }

    /// The value with this name.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.entries().get(name.as_bytes())
    }

    /// Names and values, in the byte order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &Bytes)> {
        self.entries().iter()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes of all names and values.
    #[inline]
    pub fn size(&self) -> usize {
        if self.0.is_none() { 0 } else { self.given_size() }
    }

    fn given_size(&self) -> usize {
        self.iter().map(|(name, value)| name.as_bytes().len() + value.len()).sum()
    }

    /// Copies values whose buffer is shared or belongs to an [owner](Bytes::from_owner). They then keep no
    /// larger buffer alive, and dropping them runs no code of the owner.
    #[inline]
    pub fn detach(&mut self) {
        if self.0.is_some() {
            self.copy_values(|value| !value.is_unique());
        }
    }

    /// The same entries, whose values are copied out of their packet of `frame` bytes; 0 if they may stay
    /// slices of it.
    #[inline]
    pub(crate) fn keep(mut self, frame: usize) -> Self {
        if frame > 0 && self.0.is_some() {
            self.copy_values(|_| true);
        }
        self
    }

    fn copy_values(&mut self, which: impl Fn(&Bytes) -> bool) {
        let values = self.0.iter_mut().flat_map(|entries| entries.values_mut());
        values.filter(|value| which(value)).for_each(|value| *value = Bytes::copy_from_slice(value));
    }

    fn entries(&self) -> &Entries {
        self.0.as_deref().unwrap_or(&NO_ENTRIES)
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
    fn detached_values_have_no_owner() {
        use std::sync::Arc;

        let owner = Arc::new([7; 100]);
        let lent = || Bytes::from_owner(ByOwner(owner.clone()));
        let mut metadata = Metadata::new();
        metadata.insert("by an owner", lent()).unwrap();
        metadata.insert("own", vec![1; 50]).unwrap();
        let own = metadata.get("own").unwrap().as_ptr();
        metadata.detach();
        assert_eq!(Arc::strong_count(&owner), 1);
        assert_eq!(metadata.get("own").unwrap().as_ptr(), own, "it is not copied");
    }

    struct ByOwner(std::sync::Arc<[u8; 100]>);

    impl AsRef<[u8]> for ByOwner {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
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
