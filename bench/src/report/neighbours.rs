//! Rows of calls beside what other peers do, and how they stand to their marks.

use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;

use super::{align, max_us, median, new_table, quantiles_us, round, sorted, verdict};
use crate::{
    load::Sample,
    neighbours::{BODY_BYTES, Host, IN_FLIGHT, Shown, Trouble},
};

/// What the calls of one peer showed while others made trouble.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NeighbourRow {
    /// The name of the stack and the trouble.
    pub peer: String,
    /// The runtime of all of them.
    pub runtime: String,
    /// Calls at a time, where their rate counts.
    pub in_flight: usize,
    /// Length of a call's body, in bytes, each way.
    pub body_bytes: usize,
    /// The median of the rounds.
    pub calls_per_s: f64,
    /// Half of the calls on schedule took at most as many microseconds.
    pub p50_us: f64,
    /// 99 of 100 of them took at most as many.
    pub p99_us: f64,
    /// All of them took at most as many.
    pub max_us: f64,
    /// Calls on schedule, in all rounds.
    pub calls: u64,
    /// As `calls_per_s`, without trouble.
    pub alone_calls_per_s: f64,
    /// As `p99_us`, without trouble.
    pub alone_p99_us: f64,
    /// As `max_us`, without trouble.
    pub alone_max_us: f64,
    /// How many times the rate alone that beside it is: the median of the rounds.
    pub rate_ratio: f64,
    /// How many times the p99 alone that beside it is: the median of the rounds.
    pub p99_ratio: f64,
    /// Whose calls; not part of the JSON.
    #[serde(skip)]
    pub host: Host,
    /// Which trouble; not part of the JSON.
    #[serde(skip)]
    pub trouble: Trouble,
}

impl NeighbourRow {
    /// Sums up the rounds.
    ///
    /// # Errors
    /// There is none, or a call took longer than two minutes.
    pub fn new(host: Host, trouble: Trouble, rounds: &[Shown]) -> Result<Self> {
        let middle = |values: Vec<f64>| Ok::<_, anyhow::Error>(median(&sorted(values)?));
        let rates = |rate: fn(&Shown) -> f64| middle(rounds.iter().map(rate).collect());
        let (alone, beside) = (
            || rounds.iter().map(|round| &round.alone.paced),
            || rounds.iter().map(|round| &round.beside.paced),
        );
        let (p50_us, p99_us) = quantiles_us(beside())?;
        let mut ratios = Vec::new();
        for (alone, beside) in alone().zip(beside()) {
            ratios.push(quantiles_us([beside])?.1 / quantiles_us([alone])?.1);
        }
        Ok(Self {
            peer: format!("{}-beside-{}", host.name(), trouble.name()),
            runtime: "tokio".to_owned(),
            in_flight: IN_FLIGHT,
            body_bytes: BODY_BYTES,
            calls_per_s: round(rates(|round| round.beside.rate.calls_per_s())?),
            p50_us,
            p99_us,
            max_us: max_us(beside()),
            calls: beside().map(Sample::calls).sum(),
            alone_calls_per_s: round(rates(|round| round.alone.rate.calls_per_s())?),
            alone_p99_us: quantiles_us(alone())?.1,
            alone_max_us: max_us(alone()),
            rate_ratio: rates(|round| round.beside.rate.calls_per_s() / round.alone.rate.calls_per_s())?,
            p99_ratio: middle(ratios)?,
            host,
            trouble,
        })
    }
}

/// Calls beside trouble, for people.
pub fn neighbour_table(rows: &[NeighbourRow]) -> Table {
    let mut table = new_table([
        "calls",
        "runtime",
        "calls/s alone",
        "beside",
        "× alone",
        "p99 µs alone",
        "beside",
        "× alone",
        "max µs alone",
        "beside",
    ]);
    for row in rows {
        table.add_row([
            row.peer.clone(),
            row.runtime.clone(),
            format!("{:.0}", row.alone_calls_per_s),
            format!("{:.0}", row.calls_per_s),
            format!("{:.2}", row.rate_ratio),
            format!("{:.1}", row.alone_p99_us),
            format!("{:.1}", row.p99_us),
            format!("{:.2}", row.p99_ratio),
            format!("{:.1}", row.alone_max_us),
            format!("{:.1}", row.max_us),
        ]);
    }
    align(&mut table, 2..=9);
    table
}

/// The least of the rate alone that is left beside a stuck key.
const RATE: f64 = 0.8;

/// The most that the p99 beside bodies that are not complete may be, in terms of that alone.
const P99: f64 = 2.0;

/// The longest that a call may take, in milliseconds, while thousands of connections end.
const LONGEST_MS: f64 = 20.0;

/// How the rows stand to the marks, a line for each.
pub fn neighbour_marks(rows: &[NeighbourRow]) -> Vec<String> {
    let mark = |row: &NeighbourRow| {
        let NeighbourRow { peer, rate_ratio, p99_ratio, max_us, .. } = row;
        match row.trouble {
            Trouble::StuckKey => {
                let kept = verdict(*rate_ratio >= RATE);
                format!("{peer}: {rate_ratio:.2} × the rate alone, mark {RATE}: {kept}")
            }
            Trouble::UnfinishedBodies | Trouble::Vanished => {
                let kept = verdict(*p99_ratio <= P99);
                format!("{peer}: a p99 of {p99_ratio:.2} × alone, mark {P99}: {kept}")
            }
            Trouble::Leaving => {
                let longest = max_us / 1e3;
                let mark = match row.host {
                    Host::Callosum => format!("mark {LONGEST_MS}: {}", verdict(longest <= LONGEST_MS)),
                    Host::RawTcp => "no mark".to_owned(),
                };
                format!("{peer}: no call took longer than {longest:.1} ms, {mark}")
            }
        }
    };
    rows.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{neighbours::Calls, report::assert_agreed_keys};

    fn calls(nanos: u64, count: u64) -> Calls {
        let sample = || Sample { seconds: 0.5, latency_ns: [(nanos, count)].into() };
        Calls { paced: sample(), rate: sample() }
    }

    fn row(trouble: Trouble, alone: Calls, beside: Calls) -> NeighbourRow {
        NeighbourRow::new(Host::Callosum, trouble, &[Shown { alone, beside }]).unwrap()
    }

    #[test]
    fn each_trouble_has_its_mark() {
        let rows = |nanos, count| {
            let of = |trouble: &Trouble| row(*trouble, calls(1_000_000, 100), calls(nanos, count));
            let rows: Vec<_> =
                [Trouble::StuckKey, Trouble::UnfinishedBodies, Trouble::Vanished, Trouble::Leaving]
                    .iter()
                    .map(of)
                    .collect();
            neighbour_marks(&rows)
        };
        let met = rows(2_000_000, 80);
        assert_eq!(met[0], "callosum-beside-stuck-key: 0.80 × the rate alone, mark 0.8: met");
        assert_eq!(met[1], "callosum-beside-unfinished-bodies: a p99 of 2.00 × alone, mark 2: met");
        assert_eq!(met[3], "callosum-beside-leaving: no call took longer than 2.0 ms, mark 20: met");
        let missed = rows(20_100_000, 79);
        assert!(missed.len() == 4 && missed.iter().all(|line| line.ends_with("missed")), "{missed:?}");
    }

    #[test]
    fn plain_tcp_has_no_mark() {
        let shown = [Shown { alone: calls(1_000_000, 100), beside: calls(20_100_000, 79) }];
        let plain = NeighbourRow::new(Host::RawTcp, Trouble::Leaving, &shown).unwrap();
        let expected = ["raw-tcp-beside-leaving: no call took longer than 20.1 ms, no mark"];
        assert_eq!(neighbour_marks(&[plain]), expected);
    }

    #[test]
    fn a_row_says_what_it_is_compared_with() {
        let row = row(Trouble::Vanished, calls(1_000, 100), calls(3_000, 50));
        assert_eq!((row.calls_per_s, row.alone_calls_per_s, row.calls), (100.0, 200.0, 50));
        assert_eq!((row.p99_us, row.alone_p99_us, row.rate_ratio), (3.0, 1.0, 0.5));
        let json = serde_json::to_value(&row).unwrap();
        assert_agreed_keys(&json);
        assert!(json.get("trouble").is_none() && json.get("host").is_none());
    }
}
