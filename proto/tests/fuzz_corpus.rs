//! The bodies of the fuzz targets over the seeds that are in the repository.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::path::Path;
use std::time::Instant;

use callosum_proto::fuzzing;

fn over_corpus(target: &str, body: impl Fn(&[u8])) {
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

fn start() -> Instant {
    Instant::now()
}

#[test]
fn headers() {
    over_corpus("header", fuzzing::header);
}

#[test]
fn bodies() {
    over_corpus("body", fuzzing::body);
}

#[test]
fn sessions() {
    over_corpus("session", |data| fuzzing::session(data, start()));
}

#[test]
fn links() {
    over_corpus("zmtp", |data| fuzzing::zmtp(data, start()));
}

#[test]
fn servers_under_curve() {
    over_corpus("curve_server", |data| fuzzing::curve_server(data, start()));
}

#[test]
fn clients_under_curve() {
    over_corpus("curve_client", |data| fuzzing::curve_client(data, start()));
}

#[test]
fn packets() {
    over_corpus("packet", fuzzing::packet);
}

#[test]
fn sessions_in_dialect_2() {
    over_corpus("session2", |data| fuzzing::session2(data, start()));
}
