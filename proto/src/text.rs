//! UTF-8 text that shares the buffer it was received in.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::small::SmallBytes;

/// Immutable UTF-8 text, cheap to clone and to cut out of a received frame. Up to 23 bytes need no buffer.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(SmallBytes);

impl Text {
    /// Text that lives as long as the program.
    pub const fn from_static(text: &'static str) -> Self {
        Self(SmallBytes::from_static(text.as_bytes()))
    }

    /// Takes the bytes if they are UTF-8, without copying them.
    ///
    /// # Errors
    /// Where the bytes stop being UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The caller of this checked that the bytes are UTF-8.
    pub(crate) fn from_checked(bytes: SmallBytes) -> Self {
        debug_assert!(std::str::from_utf8(&bytes).is_ok());
        Self(bytes)
    }

    /// The same, copied if it would pin a much larger frame.
    pub(crate) fn keep(self, frame: usize) -> Self {
        Self(self.0.keep(frame))
    }

    /// Copies text whose buffer is shared, or belongs to an [owner](Bytes::from_owner): it pins nothing then,
    /// and dropping it runs no code of the owner's.
    pub fn detach(&mut self) {
        self.0.detach();
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.0.is_detached()
    }

    /// The same, in a buffer of its own.
    pub(crate) fn detached(&self) -> Self {
        Self(self.0.detached())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made, and immutable since")
    }

    /// The text as bytes; cheaper than [`as_str`](Self::as_str).
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

/// Ordered as its bytes are, which for UTF-8 is how `str` is ordered too.
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
