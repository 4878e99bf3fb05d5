//! Rows of tunnels, and how they stand to their marks.

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;

use super::{align, max_us, median, new_table, quantiles_us, round, sorted, verdict};
use crate::{
    load::Sample,
    peers::Peer,
    tunnels::{ECHO_BYTES, Shown, Tunnels},
};

/// What connections through a tunnel showed. Rates and ratios are medians of the rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TunnelRow {
    /// What carries the connections.
    pub peer: String,
    /// The runtime of both ends.
    pub runtime: String,
    /// Whether it encrypts.
    pub encrypted: bool,
    /// Echoes at a time.
    pub in_flight: usize,
    /// Length of an echo, in bytes, each way.
    pub body_bytes: usize,
    /// MiB/s to the target on one connection.
    pub up_1_mib_per_s: f64,
    /// MiB/s to the target on 16 connections together.
    pub up_16_mib_per_s: f64,
    /// MiB/s from the target on one connection.
    pub down_1_mib_per_s: f64,
    /// MiB/s from the target on 16 connections together.
    pub down_16_mib_per_s: f64,
    /// Seconds of CPU time that both ends took for each GiB of these four.
    pub up_1_cpu_s_per_gib: f64,
    /// The same on 16 connections.
    pub up_16_cpu_s_per_gib: f64,
    /// The same from the target, on one connection.
    pub down_1_cpu_s_per_gib: f64,
    /// The same from the target, on 16 connections.
    pub down_16_cpu_s_per_gib: f64,
    /// Connections a second that are opened, carry a byte each way, and end.
    pub connections_per_s: f64,
    /// Connections whose memory was looked at.
    pub idle_connections: usize,
    /// Anonymous memory of both ends for each of them, in KiB.
    pub idle_kib: f64,
    /// 99 of 100 echoes took at most as many microseconds beside a connection that is not read and one that uploads.
    pub beside_p99_us: f64,
    /// How many times as much as alone.
    pub beside_p99_ratio: f64,
    /// Echoes a second on a connection that is alone.
    pub calls_per_s: f64,
    /// Half of the echoes took at most as many microseconds.
    pub p50_us: f64,
    /// 99 of 100 echoes took at most as many microseconds.
    pub p99_us: f64,
    /// All echoes took at most as many microseconds.
    pub max_us: f64,
    /// Echoes that counted, in all rounds.
    pub calls: u64,
}

impl TunnelRow {
    /// Sums up the rounds.
    ///
    /// # Errors
    /// There is none, or an echo took longer than two minutes.
    pub fn new(peer: &Peer, tunnels: Tunnels, rounds: &[Shown]) -> Result<Self> {
        let of = |value: fn(&Shown) -> f64| {
            Ok::<_, anyhow::Error>(median(&sorted(rounds.iter().map(value).collect())?))
        };
        let alone = || rounds.iter().map(|round| &round.alone);
        let (p50_us, p99_us) = quantiles_us(alone())?;
        let (_, beside_p99_us) = quantiles_us(rounds.iter().map(|round| &round.beside))?;
        let mut ratios = Vec::new();
        for round in rounds {
            ratios.push(quantiles_us([&round.beside])?.1 / quantiles_us([&round.alone])?.1);
        }
        Ok(Self {
            peer: peer.name.to_owned(),
            runtime: peer.runtime.to_owned(),
            encrypted: peer.encrypted,
            in_flight: 1,
            body_bytes: ECHO_BYTES,
            up_1_mib_per_s: round(of(|round| round.carried[0].mib_per_s)?),
            up_16_mib_per_s: round(of(|round| round.carried[1].mib_per_s)?),
            down_1_mib_per_s: round(of(|round| round.carried[2].mib_per_s)?),
            down_16_mib_per_s: round(of(|round| round.carried[3].mib_per_s)?),
            up_1_cpu_s_per_gib: of(|round| round.carried[0].cpu_s_per_gib)?,
            up_16_cpu_s_per_gib: of(|round| round.carried[1].cpu_s_per_gib)?,
            down_1_cpu_s_per_gib: of(|round| round.carried[2].cpu_s_per_gib)?,
            down_16_cpu_s_per_gib: of(|round| round.carried[3].cpu_s_per_gib)?,
            connections_per_s: round(of(|round| round.opened.calls_per_s())?),
            idle_connections: tunnels.idle,
            idle_kib: round(of(|round| round.idle_kib)?),
            beside_p99_us,
            beside_p99_ratio: median(&sorted(ratios)?),
            calls_per_s: round(of(|round| round.alone.calls_per_s())?),
            p50_us,
            p99_us,
            max_us: max_us(alone()),
            calls: alone().map(Sample::calls).sum(),
        })
    }

    /// By the names that marks have for them.
    fn throughputs(&self) -> [(&'static str, f64); 4] {
        [
            ("1 connection up", self.up_1_mib_per_s),
            ("16 connections up", self.up_16_mib_per_s),
            ("1 connection down", self.down_1_mib_per_s),
            ("16 connections down", self.down_16_mib_per_s),
        ]
    }
}

/// Tunnels, for people.
pub fn tunnel_table(rows: &[TunnelRow]) -> Table {
    let mut table = new_table([
        "tunnel",
        "runtime",
        "MiB/s up",
        "up x16",
        "down",
        "down x16",
        "CPU s/GiB up",
        "up x16",
        "down",
        "down x16",
        "p50 µs",
        "p99 µs",
        "connections/s",
        "KiB each",
        "p99 µs beside",
        "× alone",
    ]);
    for row in rows {
        let throughputs = row.throughputs().map(|(_, rate)| format!("{rate:.0}"));
        let names = [row.peer.clone(), row.runtime.clone()];
        let costs = [
            row.up_1_cpu_s_per_gib,
            row.up_16_cpu_s_per_gib,
            row.down_1_cpu_s_per_gib,
            row.down_16_cpu_s_per_gib,
        ];
        let costs = costs.map(|seconds| format!("{seconds:.2}"));
        let others = [
            format!("{:.1}", row.p50_us),
            format!("{:.1}", row.p99_us),
            format!("{:.0}", row.connections_per_s),
            format!("{:.1}", row.idle_kib),
            format!("{:.1}", row.beside_p99_us),
            format!("{:.2}", row.beside_p99_ratio),
        ];
        table.add_row(names.into_iter().chain(throughputs).chain(costs).chain(others));
    }
    align(&mut table, 2..=15);
    table
}

/// The tunnel, what it is compared with, and the least ratio of the throughputs.
const MARKS: &[(&str, &str, f64)] = &[
    ("callosum-tunnel", "tcp-relay", 0.9),
    ("callosum-tunnel-curve", "ssh", 1.5),
    ("callosum-tunnel-curve", "rathole-noise", 1.0),
];

/// The most that the p99 of an echo may be, beside a connection that is not read and one that uploads, in terms of that alone.
const BESIDE: f64 = 3.0;

/// How tunnels stand to the marks: a line for each throughput of each mark whose rows there are, and one for each of Callosum's rows.
pub fn tunnel_marks(rows: &[TunnelRow]) -> Vec<String> {
    let find = |name: &str| rows.iter().find(|row| row.peer == name);
    let mut lines = Vec::new();
    for (name, other, least) in MARKS {
        let (Some(subject), Some(compared)) = (find(name), find(other)) else { continue };
        for ((what, rate), (_, other_rate)) in subject.throughputs().into_iter().zip(compared.throughputs()) {
            // Rounded down, so that the figure and the verdict agree.
            let ratio = (rate / other_rate * 100.0).floor() / 100.0;
            let verdict = verdict(ratio >= *least);
            lines.push(format!("{what}: {name} has {ratio:.2} × {other}, mark {least}: {verdict}"));
        }
    }
    for row in rows.iter().filter(|row| row.peer.starts_with("callosum")) {
        // Rounded up, likewise.
        let ratio = (row.beside_p99_ratio * 100.0).ceil() / 100.0;
        let verdict = verdict(ratio <= BESIDE);
        lines.push(format!(
            "an echo beside a stalled connection and an upload: {} has a p99 of {ratio:.2} × alone, mark {BESIDE}: {verdict}",
            row.peer
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::tunnels::Carried;

    const TUNNELS: Tunnels = Tunnels { idle: 10, rounds: 1 };

    /// A round whose echoes take a millisecond alone, and `beside` milliseconds beside the others.
    fn shown(mib_per_s: [f64; 4], beside: u64) -> Shown {
        let sample = |ms: u64| Sample { seconds: 0.5, latency_ns: [(ms * 1_000_000, 100)].into() };
        let carried = mib_per_s.map(|mib_per_s| Carried { mib_per_s, cpu_s_per_gib: 1000.0 / mib_per_s });
        Shown { idle_kib: 20.0, opened: sample(2), alone: sample(1), beside: sample(beside), carried }
    }

    fn row(id: &str, rounds: &[Shown]) -> TunnelRow {
        TunnelRow::new(&Peer::find(id).unwrap(), TUNNELS, rounds).unwrap()
    }

    #[test]
    fn a_row_takes_the_medians_and_has_the_agreed_keys() {
        let rounds = [shown([1.0, 10.0, 2.0, 20.0], 1), shown([3.0, 30.0, 4.0, 40.0], 2), shown([5.0; 4], 9)];
        let row = row("callosum-tunnel/tokio", &rounds);
        assert_eq!(row.throughputs().map(|(_, rate)| rate), [3.0, 10.0, 4.0, 20.0]);
        assert_eq!((row.calls, row.calls_per_s, row.connections_per_s), (300, 200.0, 200.0));
        assert_eq!((row.p50_us, row.p99_us, row.beside_p99_us), (1000.0, 1000.0, 9000.0));
        assert_eq!(row.beside_p99_ratio, 2.0);
        assert_eq!((row.up_16_cpu_s_per_gib, row.down_1_cpu_s_per_gib), (100.0, 250.0));
        assert!(TunnelRow::new(&Peer::find("ssh/C").unwrap(), TUNNELS, &[]).is_err());
        let table = tunnel_table(std::slice::from_ref(&row)).to_string();
        assert!(table.contains("callosum-tunnel") && table.contains("9000.0"), "{table}");
        super::super::assert_agreed_keys(&serde_json::to_value(row).unwrap());
    }

    #[test]
    fn marks_compare_what_was_measured() {
        let rows = [
            row("tcp-relay/tokio", &[shown([1000.0; 4], 1)]),
            row("ssh/C", &[shown([200.0; 4], 50)]),
            row("callosum-tunnel/tokio", &[shown([900.0, 899.0, 1000.0, 2000.0], 3)]),
            row("callosum-tunnel-curve/tokio", &[shown([300.0, 299.0, 400.0, 600.0], 4)]),
        ];
        let expected = [
            "1 connection up: callosum-tunnel has 0.90 × tcp-relay, mark 0.9: met",
            "16 connections up: callosum-tunnel has 0.89 × tcp-relay, mark 0.9: missed",
            "1 connection down: callosum-tunnel has 1.00 × tcp-relay, mark 0.9: met",
            "16 connections down: callosum-tunnel has 2.00 × tcp-relay, mark 0.9: met",
            "1 connection up: callosum-tunnel-curve has 1.50 × ssh, mark 1.5: met",
            "16 connections up: callosum-tunnel-curve has 1.49 × ssh, mark 1.5: missed",
            "1 connection down: callosum-tunnel-curve has 2.00 × ssh, mark 1.5: met",
            "16 connections down: callosum-tunnel-curve has 3.00 × ssh, mark 1.5: met",
            "an echo beside a stalled connection and an upload: callosum-tunnel has a p99 of 3.00 × alone, mark 3: met",
            "an echo beside a stalled connection and an upload: callosum-tunnel-curve has a p99 of 4.00 × alone, mark 3: missed",
        ];
        assert_eq!(tunnel_marks(&rows), expected);
        assert!(MARKS.iter().all(|(name, other, _)| {
            [name, other].iter().all(|name| crate::peers::ALL.iter().any(|peer| peer.name == **name))
        }));
    }
}
