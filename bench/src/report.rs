//! The results: rows, a table of them, and how the peers compare.

mod idle;
mod marks;
mod neighbours;
mod tunnels;
mod upload;

pub use idle::{IdleRow, idle_table};
pub use marks::{call_marks, layer_marks};
pub use neighbours::{NeighbourRow, neighbour_marks, neighbour_table};
pub use tunnels::{TunnelRow, tunnel_marks, tunnel_table};
pub use upload::{BesideRow, UploadRow, beside_marks, beside_table, upload_marks, upload_table};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    cases::{Case, KEYS, Order},
    load::Sample,
    peers::Peer,
};

const LONGEST_CALL_NS: u64 = 120_000_000_000;

/// What a peer showed in a case, over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The name of the stack, and what else of the row's name body and calls in flight don't say, as in `tarpc-c64`.
    pub peer: String,
    /// The name of the stack; not part of the JSON.
    #[serde(skip)]
    pub stack: &'static str,
    /// The runtime of both ends.
    pub runtime: String,
    /// The name of the row.
    pub row: String,
    /// Whether it encrypts; not part of the JSON, where the name says so.
    #[serde(skip)]
    pub encrypted: bool,
    /// Calls in flight, over all connections together.
    pub in_flight: usize,
    /// Length of a body, in bytes, each way.
    pub body_bytes: usize,
    /// Connections that share the calls.
    pub connections: usize,
    /// Keys that calls choose from; 0 if they have none.
    pub keys: usize,
    /// The median of the rounds.
    pub calls_per_s: f64,
    /// The slowest and the fastest round; not part of the JSON.
    #[serde(skip)]
    pub calls_per_s_range: (f64, f64),
    /// Half of all calls took at most as many microseconds.
    pub p50_us: f64,
    /// 99 of 100 calls took at most as many microseconds.
    pub p99_us: f64,
    /// All calls took at most as many microseconds.
    pub max_us: f64,
    /// Calls that counted, in all rounds.
    pub calls: u64,
}

impl Row {
    /// Sums up the samples of the rounds.
    ///
    /// # Errors
    /// There is none, or a call took longer than two minutes.
    pub fn new(peer: &Peer, case: Case, rounds: &[Sample]) -> Result<Self> {
        let (p50_us, p99_us) = quantiles_us(rounds)?;
        let rates = sorted(rounds.iter().map(Sample::calls_per_s).collect())?;
        Ok(Self {
            peer: format!("{}{}", peer.name, case.suffix("-")),
            stack: peer.name,
            runtime: peer.runtime.to_owned(),
            row: case.to_string(),
            encrypted: peer.encrypted,
            in_flight: case.in_flight,
            body_bytes: case.body_bytes,
            connections: case.connections,
            keys: if case.order.is_some_and(Order::keyed) { KEYS } else { 0 },
            calls_per_s: round(median(&rates)),
            calls_per_s_range: (rates[0], rates[rates.len() - 1]),
            p50_us,
            p99_us,
            max_us: max_us(rounds),
            calls: rounds.iter().map(Sample::calls).sum(),
        })
    }

    /// Gives it a name of its own among the rows of a run: the same peer has made calls by themselves.
    pub(crate) fn of_a_layer(&mut self) {
        self.peer += "-layer";
    }
}

/// Half, and 99 of 100, of all calls took at most as many microseconds.
fn quantiles_us<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Result<(f64, f64)> {
    let mut latencies = Histogram::<u64>::new_with_bounds(1, LONGEST_CALL_NS, 3)?;
    let mut longest = 0;
    for (&nanos, &count) in samples.into_iter().flat_map(|sample| &sample.latency_ns) {
        latencies.record_n(nanos, count)?;
        longest = longest.max(nanos);
    }
    // It rounds up to three digits, also past what there is.
    let quantile_us = |q| round(latencies.value_at_quantile(q).min(longest) as f64 / 1e3);
    Ok((quantile_us(0.5), quantile_us(0.99)))
}

/// All calls took at most as many microseconds.
fn max_us<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> f64 {
    let longest = samples.into_iter().filter_map(|sample| sample.latency_ns.keys().next_back()).max();
    round(longest.copied().unwrap_or_default() as f64 / 1e3)
}

/// To tenths: no measurement here is finer.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// In ascending order; there is one at least.
fn sorted(mut values: Vec<f64>) -> Result<Vec<f64>> {
    values.sort_by(f64::total_cmp);
    values.first().context("no round")?;
    Ok(values)
}

fn verdict(kept: bool) -> &'static str {
    if kept { "met" } else { "missed" }
}

/// The middle value, or the mean of the two in the middle, of at least one in ascending order.
fn median(sorted: &[f64]) -> f64 {
    let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    f64::midpoint(sorted[low], sorted[high])
}

/// All rows as a table, for people.
pub fn table(rows: &[Row]) -> Table {
    let mut table = new_table([
        "row",
        "peer",
        "runtime",
        "calls/s",
        "slowest … fastest",
        "p50 µs",
        "p99 µs",
        "max µs",
        "calls",
    ]);
    for row in rows {
        table.add_row([
            row.row.clone(),
            row.stack.to_owned(),
            row.runtime.clone(),
            format!("{:.0}", row.calls_per_s),
            format!("{:.0} … {:.0}", row.calls_per_s_range.0, row.calls_per_s_range.1),
            format!("{:.1}", row.p50_us),
            format!("{:.1}", row.p99_us),
            format!("{:.1}", row.max_us),
            row.calls.to_string(),
        ]);
    }
    align(&mut table, 3..=8);
    table
}

fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header);
    table
}

/// Numbers stand to the right.
fn align(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for numbers in columns {
        if let Some(column) = table.column_mut(numbers) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// How many times the calls/s of each other peer Callosum makes: a line per row and runtime in which it was measured, for
/// the peers that encrypt and for those that don't. With itself, as in another dialect, it is compared on the same runtime.
pub fn ratios(rows: &[Row]) -> Vec<String> {
    let subjects = rows.iter().filter(|row| matches!(row.stack, "callosum" | "callosum-curve"));
    subjects
        .filter_map(|subject| {
            let comparable = |row: &&Row| {
                let of_callosum = row.stack.starts_with("callosum");
                row.row == subject.row
                    && row.encrypted == subject.encrypted
                    && *row != subject
                    && (!of_callosum || row.runtime == subject.runtime)
            };
            let ratio = |row: &Row| {
                format!("{:.2} × {} ({})", subject.calls_per_s / row.calls_per_s, row.stack, row.runtime)
            };
            let ratios: Vec<_> = rows.iter().filter(comparable).map(ratio).collect();
            let Row { row, stack, runtime, .. } = subject;
            let line = format!("{row}: {stack} ({runtime}) makes {}", ratios.join(", "));
            (!ratios.is_empty()).then_some(line)
        })
        .collect()
}

fn bytes(count: u64) -> String {
    match count {
        mib if mib >= 1 << 20 && mib % (1 << 20) == 0 => format!("{} MiB", mib >> 20),
        _ => format!("{count} B"),
    }
}

/// What every row has, of whichever table.
#[cfg(test)]
fn assert_agreed_keys(row: &serde_json::Value) {
    let agreed =
        ["peer", "runtime", "in_flight", "body_bytes", "calls_per_s", "p50_us", "p99_us", "max_us", "calls"];
    for key in agreed {
        assert!(row.get(key).is_some(), "{key} in {row}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases, peers};

    fn row(peer: &'static str, runtime: &str, calls_per_s: f64) -> Row {
        let case = Case::new(1 << 20, 32);
        Row {
            peer: peer.to_owned(),
            stack: peer,
            row: case.to_string(),
            runtime: runtime.to_owned(),
            encrypted: peer.contains("-curve"),
            in_flight: case.in_flight,
            body_bytes: case.body_bytes,
            connections: 1,
            keys: 0,
            calls_per_s,
            calls_per_s_range: (calls_per_s, calls_per_s),
            p50_us: 1.0,
            p99_us: 2.0,
            max_us: 3.0,
            calls: 100,
        }
    }

    #[test]
    fn a_row_takes_the_median_rate_and_all_latencies() {
        let case = Case::new(64, 1);
        let sample = |latency_ns: &[(u64, u64)]| Sample {
            seconds: 2.0,
            latency_ns: latency_ns.iter().copied().collect(),
        };
        let rounds = [sample(&[(1_000, 60)]), sample(&[(1_000, 20)]), sample(&[(1_000, 17), (9_000, 3)])];
        let row = Row::new(&peers::ALL[0], case, &rounds).unwrap();
        assert_eq!((row.calls_per_s, row.p50_us, row.p99_us), (10.0, 1.0, 9.0));
        assert_eq!(row.calls_per_s_range, (10.0, 30.0));
        assert_eq!((row.max_us, row.calls), (9.0, 100));
        assert!(Row::new(&peers::ALL[0], case, &[]).is_err());
    }

    #[test]
    fn median_of_even_and_odd_counts() {
        assert_eq!(median(&[1.0, 2.0, 3.0]), 2.0);
        assert_eq!(median(&[1.0, 4.0]), 2.5);
    }

    #[test]
    fn json_has_the_agreed_keys_and_says_which_row_it_is() {
        let json = serde_json::to_value(row("tarpc", "tokio", 10.0)).unwrap();
        assert_agreed_keys(&json);
        assert_eq!(json.as_object().unwrap().len(), 9 + 3);
        let sample = || Sample { seconds: 1.0, latency_ns: [(1, 1)].into() };
        let of = |name: &str| {
            let case = cases::ALL.iter().find(|case| case.to_string() == name).unwrap();
            serde_json::to_value(Row::new(&peers::ALL[0], *case, &[sample()]).unwrap()).unwrap()
        };
        let plain = of("64B x128");
        assert_eq!((&plain["peer"], &plain["row"]), (&"raw-tcp".into(), &"64B x128".into()));
        assert_eq!((&plain["connections"], &plain["keys"]), (&1.into(), &0.into()));
        let many = of("64B x128 c64");
        assert_eq!((&many["peer"], &many["connections"]), (&"raw-tcp-c64".into(), &64.into()));
        let keyed = of("64B x128 keys-serialized");
        assert_eq!((&keyed["peer"], &keyed["keys"]), (&"raw-tcp-keys-serialized".into(), &KEYS.into()));
    }

    #[test]
    fn compares_callosum_with_others_on_any_runtime_and_with_itself_on_its_own() {
        let others = [row("tarpc", "tokio", 10.0), row("callosum-dialect-1", "async-std", 5.0)];
        assert!(ratios(&others).is_empty());
        assert!(ratios(&[row("callosum", "tokio", 40.0), row("callosum", "async-std", 20.0)]).is_empty());
        let subjects = [
            row("callosum", "tokio", 40.0),
            row("callosum", "async-std", 20.0),
            row("callosum-dialect-1", "tokio", 10.0),
        ];
        let lines = [
            "1MiB x32: callosum (tokio) makes 4.00 × tarpc (tokio), 4.00 × callosum-dialect-1 (tokio)",
            "1MiB x32: callosum (async-std) makes 2.00 × tarpc (tokio), 4.00 × callosum-dialect-1 \
             (async-std)",
        ];
        assert_eq!(ratios(&[&others[..], &subjects].concat()), lines);
    }

    #[test]
    fn compares_what_encrypts_with_what_encrypts() {
        let rows = [
            row("tarpc", "tokio", 10.0),
            row("callosum", "tokio", 40.0),
            row("libzmq-curve", "C", 10.0),
            row("callosum-curve", "tokio", 20.0),
            row("callosum-curve-dialect-1", "tokio", 5.0),
        ];
        let lines = [
            "1MiB x32: callosum (tokio) makes 4.00 × tarpc (tokio)",
            "1MiB x32: callosum-curve (tokio) makes 2.00 × libzmq-curve (C), 4.00 × \
             callosum-curve-dialect-1 (tokio)",
        ];
        assert_eq!(ratios(&rows), lines);
    }

    #[test]
    fn the_table_names_each_peer() {
        let table = table(&[row("tarpc", "tokio", 10.0)]).to_string();
        assert!(table.contains("tarpc") && table.contains("1MiB x32"), "{table}");
    }
}
