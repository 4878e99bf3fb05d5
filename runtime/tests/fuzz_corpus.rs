//! The bodies of the fuzz targets over the seeds that are in the repository.

#[path = "../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn authenticators() {
    seeds::over_corpus("authenticator", callosum_runtime::fuzzing::authenticator);
}
