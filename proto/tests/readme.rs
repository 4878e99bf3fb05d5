//! The README quotes the example: what it quotes is there.

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("../examples/blocking.rs");

/// The code blocks with this opening line.
fn blocks<'a>(text: &'a str, opening: &str) -> Vec<Vec<&'a str>> {
    let mut lines = text.lines();
    let mut blocks = Vec::new();
    while lines.any(|line| line == opening) {
        blocks.push(lines.by_ref().take_while(|line| *line != "```").collect());
    }
    blocks
}

/// Compares lines without their indentation. Lines of the example between two that are quoted may be left out.
#[test]
fn quoted_lines_are_lines_of_the_example_in_the_same_order() {
    let blocks = blocks(README, "```rust,ignore");
    assert!(!blocks.is_empty(), "the README quotes nothing");
    for block in blocks {
        let mut example = EXAMPLE.lines().map(str::trim);
        for line in block.iter().map(|line| line.trim()).filter(|line| !["", "..."].contains(line)) {
            assert!(
                example.any(|found| found == line),
                "not in the example, or not here: {line}\n{block:#?}"
            );
        }
    }
}
