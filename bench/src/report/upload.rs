//! Rows of uploads, and of calls beside them.

use anyhow::{Context as _, Result};
use comfy_table::Table;
use serde::Serialize;

use super::{align, bytes, median, new_table, quantiles_us, round};
use crate::{
    load::Sample,
    peers::Peer,
    upload::{Beside, Length, Upload},
};

/// What a peer's small calls showed alone and beside an upload, one at a time.
///
/// Each quantile is the median of the rounds' own: a round in which the machine was busy with something else counts as one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BesideRow {
    /// The name of the stack, and that this is a row of this kind.
    pub peer: String,
    /// The runtime of both ends.
    pub runtime: String,
    /// Calls in flight, besides the upload.
    pub in_flight: usize,
    /// Length of a call's body, in bytes, each way.
    pub body_bytes: usize,
    /// Bytes of the upload.
    pub upload_bytes: u64,
    /// Calls beside the upload.
    pub calls_per_s: f64,
    /// Half of the calls beside the upload took at most as many microseconds.
    pub p50_us: f64,
    /// 99 of 100 of them took at most as many.
    pub p99_us: f64,
    /// The same before the upload.
    pub alone_p50_us: f64,
    /// The same before the upload.
    pub alone_p99_us: f64,
    /// How many times the p99 before the upload that beside it is.
    pub p99_ratio: f64,
    /// What the upload made beside the calls.
    pub upload_mib_per_s: f64,
}

impl BesideRow {
    /// Sums up the rounds.
    ///
    /// # Errors
    /// There is none, or a call took longer than two minutes.
    pub fn new(peer: &Peer, body_bytes: usize, length: Length, rounds: &[Beside]) -> Result<Self> {
        let of_rounds = |sample: fn(&Beside) -> &Sample| -> Result<(f64, f64)> {
            let quantiles = rounds.iter().map(|round| quantiles_us([sample(round)]));
            let (p50, p99): (Vec<_>, Vec<_>) = quantiles.collect::<Result<Vec<_>>>()?.into_iter().unzip();
            Ok((middle(p50)?, middle(p99)?))
        };
        let (alone_p50_us, alone_p99_us) = of_rounds(|round| &round.alone)?;
        let (p50_us, p99_us) = of_rounds(|round| &round.beside)?;
        let rate = |round: &Beside| mib_per_s(length, round.upload_seconds);
        Ok(Self {
            peer: format!("{}-beside-upload", peer.name),
            runtime: peer.runtime.to_owned(),
            in_flight: 1,
            body_bytes,
            upload_bytes: length.upload_bytes,
            calls_per_s: middle(rounds.iter().map(|round| round.beside.calls_per_s()).collect())?,
            p50_us,
            p99_us,
            alone_p50_us,
            alone_p99_us,
            p99_ratio: (p99_us / alone_p99_us * 100.0).round() / 100.0,
            upload_mib_per_s: middle(rounds.iter().map(rate).collect())?,
        })
    }
}

/// What a peer's uploads showed: each is a call with a long argument, one at a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UploadRow {
    /// The name of the stack, and that this is a row of this kind.
    pub peer: String,
    /// The runtime of both ends.
    pub runtime: String,
    /// Whether it encrypts; not part of the JSON, where the name says so.
    #[serde(skip)]
    pub encrypted: bool,
    /// Uploads in flight.
    pub in_flight: usize,
    /// Bytes of an upload.
    pub body_bytes: u64,
    /// The median of the rounds, as are those that follow.
    pub calls_per_s: f64,
    /// Microseconds of an upload.
    pub p50_us: f64,
    /// Microseconds of the slowest.
    pub p99_us: f64,
    /// What that makes.
    pub mib_per_s: f64,
    /// The slowest and the fastest round; not part of the JSON.
    #[serde(skip)]
    pub mib_per_s_range: (f64, f64),
    /// Most memory that any client had, in KiB.
    pub client_peak_kib: u64,
    /// Most memory that any server had, in KiB.
    pub server_peak_kib: u64,
}

impl UploadRow {
    /// Sums up the rounds: what the client measured, and the server's memory in KiB.
    ///
    /// # Errors
    /// There is none.
    pub fn new(peer: &Peer, length: Length, rounds: &[(Upload, u64)]) -> Result<Self> {
        let seconds: Vec<_> = rounds.iter().map(|(upload, _)| upload.seconds).collect();
        let longest = seconds.iter().copied().fold(0.0, f64::max);
        let shortest = seconds.iter().copied().fold(longest, f64::min);
        let median = sorted_median(seconds)?;
        let client = rounds.iter().map(|(upload, _)| upload.client_peak_kib).max();
        let server = rounds.iter().map(|(_, peak)| *peak).max();
        Ok(Self {
            peer: format!("{}-upload", peer.name),
            runtime: peer.runtime.to_owned(),
            encrypted: peer.encrypted,
            in_flight: 1,
            body_bytes: length.upload_bytes,
            calls_per_s: (1e4 / median).round() / 1e4,
            p50_us: round(median * 1e6),
            p99_us: round(longest * 1e6),
            mib_per_s: mib_per_s(length, median),
            mib_per_s_range: (mib_per_s(length, longest), mib_per_s(length, shortest)),
            client_peak_kib: client.context("no round")?,
            server_peak_kib: server.context("no round")?,
        })
    }
}

fn sorted_median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.first().context("no round")?;
    Ok(median(&values))
}

fn middle(values: Vec<f64>) -> Result<f64> {
    Ok(round(sorted_median(values)?))
}

fn mib_per_s(Length { upload_bytes }: Length, seconds: f64) -> f64 {
    round(upload_bytes as f64 / f64::from(1 << 20) / seconds)
}

/// Calls beside an upload, for people.
pub fn beside_table(rows: &[BesideRow]) -> Table {
    let mut table = new_table([
        "peer",
        "runtime",
        "body",
        "upload",
        "p50 µs alone",
        "beside",
        "p99 µs alone",
        "beside",
        "p99 ratio",
        "calls/s",
        "upload MiB/s",
    ]);
    for row in rows {
        table.add_row([
            row.peer.clone(),
            row.runtime.clone(),
            bytes(row.body_bytes as u64),
            bytes(row.upload_bytes),
            format!("{:.1}", row.alone_p50_us),
            format!("{:.1}", row.p50_us),
            format!("{:.1}", row.alone_p99_us),
            format!("{:.1}", row.p99_us),
            format!("{:.2}", row.p99_ratio),
            format!("{:.0}", row.calls_per_s),
            format!("{:.0}", row.upload_mib_per_s),
        ]);
    }
    align(&mut table, 2..=10);
    table
}

/// Uploads, for people.
pub fn upload_table(rows: &[UploadRow]) -> Table {
    let mut table = new_table([
        "upload",
        "peer",
        "runtime",
        "MiB/s",
        "slowest … fastest",
        "client's peak MiB",
        "server's peak MiB",
    ]);
    for row in rows {
        table.add_row([
            bytes(row.body_bytes),
            row.peer.clone(),
            row.runtime.clone(),
            format!("{:.0}", row.mib_per_s),
            format!("{:.0} … {:.0}", row.mib_per_s_range.0, row.mib_per_s_range.1),
            format!("{:.1}", row.client_peak_kib as f64 / 1024.0),
            format!("{:.1}", row.server_peak_kib as f64 / 1024.0),
        ]);
    }
    align(&mut table, (0..=0).chain(3..=6));
    table
}

/// What part of a plain copy on the same runtime each upload that does not encrypt makes.
pub fn upload_ratios(rows: &[UploadRow]) -> Vec<String> {
    let is_copy = |row: &&UploadRow| row.peer == "raw-tcp-copy-upload";
    let others = rows.iter().filter(|row| !is_copy(row) && !row.encrypted);
    others
        .filter_map(|row| {
            let alike = |copy: &&UploadRow| copy.runtime == row.runtime && copy.body_bytes == row.body_bytes;
            let copy = rows.iter().filter(is_copy).find(alike)?;
            let ratio = row.mib_per_s / copy.mib_per_s;
            let (size, peer, runtime) = (bytes(row.body_bytes), &row.peer, &row.runtime);
            Some(format!("{size}: {peer} ({runtime}) makes {ratio:.2} × {}", copy.peer))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Peer;

    const LENGTH: Length = Length { upload_bytes: 1 << 30 };

    fn peer(id: &str) -> Peer {
        Peer::find(id).unwrap()
    }

    fn row(id: &str, seconds: &[f64]) -> UploadRow {
        let round = |(n, seconds): (usize, &f64)| {
            (Upload { seconds: *seconds, client_peak_kib: 10 + n as u64 }, 20 - n as u64)
        };
        let rounds: Vec<_> = seconds.iter().enumerate().map(round).collect();
        UploadRow::new(&peer(id), LENGTH, &rounds).unwrap()
    }

    #[test]
    fn an_upload_takes_the_median_time_and_the_most_memory() {
        let row = row("callosum/tokio", &[1.0, 4.0, 2.0]);
        assert_eq!((row.mib_per_s, row.mib_per_s_range), (512.0, (256.0, 1024.0)));
        assert_eq!((row.client_peak_kib, row.server_peak_kib), (12, 20));
        assert_eq!((row.calls_per_s, row.p50_us, row.p99_us), (0.5, 2e6, 4e6));
        assert!(UploadRow::new(&peer("callosum/tokio"), LENGTH, &[]).is_err());
    }

    #[test]
    fn uploads_are_compared_with_the_copy_on_their_runtime() {
        let rows = [
            row("raw-tcp-copy/tokio", &[1.0]),
            row("raw-tcp-copy/async-std", &[2.0]),
            row("callosum/tokio", &[2.0]),
            row("callosum/async-std", &[2.0]),
            row("callosum-curve/tokio", &[2.0]),
        ];
        let expected = [
            "1024 MiB: callosum-upload (tokio) makes 0.50 × raw-tcp-copy-upload",
            "1024 MiB: callosum-upload (async-std) makes 1.00 × raw-tcp-copy-upload",
        ];
        assert_eq!(upload_ratios(&rows), expected);
        assert!(upload_ratios(&rows[2..]).is_empty());
    }

    #[test]
    fn a_row_beside_an_upload_takes_the_medians_of_the_rounds() {
        let sample = |ns: u64| Sample { seconds: 1.0, latency_ns: [(ns, 100)].into() };
        let round =
            |alone, beside| Beside { alone: sample(alone), beside: sample(beside), upload_seconds: 2.0 };
        let rounds = [round(1_000, 4_000), round(90_000, 8_000), round(2_000, 2_000_000)];
        let row = BesideRow::new(&peer("tonic/tokio"), 64, LENGTH, &rounds).unwrap();
        assert_eq!((row.alone_p99_us, row.p99_us, row.p99_ratio), (2.0, 8.0, 4.0));
        assert_eq!((row.calls_per_s, row.upload_mib_per_s), (100.0, 512.0));
        assert!(BesideRow::new(&peer("tonic/tokio"), 64, LENGTH, &[]).is_err());
    }

    #[test]
    fn all_rows_have_the_agreed_keys() {
        let sample = || Sample { seconds: 1.0, latency_ns: [(1, 1)].into() };
        let round = Beside { alone: sample(), beside: sample(), upload_seconds: 2.0 };
        let beside = BesideRow::new(&peer("tonic/tokio"), 64, LENGTH, &[round]).unwrap();
        let upload = row("tonic/tokio", &[1.0]);
        for json in [serde_json::to_value(beside).unwrap(), serde_json::to_value(upload).unwrap()] {
            for key in ["peer", "runtime", "in_flight", "body_bytes", "calls_per_s", "p50_us", "p99_us"] {
                assert!(json.get(key).is_some(), "{key} in {json}");
            }
        }
    }
}
