//! Runs the programs that belong to one runtime. They assert what they show.

use std::process::Command;

fn run(example: &str) {
    // Cargo builds a package's examples together with its tests, into a folder beside theirs.
    let test = std::env::current_exe().expect("a test is a program");
    let path = test.parent().expect("a program is in a folder").with_file_name("examples").join(example);
    let output = Command::new(&path)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; build it with --all-targets", path.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn single_thread() {
    run("single_thread");
}

#[test]
fn child_process() {
    run("child_process");
}

#[test]
fn websocket() {
    run("websocket");
}
