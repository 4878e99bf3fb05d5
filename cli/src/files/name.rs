//! The names of files on the wire.

use super::FileError;

/// Bytes of a name, and of one of its parts.
const MAX_BYTES: usize = 4096;
const MAX_PART: usize = 255;

/// Parts of a name: what is walked is open, and descriptors are few.
pub(super) const MAX_PARTS: usize = 32;

/// Prefix of the names of partial files. Files are not served if a part of their name has it.
pub(super) const RESERVED: &str = ".callosum-";

/// Prefix of the names of partial files that are never resumed.
pub(super) const PASSING: &str = ".callosum-passing-";

/// A relative path of plain parts with `/` between them, in UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    /// # Errors
    /// If it is no name: empty, too long, absolute, with a part that is empty, `.`, `..` or reserved, or with control
    /// characters.
    pub(super) fn parse(text: &str) -> Result<Self, FileError> {
        if text.len() > MAX_BYTES {
            let start: String = text.chars().take(40).collect();
            return Err(FileError::invalid(
                &format!("{start}…"),
                "it has over 4096 bytes; use a shorter one",
            ));
        }
        let wrong = match text {
            "" => Some("it is empty; name a file"),
            _ if text.starts_with('/') => Some("it is absolute; names are relative to the served directory"),
            _ if text.split('/').count() > MAX_PARTS => Some("it has over 32 parts; nest less deeply"),
            _ => text.split('/').find_map(wrong_with),
        };
        match wrong {
            Some(why) => Err(FileError::invalid(text, why)),
            None => Ok(Self(text.to_owned())),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories on the way, and the file's own name.
    pub(super) fn split(&self) -> (impl Iterator<Item = &str>, &str) {
        let (way, leaf) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        (way.split('/').filter(|part| !part.is_empty()), leaf)
    }
}

/// Whether this can be a part of a name.
pub(super) fn is_part(part: &str) -> bool {
    wrong_with(part).is_none()
}

fn wrong_with(part: &str) -> Option<&'static str> {
    match part {
        "" => Some("a part of it is empty; use single slashes, and none at the end"),
        "." | ".." => Some("it has a part `.` or `..`; write the path without them"),
        _ if part.len() > MAX_PART => Some("a part of it has over 255 bytes; use a shorter one"),
        _ if part.starts_with(RESERVED) => {
            Some("a part begins with `.callosum-`, which is reserved for unfinished files")
        }
        _ if part.chars().any(char::is_control) => Some("it has control characters; leave them out"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_relative_paths_are_names() {
        for text in ["a", "a/b/c", "ü b/…", ".hidden", "...", "a..b/..c", &"x".repeat(255), "-", "a\\b"] {
            assert_eq!(Name::parse(text).unwrap().as_str(), text);
        }
        let deep = vec!["d"; MAX_PARTS].join("/");
        assert_eq!(Name::parse(&deep).unwrap().split().0.count(), MAX_PARTS - 1);
    }

    #[test]
    fn whatever_leads_elsewhere_is_none() {
        let long = "x".repeat(256);
        let deep = vec!["d"; MAX_PARTS + 1].join("/");
        let huge = vec!["d".repeat(255); 17].join("/");
        let texts = [
            "",
            "/",
            "/etc/passwd",
            "..",
            ".",
            "a/../b",
            "a/..",
            "../a",
            "./a",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "a/\u{1b}[2J",
            ".callosum-x",
            "a/.callosum-0.part",
            ".callosum-d/a",
            &long,
            &deep,
            &huge,
        ];
        for text in texts {
            assert!(matches!(Name::parse(text), Err(FileError::InvalidName { .. })), "{text:?}");
        }
    }
}
