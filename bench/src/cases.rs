//! The rows of the table of calls: which loads there are, and what each is called.
//!
//! A row's name says its body, how many calls are in flight in all, over how many connections if there is more than one, and how
//! the server orders calls if that isn't the default: `64B x128`, `64B x128 c64`, `64B x128 keys-serialized`.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use regex::Regex;

/// Keys among which calls with a key choose.
pub const KEYS: usize = 10_000;

/// The most calls that any case has in flight.
pub const MOST_IN_FLIGHT: usize = 8_192;

/// The most bytes of bodies that any case has in flight, each way.
pub const MOST_BYTES_IN_FLIGHT: usize = 64 << 20;

/// How a server orders calls, and whether they have keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Order {
    /// The server orders no calls; they have no keys
    Unordered,
    /// Replies to calls with the same key leave in the order of the calls
    KeysExitOrdered,
    /// Calls with the same key run one after the other
    KeysSerialized,
}

impl Order {
    /// Whether calls have keys.
    pub fn keyed(self) -> bool {
        self != Self::Unordered
    }

    /// As the command line and names of rows have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unordered => "unordered",
            Self::KeysExitOrdered => "keys-exit-ordered",
            Self::KeysSerialized => "keys-serialized",
        }
    }
}

/// The shape of a load: a row of the table, for every peer that carries it.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Calls that are in flight at any time, over all connections together
    #[arg(long)]
    pub in_flight: usize,
    /// Length of the body of request and response, in bytes
    #[arg(long)]
    pub body_bytes: usize,
    /// Connections that share the calls
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// How the server orders calls, if not as it does by default
    #[arg(long)]
    pub order: Option<Order>,
}

impl Case {
    /// On one connection, without keys.
    pub const fn new(body_bytes: usize, in_flight: usize) -> Self {
        Self { in_flight, body_bytes, connections: 1, order: None }
    }

    const fn over(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    const fn ordered(self, order: Order) -> Self {
        Self { order: Some(order), ..self }
    }

    /// How many times as long as others it is measured. Where a call takes long, because 8,192 share a connection or because
    /// 64 MiB are on their way, too few would end in an ordinary window.
    pub fn stretch(&self) -> u64 {
        let long =
            self.in_flight >= MOST_IN_FLIGHT || self.in_flight * self.body_bytes >= MOST_BYTES_IN_FLIGHT;
        if long { 3 } else { 1 }
    }

    /// What the name says after body and calls in flight, with `separator` before each part.
    pub fn suffix(&self, separator: &str) -> String {
        let connections = (self.connections > 1).then(|| format!("c{}", self.connections));
        let order = self.order.map(|order| order.name().to_owned());
        connections.into_iter().chain(order).map(|part| format!("{separator}{part}")).collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, unit) = match self.body_bytes {
            mib if mib > 0 && mib % (1 << 20) == 0 => (mib >> 20, "MiB"),
            kib if kib > 0 && kib % (1 << 10) == 0 => (kib >> 10, "KiB"),
            bytes => (bytes, "B"),
        };
        write!(f, "{bytes}{unit} x{}{}", self.in_flight, self.suffix(" "))
    }
}

/// Those of the layers above calls: one call in flight, and many.
pub const LAYERS: &[Case] = &[Case::new(64, 1), Case::new(64, 128)];

/// Every case. Those with the same body stand together and are measured in the same rounds.
pub const ALL: &[Case] = &[
    Case::new(64, 1),
    Case::new(64, 16),
    Case::new(64, 128),
    Case::new(64, 1_024),
    Case::new(64, MOST_IN_FLIGHT),
    Case::new(64, 128).over(8),
    Case::new(64, 128).over(64),
    Case::new(64, 128).ordered(Order::Unordered),
    Case::new(64, 128).ordered(Order::KeysExitOrdered),
    Case::new(64, 128).ordered(Order::KeysSerialized),
    Case::new(1 << 10, 128),
    Case::new(16 << 10, 128),
    Case::new(64 << 10, 64),
    Case::new(256 << 10, 64),
    Case::new(1 << 20, 32),
    Case::new(8 << 20, 8),
];

/// The cases of a quick run.
pub const QUICK: &[Case] = &[
    Case::new(64, 1),
    Case::new(64, 128),
    Case::new(64, 1_024),
    Case::new(64, MOST_IN_FLIGHT),
    Case::new(64, 128).over(64),
    Case::new(64, 128).ordered(Order::Unordered),
    Case::new(64, 128).ordered(Order::KeysSerialized),
    Case::new(256 << 10, 64),
    Case::new(1 << 20, 32),
];

/// Those of [`ALL`] whose names one of `patterns` matches, each a regular expression that may match any part of a name; without
/// patterns, `otherwise`.
///
/// # Errors
/// A pattern is no regular expression, or matches no name.
pub fn select(patterns: &[String], otherwise: &[Case]) -> Result<Vec<Case>> {
    if patterns.is_empty() {
        return Ok(otherwise.to_vec());
    }
    let names = || ALL.iter().map(Case::to_string);
    let compile = |pattern: &String| {
        let compiled = Regex::new(pattern).with_context(|| format!("--rows {pattern:?}"))?;
        let known = || names().collect::<Vec<_>>().join(", ");
        ensure!(
            names().any(|name| compiled.is_match(&name)),
            "--rows {pattern:?} matches none of {}",
            known()
        );
        Ok(compiled)
    };
    let patterns: Vec<_> = patterns.iter().map(compile).collect::<Result<_>>()?;
    let matches = |case: &&Case| patterns.iter().any(|pattern| pattern.is_match(&case.to_string()));
    Ok(ALL.iter().filter(matches).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<_> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        select(&patterns, QUICK).unwrap().iter().map(Case::to_string).collect()
    }

    #[test]
    fn names_tell_rows_apart() {
        let names: Vec<_> = ALL.iter().map(Case::to_string).collect();
        let expected = [
            "64B x1",
            "64B x16",
            "64B x128",
            "64B x1024",
            "64B x8192",
            "64B x128 c8",
            "64B x128 c64",
            "64B x128 unordered",
            "64B x128 keys-exit-ordered",
            "64B x128 keys-serialized",
            "1KiB x128",
            "16KiB x128",
            "64KiB x64",
            "256KiB x64",
            "1MiB x32",
            "8MiB x8",
        ];
        assert_eq!(names, expected);
        assert_eq!(Case::new(0, 1).to_string(), "0B x1");
    }

    #[test]
    fn rows_are_selected_by_any_part_of_their_names() {
        assert_eq!(selected(&[]).len(), QUICK.len());
        assert_eq!(selected(&["c64", "8MiB"]), ["64B x128 c64", "8MiB x8"]);
        assert_eq!(selected(&["^64B x(1|8192)$"]), ["64B x1", "64B x8192"]);
        for wrong in ["x7", "("] {
            assert!(select(&[wrong.to_owned()], QUICK).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_quick_run_has_rows_of_the_full_one_in_the_same_order() {
        let quick: Vec<_> = ALL.iter().filter(|case| QUICK.contains(case)).copied().collect();
        assert_eq!(quick, QUICK);
    }

    #[test]
    fn no_case_exceeds_what_peers_are_prepared_for() {
        for case in ALL {
            assert!(case.in_flight <= MOST_IN_FLIGHT && case.in_flight % case.connections == 0, "{case}");
            assert!(case.in_flight * case.body_bytes <= MOST_BYTES_IN_FLIGHT, "{case}");
        }
        assert_eq!(ALL.iter().filter(|case| case.stretch() > 1).count(), 2);
    }

    #[test]
    fn orders_have_the_names_that_the_command_line_takes() {
        for order in Order::value_variants() {
            let value = order.to_possible_value().unwrap();
            assert_eq!(value.get_name(), order.name());
        }
    }
}
