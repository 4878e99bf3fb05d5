//! The guide's tables of limits have the defaults that are in the code.

use std::collections::BTreeMap;
use std::fmt::Debug;

use callosum_runtime::Limits;
use callosum_tunnel::{ServerSettings, TunnelSettings};

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

/// The fields that are numbers and times, by `Debug`: `Limits { max_body: 10485760, …, write_timeout: 10s }`.
fn defaults(of: impl Debug) -> BTreeMap<String, u64> {
    let text = format!("{of:?}");
    let (_, fields) = text.split_once(" { ").expect("a struct with fields");
    let fields = fields.trim_end_matches(" }").split(", ").filter_map(|field| field.split_once(": "));
    fields
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim_end_matches('s').parse().ok()?)))
        .collect()
}

/// Compares the rows of a document that name a limit as `` `KIND::NAME` `` with the defaults.
fn compare(document: &str, kind: &str, defaults: &BTreeMap<String, u64>) {
    let text = read(document);
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [what, default, _, set_with] = cells[..] else { continue };
        let prefix = format!("`{kind}::");
        let names = set_with.split(&*prefix).skip(1).filter_map(|rest| rest.split('`').next());
        for name in names {
            // One limit may have several rows.
            let expected =
                defaults.get(name).unwrap_or_else(|| panic!("{document}: {kind} has no limit {name}"));
            assert_eq!(value(default), Some(*expected), "{document}: {what}: {default}");
        }
    }
    let missing: Vec<_> =
        defaults.keys().filter(|name| !text.contains(&format!("`{kind}::{name}`"))).collect();
    assert!(missing.is_empty(), "{document}: these of {kind} have no row: {missing:?}");
}

#[test]
fn the_tables_have_each_limit_with_its_default() {
    let limits = defaults(Limits::default());
    assert_eq!(limits.get("max_body"), Some(&(10 << 20)));
    compare("docs/guide/limits.md", "Limits", &limits);
    compare("docs/guide/thrift.md", "Limits", &defaults(callosum_thrift::Limits::default()));
    let server = defaults(ServerSettings::default());
    assert!(server.contains_key("max_listeners_per_user") && server.contains_key("connect_timeout"));
    compare("docs/guide/tunnels.md", "ServerSettings", &server);
    let tunnel = defaults(TunnelSettings::default());
    assert!(tunnel.contains_key("handshake_timeout"));
    compare("docs/guide/tunnels.md", "TunnelSettings", &tunnel);

    let of_a_message = limits.into_iter().filter(|(name, _)| name == "max_body").collect();
    compare("docs/guide/protobuf.md", "Limits", &of_a_message);
}
