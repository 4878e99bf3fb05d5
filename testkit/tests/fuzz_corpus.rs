//! Runs the bodies of the fuzz targets over the seeds in the repository.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::time::Instant;

use callosum_testkit::fuzz;
use seeds::over_corpus;

#[path = "../../fuzz/seeds.rs"]
mod seeds;

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
