//! Text that grows.

use std::fmt::Write;

/// Writes to a text, which can't fail.
pub(crate) fn push(to: &mut String, text: std::fmt::Arguments<'_>) {
    to.write_fmt(text).expect("writing to a String never fails");
}
