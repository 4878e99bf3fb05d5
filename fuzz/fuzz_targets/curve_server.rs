#![no_main]
use std::time::Instant;
libfuzzer_sys::fuzz_target!(|data: &[u8]| callosum_testkit::fuzz::curve_server(data, Instant::now()));
