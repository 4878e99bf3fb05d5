//! Runs every example. They assert what they show.

#[path = "../../tests/shared/examples.rs"]
mod examples;
use examples::run;

#[test]
fn quickstart() {
    run("async-std-quickstart");
}

#[test]
fn ordering() {
    run("async-std-ordering");
}

#[test]
fn bidirectional() {
    run("async-std-bidirectional");
}

#[test]
fn streams() {
    run("async-std-streams");
}
