//! Short UTF-8 text, such as a method's name.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use crate::small::SmallBytes;

/// Immutable UTF-8 text that is cheap to clone: up to 22 bytes are stored inline, and longer text is shared by
/// its clones.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(SmallBytes);

impl Text {
    /// Text from a static string, without a copy.
    pub const fn from_static(text: &'static str) -> Self {
        Self(SmallBytes::from_static(text.as_bytes()))
    }

    /// A copy of the bytes, if they are UTF-8.
    ///
    /// # Errors
    /// If the bytes are not UTF-8.
    pub fn from_utf8(bytes: &[u8]) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(bytes).map(Self::from)
    }

    /// The caller must have checked that the bytes are UTF-8.
    pub(crate) fn from_checked(bytes: &[u8]) -> Self {
        // `as_str` would panic otherwise.
        debug_assert!(std::str::from_utf8(bytes).is_ok());
        Self(SmallBytes::copy_from_slice(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Checked again, because skipping the check would need `unsafe`.
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
        Self::from(&*text)
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
