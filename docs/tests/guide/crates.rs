//! What is written down of the workspace's crates outside of their manifests.

use std::collections::BTreeSet;
use std::fs;

use crate::common::{read, root};

/// A published crate.
struct Crate {
    folder: String,
    /// In quotes, as in its manifest.
    name: String,
}

/// The published crates of the workspace, which are folders of its root.
fn published() -> Vec<Crate> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let Ok(manifest) = fs::read_to_string(path.join("Cargo.toml")) else { continue };
        let Some(name) = manifest.lines().find_map(|line| line.strip_prefix("name = ")) else { continue };
        if !manifest.lines().any(|line| line == "publish = false") {
            let folder = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
            found.push(Crate { folder: folder.to_owned(), name: name.to_owned() });
        }
    }
    assert!(found.iter().any(|it| it.folder == "proto"));
    found
}

/// The macro of typed services takes every dependency `callosum-NAME` for an adapter, but for those that it lists.
#[test]
fn the_macro_knows_which_crates_are_no_adapters() {
    let mut expected = BTreeSet::new();
    for Crate { folder, name } in published() {
        let library = fs::read_to_string(root().join(folder).join("src/lib.rs")).unwrap_or_default();
        let re_exports = library.lines().any(|line| line == "pub use callosum_runtime::*;");
        if !re_exports && name != r#""callosum-runtime""# {
            expected.insert(name);
        }
    }
    let source = read("macros/src/runtime.rs");
    let (_, list) = source.split_once("const OTHERS:").expect("there is the list");
    let (list, _) = list.split_once("];").expect("it ends");
    let listed = list.lines().filter_map(|line| line.trim().strip_suffix(',')).map(str::to_owned).collect();
    assert_eq!(expected, listed, "macros/src/runtime.rs: OTHERS");
}

/// A front page is read at a glance: the guide has the rest.
#[test]
fn front_pages_are_short() {
    let lines = |path: &str| read(path).lines().count();
    assert!(lines("README.md") <= 150, "README.md: {} lines, not 150", lines("README.md"));
    let paths = published().into_iter().map(|it| format!("{}/README.md", it.folder));
    let wrong: Vec<_> = paths.filter(|path| !(30..=60).contains(&lines(path))).collect();
    assert!(wrong.is_empty(), "not 30 to 60 lines: {wrong:?}");
}
