//! The guide's table of limits has the defaults that are in the code.

use std::collections::BTreeMap;

use callosum_runtime::Limits;

use crate::common::read;

/// `10 MiB`, `1,000`, `80 %` or `10 s` as a number: bytes, or as it is.
fn value(text: &str) -> Option<u64> {
    let text = text.replace(',', "");
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "" | "%" | "s" => 0,
        _ => return None,
    };
    number.parse::<u64>().ok().map(|number| number << shift)
}

/// The fields of `Limits`, by `Debug`: `Limits { max_body: 10485760, …, write_timeout: 10s }`.
fn defaults() -> BTreeMap<String, u64> {
    let text = format!("{:?}", Limits::default());
    let fields = text.trim_start_matches("Limits { ").trim_end_matches(" }").split(", ");
    let field = |field: &str| {
        let (name, number) = field.split_once(": ").expect("a name and a value");
        (name.to_owned(), number.trim_end_matches('s').parse().expect("a number, or seconds"))
    };
    fields.map(field).collect()
}

#[test]
fn the_table_has_each_limit_with_its_default() {
    let mut defaults = defaults();
    assert_eq!(defaults.get("max_body"), Some(&(10 << 20)));
    for row in read("docs/guide/limits.md").lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [what, default, _, set_with] = cells[..] else { continue };
        let names = set_with.split("`Limits::").skip(1).filter_map(|rest| rest.split('`').next());
        for name in names {
            // One limit may have several rows.
            let expected = defaults.get(name).unwrap_or_else(|| panic!("there is no limit {name}"));
            assert_eq!(value(default), Some(*expected), "{what}: {default}");
        }
    }
    let text = read("docs/guide/limits.md");
    defaults.retain(|name, _| !text.contains(&format!("`Limits::{name}`")));
    assert!(defaults.is_empty(), "these have no row: {defaults:?}");
}
