//! The calls that the ordering modes are compared with, and the agents that they are sent to.

use std::collections::BTreeSet;
use std::time::Duration;

use callosum_runtime::OrderingMode;
use serde::{Deserialize, Serialize};

/// The agents, and the ordering in which each of them serves.
pub(super) const AGENTS: [(&str, OrderingMode); 3] = [
    ("alpha", OrderingMode::Unordered),
    ("beta", OrderingMode::ExitOrdered),
    ("gamma", OrderingMode::KeySerialized),
];

/// The time of one column, on a machine that keeps up.
pub(super) const COLUMN: Duration = Duration::from_millis(200);

pub(super) struct Call {
    pub(super) key: Option<&'static str>,
    pub(super) verb: &'static str,
    /// How long its handler works, in columns.
    pub(super) columns: u32,
}

const fn call(key: &'static str, verb: &'static str, columns: u32) -> Call {
    Call { key: Some(key), verb, columns }
}

/// In the order in which they are sent.
pub(super) const CALLS: [Call; 6] = [
    call("web", "stop", 10),
    call("web", "delete", 3),
    call("web", "create", 5),
    call("db", "stop", 6),
    call("db", "delete", 2),
    Call { key: None, verb: "list", columns: 4 },
];

pub(super) const WEB: [usize; 3] = [0, 1, 2];
pub(super) const DB: [usize; 2] = [3, 4];
pub(super) const KEYLESS: usize = 5;

/// The argument of a call: its number.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(super) struct Row {
    pub(super) row: usize,
}

/// The method names of the calls.
pub(super) fn verbs() -> BTreeSet<&'static str> {
    CALLS.iter().map(|call| call.verb).collect()
}
