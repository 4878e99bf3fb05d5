//! Runs every example. They assert what they show.

#[path = "../../tests/shared/examples.rs"]
mod examples;
use examples::run;

#[test]
fn quickstart() {
    run("quickstart");
}

#[test]
fn ordering() {
    run("ordering");
}

#[test]
fn bidirectional() {
    run("bidirectional");
}

#[test]
fn streams() {
    run("streams");
}
