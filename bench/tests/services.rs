//! The same service with each library does the same, and the documents say how many lines it takes.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Result;
use callosum_bench::services::{Seen, callosum, jsonrpsee, tarpc, tonic};

#[tokio::test]
async fn all_of_them_do_the_same() -> Result<()> {
    let expected = Seen {
        missing: "nginx".to_owned(),
        uploaded: 655_360,
        started: 655_360,
        log: (1..=3).map(|n| format!("web: line {n}")).collect(),
    };
    assert_eq!(callosum::run().await?, expected);
    assert_eq!(tarpc::run().await?, expected);
    assert_eq!(jsonrpsee::run().await?, expected);
    assert_eq!(tonic::run().await?, expected);
    Ok(())
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lines of code, as everybody would format them: without blank lines and comments.
fn lines(path: &str) -> usize {
    let text = read(path);
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// What each library takes, with the interface in a language of its own and what generates code of that.
fn counted() -> BTreeMap<&'static str, usize> {
    let of = |files: &[&str]| files.iter().map(|file| lines(file)).sum();
    BTreeMap::from([
        ("Callosum", of(&["src/services/callosum.rs"])),
        ("tarpc", of(&["src/services/tarpc.rs"])),
        ("jsonrpsee", of(&["src/services/jsonrpsee.rs"])),
        ("tonic", of(&["src/services/tonic.rs", "src/services/agent.proto", "src/services/build.rs"])),
    ])
}

/// The cells of the row of lines in a document's table, by those of its header.
fn table(document: &str) -> BTreeMap<String, usize> {
    let text = read(document);
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let at = text.lines().position(|line| line.starts_with("| lines |"));
    let at = at.unwrap_or_else(|| panic!("{document} has no row of lines"));
    let all: Vec<_> = text.lines().collect();
    let header = all[..at].iter().rposition(|line| !line.starts_with('|')).map_or(0, |before| before + 1);
    let pairs = cells(all[header]).into_iter().zip(cells(all[at])).skip(1);
    pairs.map(|(name, count)| (name, count.parse().expect("a number of lines"))).collect()
}

#[test]
fn the_guide_says_how_many_lines_each_takes() {
    let counted: BTreeMap<_, _> =
        counted().into_iter().map(|(name, lines)| (name.to_owned(), lines)).collect();
    assert_eq!(table("../docs/guide/services.md"), counted);
    let ours = counted["Callosum"];
    assert!(counted.values().all(|lines| *lines >= ours), "{counted:?}");
}

#[test]
fn the_readme_says_the_same() {
    let counted = counted();
    let of = |name: &str| counted[name];
    let sentence = format!(
        "{} lines here, {} with tarpc, {} with jsonrpsee and {} with tonic",
        of("Callosum"),
        of("tarpc"),
        of("jsonrpsee"),
        of("tonic")
    );
    assert!(
        read("../README.md").replace('\n', " ").contains(&sentence),
        "the README does not say: {sentence}"
    );
}
