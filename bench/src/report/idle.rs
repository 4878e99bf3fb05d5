//! Rows of idle connections.

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;

use super::{align, max_us, median, new_table, quantiles_us, round, sorted};
use crate::{
    hold::BODY_BYTES,
    idle::{CALLS, Idle, Round},
    load::Sample,
    peers::Peer,
};

/// What connections cost a peer's server that do nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdleRow {
    /// The name of the stack, and that this is a row of this kind.
    pub peer: String,
    /// The runtime of both ends.
    pub runtime: String,
    /// Connections that made no calls.
    pub connections: usize,
    /// The server's anonymous memory for each, in KiB: the median of the rounds.
    pub kib_per_connection: f64,
    /// The least and the most of the rounds.
    pub kib_per_connection_range: (f64, f64),
    /// The server's CPU time for each connection that it accepted, in microseconds: the median of the rounds.
    pub handshake_cpu_us: f64,
    /// The least and the most of the rounds.
    pub handshake_cpu_us_range: (f64, f64),
    /// Connections that made calls and then none.
    pub used_connections: usize,
    /// How long then.
    pub idle_s: u64,
    /// As `kib_per_connection`, of these.
    pub used_kib_per_connection: f64,
    /// The least and the most of the rounds.
    pub used_kib_per_connection_range: (f64, f64),
    /// Calls in flight before these were idle.
    pub in_flight: usize,
    /// Length of the bodies of those calls.
    pub body_bytes: usize,
    /// Those calls a second: the median of the rounds.
    pub calls_per_s: f64,
    /// Half of those calls took at most as many microseconds.
    pub p50_us: f64,
    /// 99 of 100 of those calls took at most as many.
    pub p99_us: f64,
    /// All of those calls took at most as many.
    pub max_us: f64,
    /// Those calls, in all rounds.
    pub calls: u64,
}

/// The median of some values, the least and the most.
fn spread(values: impl Iterator<Item = f64>) -> Result<(f64, (f64, f64))> {
    let values = sorted(values.map(round).collect())?;
    Ok((round(median(&values)), (values[0], values[values.len() - 1])))
}

impl IdleRow {
    /// Sums up the rounds.
    ///
    /// # Errors
    /// There is none, or a call took longer than two minutes.
    pub fn new(peer: &Peer, idle: Idle, rounds: &[Round]) -> Result<Self> {
        let (kib_per_connection, kib_per_connection_range) = spread(rounds.iter().map(|round| round.kib))?;
        let (handshake_cpu_us, handshake_cpu_us_range) =
            spread(rounds.iter().map(|round| round.handshake_us))?;
        let (used_kib_per_connection, used_kib_per_connection_range) =
            spread(rounds.iter().map(|round| round.used_kib))?;
        let calls = || rounds.iter().map(|round| &round.calls);
        let (calls_per_s, _) = spread(calls().map(Sample::calls_per_s))?;
        let (p50_us, p99_us) = quantiles_us(calls())?;
        Ok(Self {
            peer: format!("{}-idle", peer.name),
            runtime: peer.runtime.to_owned(),
            connections: idle.connections,
            kib_per_connection,
            kib_per_connection_range,
            handshake_cpu_us,
            handshake_cpu_us_range,
            used_connections: idle.used_connections,
            idle_s: idle.idle.as_secs(),
            used_kib_per_connection,
            used_kib_per_connection_range,
            in_flight: idle.used_connections,
            body_bytes: BODY_BYTES,
            calls_per_s,
            p50_us,
            p99_us,
            max_us: max_us(calls()),
            calls: calls().map(Sample::calls).sum(),
        })
    }
}

/// Idle connections, for people.
pub fn idle_table(rows: &[IdleRow]) -> Table {
    let used = format!("KiB each after {CALLS} calls of {} KiB", BODY_BYTES >> 10);
    let mut table = new_table([
        "peer",
        "runtime",
        "connections",
        "KiB each",
        "least … most",
        "handshake µs of CPU",
        "least … most",
        "connections used",
        &used,
        "least … most",
        "idle s",
    ]);
    let range = |(least, most): (f64, f64)| format!("{least:.1} … {most:.1}");
    for row in rows {
        table.add_row([
            row.peer.clone(),
            row.runtime.clone(),
            row.connections.to_string(),
            format!("{:.1}", row.kib_per_connection),
            range(row.kib_per_connection_range),
            format!("{:.1}", row.handshake_cpu_us),
            range(row.handshake_cpu_us_range),
            row.used_connections.to_string(),
            format!("{:.1}", row.used_kib_per_connection),
            range(row.used_kib_per_connection_range),
            row.idle_s.to_string(),
        ]);
    }
    align(&mut table, 2..=10);
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_row_takes_the_medians_and_has_the_agreed_keys() {
        let idle = Idle { connections: 100, used_connections: 2, idle: Duration::from_secs(7), rounds: 3 };
        let round = |kib, handshake_us, used_kib| {
            let calls = Sample { seconds: 0.5, latency_ns: [(2_000, 6)].into() };
            Round { kib, handshake_us, used_kib, calls }
        };
        let rounds = [round(10.0, 300.0, 50.0), round(30.0, 100.0, 70.0), round(20.0, 200.0, 60.0)];
        let peer = Peer::find("callosum/tokio").unwrap();
        let row = IdleRow::new(&peer, idle, &rounds).unwrap();
        assert_eq!((row.kib_per_connection, row.kib_per_connection_range), (20.0, (10.0, 30.0)));
        assert_eq!((row.handshake_cpu_us, row.handshake_cpu_us_range), (200.0, (100.0, 300.0)));
        assert_eq!((row.used_kib_per_connection, row.used_kib_per_connection_range), (60.0, (50.0, 70.0)));
        assert_eq!((row.calls, row.calls_per_s, row.p50_us, row.idle_s), (18, 12.0, 2.0, 7));
        assert!(IdleRow::new(&peer, idle, &[]).is_err());
        let table = idle_table(std::slice::from_ref(&row)).to_string();
        assert!(table.contains("callosum-idle") && table.contains("256 KiB"), "{table}");
        super::super::assert_agreed_keys(&serde_json::to_value(row).unwrap());
    }
}
