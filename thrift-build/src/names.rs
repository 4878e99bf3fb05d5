//! Thrift's names as Rust's.

use std::collections::BTreeSet;

use heck::{ToSnakeCase, ToUpperCamelCase};

use crate::error::BuildError;

/// Keywords that may be names with `r#` before them.
const KEYWORDS: [&str; 49] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait",
    "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
    "union",
];

/// Keywords that may not.
const RESERVED: [&str; 5] = ["self", "Self", "super", "crate", "_"];

fn usable(mut name: String) -> String {
    // The rest of `_1` or `_` after its conversion to Rust's case.
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        name.insert(0, '_');
    }
    if RESERVED.contains(&&*name) {
        return name + "_";
    }
    match KEYWORDS.contains(&&*name) {
        true => format!("r#{name}"),
        false => name,
    }
}

/// The name of a type or a variant: `ping_error` and `pingError` become `PingError`, `HTTPError` stays.
pub(crate) fn of_type(name: &str) -> String {
    let is_camel = name.starts_with(|first: char| first.is_ascii_uppercase()) && !name.contains('_');
    usable(if is_camel { name.to_owned() } else { name.to_upper_camel_case() })
}

/// The name of a field, an argument, a function or a module: `longDelay` becomes `long_delay`.
pub(crate) fn of_value(name: &str) -> String {
    let has_capitals = name.contains(|character: char| character.is_ascii_uppercase());
    usable(if has_capitals { name.to_snake_case() } else { name.to_owned() })
}

/// The name of a file's module: what no name may contain becomes `_`.
pub(crate) fn of_module(stem: &str) -> String {
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let name: String = stem.chars().map(allowed).collect();
    of_value(&name)
}

/// A constant's name stays.
pub(crate) fn of_constant(name: &str) -> String {
    usable(name.to_owned())
}

/// The name, with as many `_` after it as it takes until it is free.
pub(crate) fn free(mut name: String, is_taken: impl Fn(&str) -> bool) -> String {
    while is_taken(&name) {
        // With a `_`, it is not a keyword.
        if let Some(keyword) = name.strip_prefix("r#") {
            name = keyword.to_owned();
        }
        name.push('_');
    }
    name
}

/// The name, made [free](free) of those that are taken, and taken from then on.
pub(crate) fn take(name: String, taken: &mut BTreeSet<String>) -> String {
    let name = free(name, |name| taken.contains(name));
    taken.insert(name.clone());
    name
}

/// Finds names that have become the same. Returns all of them.
pub(crate) fn check(what: &str, names: impl Iterator<Item = String>) -> Result<BTreeSet<String>, BuildError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return Err(BuildError::Names { name, what: what.to_owned() });
        }
    }
    Ok(seen)
}

/// Doc attributes, which take any text.
pub(crate) fn docs(text: &str) -> String {
    text.lines().map(|line| format!("#[doc = {:?}]\n", format!(" {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rusts_case_and_are_no_keywords() {
        for (name, rust) in [
            ("ping_error", "PingError"),
            ("pingError", "PingError"),
            ("HTTPError", "HTTPError"),
            ("self", "Self_"),
            ("_", "__"),
            ("_2nd", "_2nd"),
        ] {
            assert_eq!(of_type(name), rust);
        }
        for (name, rust) in [
            ("longDelay", "long_delay"),
            ("msg", "msg"),
            ("type", "r#type"),
            ("self", "self_"),
            ("_", "__"),
            ("_2Nd", "_2nd"),
        ] {
            assert_eq!(of_value(name), rust);
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_an_underscore() {
        let taken = ["a", "a_", "r#type"];
        for (name, is_free) in [("a", "a__"), ("b", "b"), ("r#type", "type_")] {
            assert_eq!(free(name.into(), |name| taken.contains(&name)), is_free);
        }
    }

    #[test]
    fn names_that_become_the_same_are_refused() {
        let names = ["longDelay", "long_delay"].map(of_value);
        assert!(
            matches!(check("x", names.into_iter()), Err(BuildError::Names { name, .. }) if name == "long_delay")
        );
    }
}
