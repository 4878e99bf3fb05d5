//! The bodies of the fuzz targets over the seeds that are in the repository.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::time::Instant;

use callosum_proto::fuzzing;
use seeds::over_corpus;

#[path = "../../fuzz/seeds.rs"]
mod seeds;

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
fn admitted_clients() {
    over_corpus("admitted_client", |data| fuzzing::admitted_client(data, start()));
}

#[test]
fn admitted_servers() {
    over_corpus("admitted_server", |data| fuzzing::admitted_server(data, start()));
}

#[test]
fn packets() {
    over_corpus("packet", fuzzing::packet);
}

#[test]
fn sessions_in_dialect_2() {
    over_corpus("session2", |data| fuzzing::session2(data, start()));
}
