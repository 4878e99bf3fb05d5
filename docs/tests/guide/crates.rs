//! What is written down of the workspace's crates outside of their manifests.

use std::collections::BTreeSet;
use std::fs;

use crate::common::{read, root};

/// The macro of typed services takes every dependency `callosum-NAME` for an adapter, but for those that it lists.
#[test]
fn the_macro_knows_which_crates_are_no_adapters() {
    let mut expected = BTreeSet::new();
    for entry in fs::read_dir(root()).expect("a folder") {
        let folder = entry.expect("an entry").path();
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        let Some(name) = manifest.lines().find_map(|line| line.strip_prefix("name = ")) else { continue };
        let library = fs::read_to_string(folder.join("src/lib.rs")).unwrap_or_default();
        let re_exports = library.lines().any(|line| line == "pub use callosum_runtime::*;");
        let published = !manifest.lines().any(|line| line == "publish = false");
        if published && !re_exports && name != r#""callosum-runtime""# {
            expected.insert(name.to_owned());
        }
    }
    let source = read("macros/src/runtime.rs");
    let (_, list) = source.split_once("const OTHERS:").expect("there is the list");
    let (list, _) = list.split_once("];").expect("it ends");
    let listed = list.lines().filter_map(|line| line.trim().strip_suffix(',')).map(str::to_owned).collect();
    assert_eq!(expected, listed, "macros/src/runtime.rs: OTHERS");
}
