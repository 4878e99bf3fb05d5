//! Runs the examples, and looks at what they print.

use std::process::Command;

#[test]
fn a_planted_bug_is_found_and_shrunk() {
    // Beside the folder of the tests' programs.
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().with_file_name("examples").join("find_a_bug");
    let output = Command::new(&example).output().unwrap_or_else(|error| {
        panic!("{}: {error}; build it with `cargo build -p callosum-testkit --examples`", example.display())
    });
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    // Two commands for one container are the least that shows it: a start that takes longer than the delete behind it.
    assert!(text.contains("does not hold for [(Start, 1), (Delete, 1)], seed 0"), "{text}");
    assert!(text.contains("without the bug, it holds for all that was tried"), "{text}");
}
