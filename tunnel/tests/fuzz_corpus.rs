//! The bodies of the fuzz targets over the seeds that are in the repository.

#[path = "../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn socks5() {
    seeds::over_corpus("socks5", callosum_tunnel::fuzzing::socks5);
}

#[test]
fn http_connect() {
    seeds::over_corpus("http_connect", callosum_tunnel::fuzzing::http_connect);
}

#[test]
fn rules() {
    seeds::over_corpus("rules", callosum_tunnel::fuzzing::rules);
}
