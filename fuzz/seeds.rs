//! The seeds of the fuzz targets that are in the repository, for the tests of the crates that have their bodies.

use std::path::Path;

/// Runs the body of a target over its seeds, and over each of their beginnings.
pub(crate) fn over_corpus(target: &str, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        folder.read_dir().expect("a folder of seeds").map(|entry| entry.expect("an entry").path()).collect();
    // libFuzzer adds what it finds under SHA-1 names, which are not in the repository.
    paths.retain(|path| path.file_name().is_some_and(|name| name.len() < 40));
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    for path in paths {
        let seed = std::fs::read(&path).expect("a seed");
        // The name shows in the output of a failed test.
        println!("{}", path.display());
        body(&seed);
        for len in 0..seed.len() {
            body(&seed[..len]);
        }
    }
}
