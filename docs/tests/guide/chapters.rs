//! The guide is complete: each chapter is in the summary, and each chapter with code is compiled.

use std::collections::BTreeSet;

use callosum_docs::CHAPTERS;

use crate::common::{Block, blocks, guide, read, root};

#[test]
fn every_chapter_is_in_the_summary() {
    let summary = read("docs/guide/SUMMARY.md");
    for path in guide() {
        let name = path.strip_prefix("docs/guide/").expect("it is in the guide");
        assert!(
            name == "SUMMARY.md" || summary.contains(&format!("]({name})")),
            "{name} is not in the summary"
        );
    }
}

#[test]
fn every_chapter_with_code_is_compiled() {
    let has_code = |path: &String| blocks(&read(path)).iter().any(|block| block.language == "rust");
    let with_code: BTreeSet<_> = guide().into_iter().filter(has_code).collect();
    let compiled: BTreeSet<_> = CHAPTERS.iter().map(|path| (*path).to_owned()).collect();
    let missing: Vec<_> = with_code.difference(&compiled).collect();
    assert!(missing.is_empty(), "not in the list of docs/src/lib.rs: {missing:?}");
    assert!(compiled.contains("README.md"));
}

/// `.ci/run` runs the commands below `<!-- ci: NAME -->`; what it does not run is no `sh`.
#[test]
fn every_command_is_one_that_is_run() {
    for path in guide().into_iter().chain(["README.md".to_owned()]) {
        for block in blocks(&read(&path)) {
            match &*block.language {
                "sh" => {
                    let mark = block.before.strip_prefix("<!-- ci: ").and_then(|it| it.strip_suffix(" -->"));
                    assert!(mark.is_some(), "{path}: not run by .ci/run:\n{}", block.text);
                }
                "rust" | "rust,ignore" | "text" | "toml" => {}
                other => panic!("{path}: nobody checks blocks of {other:?}"),
            }
        }
    }
}

/// Compares lines without their indentation. Lines of the source between two that are quoted may be left out.
#[test]
fn quotes_are_lines_of_their_source_in_the_same_order() {
    let mut quotes = 0;
    for path in guide().into_iter().chain(["proto/README.md".to_owned()]) {
        let is_quote =
            |block: &&Block| block.language == "rust,ignore" || block.before.starts_with("<!-- quotes ");
        for block in blocks(&read(&path)).iter().filter(is_quote) {
            let source = block.before.strip_prefix("<!-- quotes ").and_then(|it| it.strip_suffix(" -->"));
            let source = read(source.unwrap_or_else(|| panic!("{path}: of what?\n{}", block.text)));
            let mut lines = source.lines().map(str::trim);
            for line in block.text.lines().map(str::trim).filter(|line| !["", "..."].contains(line)) {
                assert!(
                    lines.any(|found| found == line),
                    "{path}: not there, or not here: {line}\n{}",
                    block.text
                );
            }
            quotes += 1;
        }
    }
    assert!(quotes > 0, "nothing is quoted");
}

/// Names of crates in `toml` blocks, with their paths and features.
#[test]
fn dependencies_are_those_of_this_repository() {
    for path in guide() {
        for block in blocks(&read(&path)).iter().filter(|block| block.language == "toml") {
            let ours = block.text.lines().filter_map(|line| line.split_once(" = { path = \"../callosum/"));
            for (name, rest) in ours {
                let (folder, options) = rest.split_once('"').expect("a path in quotes");
                let manifest = read(&format!("{folder}/Cargo.toml"));
                assert!(
                    manifest.contains(&format!("name = \"{name}\"")),
                    "{path}: {name} is not in {folder}"
                );
                let features = options.split('"').skip(1).step_by(2);
                for feature in features {
                    assert!(
                        manifest.contains(&format!("\n{feature} = [")),
                        "{path}: {name} has no {feature}"
                    );
                }
            }
        }
    }
    assert!(root().join("runtime-tokio/Cargo.toml").exists());
}
