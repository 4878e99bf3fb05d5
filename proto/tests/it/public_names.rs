//! The public API stays small enough to be learnt: each name is one that a host needs.

const MODULES: [&str; 3] = [
    include_str!("../../src/lib.rs"),
    include_str!("../../src/ordering/mod.rs"),
    include_str!("../../src/zmtp/mod.rs"),
];

/// The names that a module exports or defines.
fn names(source: &str) -> Vec<&str> {
    let exports = source.split("\npub use ").skip(1).filter_map(|rest| rest.split_once(';'));
    let exports = exports.flat_map(|(path, _)| {
        let list = path.rsplit("::").next().unwrap_or(path);
        list.split(',').map(|name| name.trim_matches(['{', '}', ' ', '\n'])).filter(|name| !name.is_empty())
    });
    let kinds = ["struct ", "enum ", "trait ", "fn ", "const ", "type "];
    let items = source.lines().filter_map(|line| line.strip_prefix("pub "));
    let items = items.filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)));
    let items = items.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or(rest));
    exports.chain(items).collect()
}

/// The commit that adds one says which host needs it, and why no name that is there will do.
#[test]
fn are_few() {
    let names: Vec<_> = MODULES.iter().flat_map(|source| names(source)).collect();
    assert!(names.contains(&"Connection") && names.contains(&"Scheduler") && names.contains(&"LinkError"));
    assert!(names.len() <= 61, "{} names: {names:?}", names.len());
}
