//! The guide is complete: each chapter is in the summary, and each chapter with code is compiled.

use std::collections::BTreeSet;

use callosum_docs::CHAPTERS;

use crate::common::{Block, blocks, documents, guide, read, root};

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

/// Where lines of the source are left out, a quote has a comment.
fn is_gap(line: &str) -> bool {
    ["// ...", "# ..."].contains(&line)
}

/// A whole line of comment in Rust, TOML, Python or Thrift.
fn is_comment(line: &str) -> bool {
    line == "#" || ["//", "# ", "/**"].iter().any(|start| line.starts_with(start))
}

/// Lines that are not empty, without their indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// What follows a part of a quote, if the source begins with it. Comments of the source may be left out.
fn after<'a, 'b>(mut source: &'a [&'b str], part: &[&str]) -> Option<&'a [&'b str]> {
    for line in part {
        let skipped = source.iter().take_while(|found| *found != line && is_comment(found)).count();
        source = source[skipped..].split_first().filter(|(found, _)| *found == line)?.1;
    }
    Some(source)
}

/// The first line of the part of a quote, between two gaps, that is not in the source behind the part before it.
fn misquoted<'a>(quote: &'a str, source: &str) -> Option<&'a str> {
    let (quote, source) = (lines(quote), lines(source));
    let mut rest = &source[..];
    for part in quote.split(|line| is_gap(line)).filter(|part| !part.is_empty()) {
        match (0..rest.len()).find_map(|at| after(&rest[at..], part)) {
            Some(behind) => rest = behind,
            None => return part.first().copied(),
        }
    }
    None
}

/// Each bracket that is opened is closed. Brackets in texts count too.
fn is_balanced(text: &str) -> bool {
    let mut open = Vec::new();
    text.chars().all(|c| match c {
        '(' | '[' | '{' => {
            open.push(c);
            true
        }
        ')' => open.pop() == Some('('),
        ']' => open.pop() == Some('['),
        '}' => open.pop() == Some('{'),
        _ => true,
    }) && open.is_empty()
}

#[test]
fn quotes_are_lines_of_their_source_in_the_same_order() {
    let mut quotes = 0;
    for path in documents() {
        let is_quote = |block: &&Block| {
            block.before.starts_with("<!-- quotes ")
                || (block.language == "rust,ignore" && path.starts_with("docs/guide/"))
        };
        for block in blocks(&read(&path)).iter().filter(is_quote) {
            let source = block.before.strip_prefix("<!-- quotes ").and_then(|it| it.strip_suffix(" -->"));
            let source = read(source.unwrap_or_else(|| panic!("{path}: of what?\n{}", block.text)));
            if let Some(line) = misquoted(&block.text, &source) {
                panic!("{path}: not there, not here, or without `// ...` before it: {line}\n{}", block.text);
            }
            let is_rust = block.language == "rust,ignore";
            assert!(!is_rust || is_balanced(&block.text), "{path}: a bracket is missing:\n{}", block.text);
            quotes += 1;
        }
    }
    assert!(quotes > 0, "nothing is quoted");
}

#[test]
fn quotes_show_where_lines_are_left_out() {
    let source = "fn a() {\n    b(\n        1,\n    );\n\n    // Then c.\n    c();\n}\n";
    for quote in [
        "fn a() {\n    // ...\n    c();\n}",
        "b(\n    1,\n);\nc();",
        "fn a() {\n# ...\n}",
        "// ...\nc();",
        "// Then c.\nc();",
    ] {
        assert_eq!(misquoted(quote, source), None, "{quote}");
    }
    assert_eq!(misquoted("fn a() {\nc();", source), Some("fn a() {"));
    assert_eq!(misquoted("// Then d.\nc();", source), Some("// Then d."));
    assert_eq!(misquoted("c();\n// ...\nfn a() {", source), Some("fn a() {"));
    assert!(
        is_balanced("a(b[0], { c })") && !is_balanced("a(b[0)]") && !is_balanced("{") && !is_balanced("}")
    );
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
