//! What the tests share: the repository's documents, and the blocks of code in them.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The guide's files, by their paths in the repository.
pub(crate) fn guide() -> Vec<String> {
    documents().into_iter().filter(|path| path.starts_with("docs/guide/")).collect()
}

/// All documents, by their paths in the repository.
pub(crate) fn documents() -> Vec<String> {
    let mut found = Vec::new();
    collect(&root(), Path::new(""), &mut found);
    found.sort();
    assert!(found.iter().any(|path| path == "README.md"));
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = folder.join(entry.file_name());
        let name = entry.file_name();
        let is_ours = !["target", "corpus", "artifacts"].iter().any(|other| name == *other);
        if entry.file_type().expect("a type").is_dir() {
            if is_ours && !name.to_string_lossy().starts_with('.') {
                collect(root, &path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path.to_str().expect("UTF-8").to_owned());
        }
    }
}

/// A block of code.
pub(crate) struct Block {
    /// The line above it.
    pub(crate) before: String,
    /// What stands after the fence.
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The fenced blocks of a document.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let (mut found, mut before) = (Vec::new(), "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let text = inside.map(|line| format!("{line}\n")).collect();
            found.push(Block { before: before.to_owned(), language: language.to_owned(), text });
        }
        before = line;
    }
    found
}
