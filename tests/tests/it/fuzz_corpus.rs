//! Runs the bodies of the fuzz targets over the seeds in the repository.

use std::path::Path;
use std::time::Instant;

use callosum_testkit::fuzz;

/// Runs the body of a target over its seeds, and over each of their beginnings.
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
    over_corpus("header", fuzz::header);
}

#[test]
fn bodies() {
    over_corpus("body", fuzz::body);
}

#[test]
fn sessions() {
    over_corpus("session", |data| fuzz::session(data, start()));
}

#[test]
fn links() {
    over_corpus("zmtp", |data| fuzz::zmtp(data, start()));
}

#[test]
fn servers_under_curve() {
    over_corpus("curve_server", |data| fuzz::curve_server(data, start()));
}

#[test]
fn clients_under_curve() {
    over_corpus("curve_client", |data| fuzz::curve_client(data, start()));
}

#[test]
fn admitted_clients() {
    over_corpus("admitted_client", |data| fuzz::admitted_client(data, start()));
}

#[test]
fn admitted_servers() {
    over_corpus("admitted_server", |data| fuzz::admitted_server(data, start()));
}

#[test]
fn packets() {
    over_corpus("packet", fuzz::packet);
}

#[test]
fn sessions_in_dialect_2() {
    over_corpus("session2", |data| fuzz::session2(data, start()));
}

#[test]
fn authenticators() {
    over_corpus("authenticator", callosum_runtime::fuzzing::authenticator);
}

#[test]
fn socks5_handshakes_of_tunnels() {
    over_corpus("socks5", callosum_tunnel::fuzzing::socks5);
}

#[test]
fn http_connect_handshakes_of_tunnels() {
    over_corpus("http_connect", callosum_tunnel::fuzzing::http_connect);
}

#[test]
fn rules_of_tunnels() {
    over_corpus("rules", callosum_tunnel::fuzzing::rules);
}

#[test]
fn items_of_protocol_buffers() {
    over_corpus("protobuf_item", callosum_protobuf::fuzzing::item);
}

#[test]
fn statuses_of_protocol_buffers() {
    over_corpus("protobuf_status", callosum_protobuf::fuzzing::status);
}

#[test]
fn thrift_messages() {
    over_corpus("thrift", callosum_thrift::fuzzing::message);
}
