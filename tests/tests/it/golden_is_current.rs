//! The golden vectors of dialect 1 are what Python Callosum produces.

use callosum_tests::python::PyProcess;

#[test]
fn golden_vectors_are_what_the_package_produces() {
    let (status, stderr) = PyProcess::spawn("golden.py", &["--check"]).finish();
    assert!(status.success(), "{stderr}");
}
