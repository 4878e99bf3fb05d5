//! What is written down of the workspace's crates outside of their manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::common::{read, root};

/// A published crate.
struct Crate {
    folder: String,
    /// In quotes, as in its manifest.
    name: String,
    /// Whether it is the async API on one runtime.
    is_adapter: bool,
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
            let library = fs::read_to_string(path.join("src/lib.rs")).unwrap_or_default();
            let is_adapter = library.lines().any(|line| line == "pub use callosum_runtime::*;");
            found.push(Crate { folder: folder.to_owned(), name: name.to_owned(), is_adapter });
        }
    }
    assert!(found.iter().any(|it| it.folder == "proto"));
    found
}

/// The macro of typed services takes every dependency `callosum-NAME` for an adapter, but for those that it lists.
#[test]
fn the_macro_knows_which_crates_are_no_adapters() {
    let mut expected = BTreeSet::new();
    for Crate { name, is_adapter, .. } in published() {
        if !is_adapter && name != r#""callosum-runtime""# {
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

/// The features of a crate are in a section of its README.
#[test]
fn every_feature_is_documented() {
    for Crate { folder, .. } in published() {
        let (manifest, readme) =
            (read(&format!("{folder}/Cargo.toml")), read(&format!("{folder}/README.md")));
        let features = manifest.lines().skip_while(|line| *line != "[features]").skip(1);
        let names =
            features.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
        for (name, _) in names.filter(|(name, _)| !name.starts_with('#') && *name != "default") {
            let (_, section) = readme.split_once("\n## Features\n").unwrap_or_default();
            assert!(section.contains(&format!("`{name}`")), "{folder}/README.md: no feature {name}");
        }
    }
}

#[test]
fn adapters_are_as_small_as_the_guide_says() {
    assert!(read("docs/guide/architecture.md").contains("Each has 60 to 300 lines without tests"));
    for Crate { folder, .. } in published().into_iter().filter(|it| it.is_adapter) {
        let files = fs::read_dir(root().join(&folder).join("src")).expect("it has a library");
        let texts = files.map(|file| fs::read_to_string(file.expect("a file").path()).expect("UTF-8"));
        let lines: usize =
            texts.map(|text| text.lines().take_while(|line| *line != "#[cfg(test)]").count()).sum();
        assert!((60..=300).contains(&lines), "{folder}: {lines} lines");
    }
}

/// Crates of this repository that a folder's manifest names, by their folders; tests' too, if `also_tests`.
fn dependencies(folder: &str, also_tests: bool, folders: &BTreeMap<String, String>) -> BTreeSet<String> {
    let (mut found, mut counts) = (BTreeSet::new(), false);
    for line in read(&format!("{folder}/Cargo.toml")).lines() {
        match line.strip_prefix('[') {
            Some(section) => {
                let is_of_tests = section.starts_with("dev-dependencies");
                counts = section.contains("dependencies") && (also_tests || !is_of_tests);
            }
            None if counts => {
                let name = line.split([' ', '.', '=']).next().unwrap_or_default();
                found.extend(folders.get(name).cloned());
            }
            None => {}
        }
    }
    found
}

/// The map of CONTRIBUTING.md: a crate depends on those of its row and, to be tested, on others.
#[test]
fn the_map_says_what_each_crate_depends_on() {
    let mut folders = BTreeMap::from([("callosum-tests".to_owned(), "tests".to_owned())]);
    folders.extend(published().into_iter().map(|it| (it.name.trim_matches('"').to_owned(), it.folder)));
    let adapters: Vec<_> = published().into_iter().filter(|it| it.is_adapter).map(|it| it.folder).collect();
    let (mut rows, map) = (0, read("CONTRIBUTING.md"));
    for row in map.lines().filter(|line| line.starts_with("| [`")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let (Some(folder), Some(may)) = (cells[0].split('`').nth(1), cells.get(2)) else { continue };
        let folder = folder.trim_end_matches('/');
        let says_no_more = ["all of them", "what they need", "what it needs", "its code uses"];
        if !root().join(folder).join("Cargo.toml").exists()
            || says_no_more.iter().any(|words| may.contains(words))
        {
            continue;
        }
        let mut listed: BTreeSet<_> = may.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        if may.contains("the adapters") {
            listed.extend(adapters.iter().cloned());
        }
        let needed = dependencies(folder, false, &folders);
        let missing: Vec<_> = needed.difference(&listed).collect();
        assert!(missing.is_empty(), "CONTRIBUTING.md: {folder} depends on {missing:?} too");
        if !may.contains("the adapters") {
            let all = dependencies(folder, true, &folders);
            let unused: Vec<_> = listed.difference(&all).collect();
            assert!(unused.is_empty(), "CONTRIBUTING.md: {folder} does not depend on {unused:?}");
        }
        rows += 1;
    }
    assert!(rows > 10, "rows are found");
}
