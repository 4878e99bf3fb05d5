#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callosum_proto::fuzzing::zmtp(data, std::time::Instant::now()));
