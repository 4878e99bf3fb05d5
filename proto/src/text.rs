//! UTF-8 text that shares the buffer in which it was received.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::small::SmallBytes;

/// Immutable UTF-8 text that is cheap to clone, and can be a slice of a received frame. Up to 23 bytes are
/// stored inline.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(SmallBytes);

impl Text {
    /// Text from a static string, without a copy.
    pub const fn from_static(text: &'static str) -> Self {
        Self(SmallBytes::from_static(text.as_bytes()))
    }

    /// Text of these bytes, which are not copied if there are more than 23.
    ///
    /// # Errors
    /// If the bytes are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The caller must have checked that the bytes are UTF-8.
    pub(crate) fn from_checked(bytes: SmallBytes) -> Self {
        debug_assert!(std::str::from_utf8(&bytes).is_ok());
        Self(bytes)
    }

    /// The same text, copied if it would keep a much larger frame alive; see
    /// [`wire::keep`](crate::wire::keep).
    pub(crate) fn keep(self, frame: usize) -> Self {
        Self(self.0.keep(frame))
    }

    /// Copies the text if its buffer is shared or belongs to an [owner](Bytes::from_owner). The text then
    /// keeps no larger buffer alive, and dropping it runs no code of the owner.
    pub fn detach(&mut self) {
        self.0.detach();
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.0.is_detached()
    }

    /// A copy, inline or in its own buffer.
    pub(crate) fn detached(&self) -> Self {
        Self(self.0.detached())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made, and immutable since")
    }

    /// The bytes of the text. Cheaper than [`as_str`](Self::as_str), which checks the UTF-8 again.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

/// The byte order of UTF-8 is the order of `str`, so maps can be searched by bytes.
impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(SmallBytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text).into())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
