//! Rows of uploads, and of calls beside them.

use anyhow::{Context as _, Result};
use comfy_table::Table;
use serde::Serialize;

use super::{align, bytes, max_us, median, new_table, quantiles_us, round, sorted, verdict};
use crate::{
    load::Sample,
    peers::Peer,
    upload::{Beside, Length, Upload},
};

/// What a peer's small calls showed alone and beside an upload, 1,000 of them a second.
///
/// Each quantile is the median of the rounds' own: a round in which the machine was busy with something else counts as one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BesideRow {
    /// The name of the stack, and that this is a row of this kind.
    pub peer: String,
    /// The runtime of both ends.
    pub runtime: String,
    /// Worker threads of the runtime, on each side.
    pub workers: usize,
    /// Calls that are due at a time, besides the upload.
    pub in_flight: usize,
    /// Length of a call's body, in bytes, each way.
    pub body_bytes: usize,
    /// Bytes of the upload.
    pub upload_bytes: u64,
    /// Calls that were due beside the upload.
    pub calls_per_s: f64,
    /// Half of the calls beside the upload took at most as many microseconds.
    pub p50_us: f64,
    /// 99 of 100 of them took at most as many.
    pub p99_us: f64,
    /// All of them, in all rounds, took at most as many.
    pub max_us: f64,
    /// Calls beside the upload, in all rounds.
    pub calls: u64,
    /// As `p50_us`, before the upload.
    pub alone_p50_us: f64,
    /// As `p99_us`, before the upload.
    pub alone_p99_us: f64,
    /// As `max_us`, before the upload.
    pub alone_max_us: f64,
    /// Calls before the upload, in all rounds.
    pub alone_calls: u64,
    /// How many times the p99 before the upload that beside it is: the median of the rounds' own.
    pub p99_ratio: f64,
    /// The lowest of the rounds.
    pub p99_ratio_lowest: f64,
    /// The highest of the rounds.
    pub p99_ratio_highest: f64,
    /// What the upload made beside the calls.
    pub upload_mib_per_s: f64,
}

impl BesideRow {
    /// Sums up the rounds, all with as many workers.
    ///
    /// # Errors
    /// There is none, or a call took longer than two minutes.
    pub fn new(peer: &Peer, body_bytes: usize, length: Length, rounds: &[Beside]) -> Result<Self> {
        let alone = quantiles(rounds.iter().map(|round| &round.alone))?;
        let beside = quantiles(rounds.iter().map(|round| &round.beside))?;
        let ratios = alone.iter().zip(&beside).map(|((_, alone), (_, beside))| beside / alone);
        let ratios = sorted(ratios.map(hundredths).collect())?;
        let rate = |round: &Beside| mib_per_s(length, round.upload_seconds);
        Ok(Self {
            peer: format!("{}-beside-upload", peer.name),
            runtime: peer.runtime.to_owned(),
            workers: rounds.first().context("no round")?.workers,
            in_flight: 1,
            body_bytes,
            upload_bytes: length.upload_bytes,
            calls_per_s: middle(rounds.iter().map(|round| round.beside.calls_per_s()).collect())?,
            p50_us: middle(beside.iter().map(|(p50, _)| *p50).collect())?,
            p99_us: middle(beside.iter().map(|(_, p99)| *p99).collect())?,
            max_us: max_us(rounds.iter().map(|round| &round.beside)),
            calls: rounds.iter().map(|round| round.beside.calls()).sum(),
            alone_p50_us: middle(alone.iter().map(|(p50, _)| *p50).collect())?,
            alone_p99_us: middle(alone.iter().map(|(_, p99)| *p99).collect())?,
            alone_max_us: max_us(rounds.iter().map(|round| &round.alone)),
            alone_calls: rounds.iter().map(|round| round.alone.calls()).sum(),
            p99_ratio: hundredths(median(&ratios)),
            p99_ratio_lowest: ratios[0],
            p99_ratio_highest: ratios[ratios.len() - 1],
            upload_mib_per_s: middle(rounds.iter().map(rate).collect())?,
        })
    }
}

/// Of each round.
fn quantiles<'a>(rounds: impl Iterator<Item = &'a Sample>) -> Result<Vec<(f64, f64)>> {
    rounds.map(|round| quantiles_us([round])).collect()
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
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
    /// The same: there are too few for both.
    pub max_us: f64,
    /// Uploads that counted, one a round.
    pub calls: u64,
    /// What that makes.
    pub mib_per_s: f64,
    /// The slowest and the fastest round; not part of the JSON.
    #[serde(skip)]
    pub mib_per_s_range: (f64, f64),
    /// Most memory that any client had, in KiB.
    pub client_peak_kib: u64,
    /// The median of what each client had at the most.
    pub client_peak_median_kib: u64,
    /// Most memory that any server had, in KiB.
    pub server_peak_kib: u64,
    /// The median of what each server had at the most.
    pub server_peak_median_kib: u64,
}

impl UploadRow {
    /// Sums up the rounds: what the client measured, and the server's memory in KiB.
    ///
    /// # Errors
    /// There is none.
    pub fn new(peer: &Peer, length: Length, rounds: &[(Upload, u64)]) -> Result<Self> {
        let seconds = sorted(rounds.iter().map(|(upload, _)| upload.seconds).collect())?;
        let (shortest, longest, median) = (seconds[0], seconds[seconds.len() - 1], median(&seconds));
        let client = peaks(rounds.iter().map(|(upload, _)| upload.client_peak_kib))?;
        let server = peaks(rounds.iter().map(|(_, peak)| *peak))?;
        Ok(Self {
            peer: format!("{}-upload", peer.name),
            runtime: peer.runtime.to_owned(),
            encrypted: peer.encrypted,
            in_flight: 1,
            body_bytes: length.upload_bytes,
            calls_per_s: (1e4 / median).round() / 1e4,
            p50_us: round(median * 1e6),
            p99_us: round(longest * 1e6),
            max_us: round(longest * 1e6),
            calls: rounds.len() as u64,
            mib_per_s: mib_per_s(length, median),
            mib_per_s_range: (mib_per_s(length, longest), mib_per_s(length, shortest)),
            client_peak_kib: client.most,
            client_peak_median_kib: client.median,
            server_peak_kib: server.most,
            server_peak_median_kib: server.median,
        })
    }
}

struct Peaks {
    median: u64,
    most: u64,
}

fn peaks(kib: impl Iterator<Item = u64>) -> Result<Peaks> {
    let kib = sorted(kib.map(|kib| kib as f64).collect())?;
    Ok(Peaks { median: median(&kib) as u64, most: kib[kib.len() - 1] as u64 })
}

fn middle(values: Vec<f64>) -> Result<f64> {
    Ok(round(median(&sorted(values)?)))
}

fn mib_per_s(Length { upload_bytes }: Length, seconds: f64) -> f64 {
    round(upload_bytes as f64 / f64::from(1 << 20) / seconds)
}

/// Calls beside an upload, for people.
pub fn beside_table(rows: &[BesideRow]) -> Table {
    let mut table = new_table([
        "peer",
        "runtime",
        "workers",
        "body",
        "upload",
        "p50 µs alone",
        "beside",
        "p99 µs alone",
        "beside",
        "max µs alone",
        "beside",
        "p99 ratio",
        "lowest … highest",
        "calls",
        "upload MiB/s",
    ]);
    for row in rows {
        table.add_row([
            row.peer.clone(),
            row.runtime.clone(),
            row.workers.to_string(),
            bytes(row.body_bytes as u64),
            bytes(row.upload_bytes),
            format!("{:.0}", row.alone_p50_us),
            format!("{:.0}", row.p50_us),
            format!("{:.0}", row.alone_p99_us),
            format!("{:.0}", row.p99_us),
            format!("{:.0}", row.alone_max_us),
            format!("{:.0}", row.max_us),
            format!("{:.2}", row.p99_ratio),
            format!("{:.2} … {:.2}", row.p99_ratio_lowest, row.p99_ratio_highest),
            row.calls.to_string(),
            format!("{:.0}", row.upload_mib_per_s),
        ]);
    }
    align(&mut table, 2..=14);
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
        "highest",
        "server's peak MiB",
        "highest",
        "rounds",
    ]);
    for row in rows {
        table.add_row([
            bytes(row.body_bytes),
            row.peer.clone(),
            row.runtime.clone(),
            format!("{:.0}", row.mib_per_s),
            format!("{:.0} … {:.0}", row.mib_per_s_range.0, row.mib_per_s_range.1),
            mib(row.client_peak_median_kib),
            mib(row.client_peak_kib),
            mib(row.server_peak_median_kib),
            mib(row.server_peak_kib),
            row.calls.to_string(),
        ]);
    }
    align(&mut table, (0..=0).chain(3..=9));
    table
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

/// The least part of a plain copy's rate that Callosum is to make where it does not encrypt.
const LEAST_OF_COPY: f64 = 0.95;
/// What Callosum may have of memory at any time, on each side.
const MOST_MEMORY_KIB: u64 = 64 << 10;
/// Peaks of processes that do the same differ by this much.
const SAME_MEMORY_KIB: u64 = 1 << 10;

/// The most that the p99 of calls beside an upload may be, in terms of that alone.
const BESIDE_P99: f64 = 3.0;

/// What one has without a protocol: calls and upload over a connection of their own.
const PLAIN: &str = "raw-tcp-pair-beside-upload";

/// How Callosum's calls beside an upload stand to their mark and to plain TCP with as many workers, if that was measured: a line for each
/// row.
pub fn beside_marks(rows: &[BesideRow]) -> Vec<String> {
    let line = |row: &BesideRow| {
        let BesideRow { peer, runtime, workers, p99_ratio, .. } = row;
        let verdict = verdict(*p99_ratio <= BESIDE_P99);
        let plain = rows.iter().find(|plain| plain.peer == PLAIN && plain.workers == *workers);
        let plain = plain.map_or_else(String::new, |plain| {
            format!(", {:.2} × that of {PLAIN}", row.p99_us / plain.p99_us)
        });
        format!(
            "{peer} ({runtime}, {workers} a side): a p99 of {p99_ratio:.2} × alone{plain}, mark {BESIDE_P99}: {verdict}"
        )
    };
    rows.iter().filter(|row| row.peer.starts_with("callosum")).map(line).collect()
}

/// How the uploads stand to the marks that Callosum has set itself: a line for each.
///
/// What part of the fastest plain copy on the same runtime each makes that does not encrypt; what memory both sides take; and whether
/// the longest takes more than the shortest, by the medians, as there are fewer rounds of it.
pub fn upload_marks(rows: &[UploadRow]) -> Vec<String> {
    let is_copy = |row: &&UploadRow| row.peer.starts_with("raw-tcp-copy");
    let others = || rows.iter().filter(|row| !is_copy(row));
    let of_copy = others().filter(|row| !row.encrypted).filter_map(|row| {
        let alike = |copy: &&UploadRow| copy.runtime == row.runtime && copy.body_bytes == row.body_bytes;
        let copies = rows.iter().filter(is_copy).filter(alike);
        let copy = copies.max_by(|a, b| a.mib_per_s.total_cmp(&b.mib_per_s))?;
        let ratio = row.mib_per_s / copy.mib_per_s;
        let verdict = verdict(ratio >= LEAST_OF_COPY);
        Some(format!("{} makes {ratio:.2} × {}, mark {LEAST_OF_COPY}: {verdict}", named(row), copy.peer))
    });
    let memory = others().map(|row| {
        let (client, server) = (row.client_peak_kib, row.server_peak_kib);
        let verdict = verdict(client.max(server) < MOST_MEMORY_KIB);
        let most = MOST_MEMORY_KIB >> 10;
        format!(
            "{} takes at most {} MiB (client) and {} MiB (server), mark {most} MiB: {verdict}",
            named(row),
            mib(client),
            mib(server)
        )
    });
    of_copy.chain(memory).chain(others().filter_map(|long| growth(long, rows))).collect()
}

fn named(row: &UploadRow) -> String {
    format!("{}: {} ({})", bytes(row.body_bytes), row.peer, row.runtime)
}

/// Whether `long` takes more memory than the shortest upload of the same peer, if there is a shorter one.
fn growth(long: &UploadRow, rows: &[UploadRow]) -> Option<String> {
    let same = |row: &&UploadRow| row.peer == long.peer && row.runtime == long.runtime;
    let short = rows.iter().filter(same).min_by_key(|row| row.body_bytes)?;
    if short.body_bytes >= long.body_bytes {
        return None;
    }
    let client = (short.client_peak_median_kib, long.client_peak_median_kib);
    let server = (short.server_peak_median_kib, long.server_peak_median_kib);
    let grows = [client, server].iter().any(|(short, long)| *long > short + SAME_MEMORY_KIB);
    let of_one = if long.calls == 1 { ", of one round only" } else { "" };
    Some(format!(
        "{} takes {} MiB (client) and {} MiB (server), instead of {} and {} for {}{of_one}: {}",
        named(long),
        mib(client.1),
        mib(server.1),
        mib(client.0),
        mib(server.0),
        bytes(short.body_bytes),
        if grows { "more" } else { "not more" }
    ))
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
    fn an_upload_takes_the_median_time_and_the_median_and_most_memory() {
        let row = row("callosum/tokio", &[1.0, 4.0, 2.0]);
        assert_eq!((row.mib_per_s, row.mib_per_s_range), (512.0, (256.0, 1024.0)));
        assert_eq!((row.client_peak_kib, row.server_peak_kib), (12, 20));
        assert_eq!((row.client_peak_median_kib, row.server_peak_median_kib), (11, 19));
        assert_eq!((row.calls_per_s, row.p50_us, row.p99_us), (0.5, 2e6, 4e6));
        assert_eq!((row.max_us, row.calls), (4e6, 3));
        assert!(UploadRow::new(&peer("callosum/tokio"), LENGTH, &[]).is_err());
    }

    #[test]
    fn uploads_are_compared_with_the_fastest_copy_on_their_runtime() {
        let rows = [
            row("raw-tcp-copy/tokio", &[1.0]),
            row("raw-tcp-copy/async-std", &[2.0]),
            row("raw-tcp-copy-256k/tokio", &[2.0]),
            row("raw-tcp-copy-256k/async-std", &[1.0]),
            row("callosum/tokio", &[2.0]),
            row("callosum/async-std", &[1.0]),
            row("callosum-curve/tokio", &[2.0]),
        ];
        let expected = [
            "1024 MiB: callosum-upload (tokio) makes 0.50 × raw-tcp-copy-upload, mark 0.95: missed",
            "1024 MiB: callosum-upload (async-std) makes 1.00 × raw-tcp-copy-256k-upload, mark 0.95: met",
        ];
        assert_eq!(upload_marks(&rows)[..2], expected);
        assert_eq!(upload_marks(&rows).len(), 2 + 3, "and a line on memory for each that is no copy");
    }

    #[test]
    fn memory_is_compared_with_the_mark_and_with_that_of_a_shorter_upload() {
        let with = |upload_bytes, client_peak_kib, server, rounds| {
            let round = (Upload { seconds: 1.0, client_peak_kib }, server);
            UploadRow::new(&peer("callosum/tokio"), Length { upload_bytes }, &vec![round; rounds]).unwrap()
        };
        let short = with(1 << 30, 10 << 10, 20 << 10, 7);
        let same = upload_marks(&[short.clone(), with(4 << 30, 10 << 10, (20 << 10) + 512, 3)]);
        assert_eq!(
            same,
            [
                "1024 MiB: callosum-upload (tokio) takes at most 10.0 MiB (client) and 20.0 MiB (server), mark 64 MiB: met",
                "4096 MiB: callosum-upload (tokio) takes at most 10.0 MiB (client) and 20.5 MiB (server), mark 64 MiB: met",
                "4096 MiB: callosum-upload (tokio) takes 10.0 MiB (client) and 20.5 MiB (server), instead of 10.0 and 20.0 \
             for 1024 MiB: not more",
            ]
        );
        let more = upload_marks(&[short, with(4 << 30, 10 << 10, 64 << 10, 1)]);
        assert!(more[1].ends_with("mark 64 MiB: missed"), "{more:?}");
        assert!(more[2].ends_with("for 1024 MiB, of one round only: more"), "{more:?}");
    }

    #[test]
    fn a_row_beside_an_upload_takes_the_medians_of_the_rounds() {
        let sample = |ns: u64| Sample { seconds: 1.0, latency_ns: [(ns, 100)].into() };
        let round = |alone, beside| Beside {
            alone: sample(alone),
            beside: sample(beside),
            upload_seconds: 2.0,
            workers: 1,
        };
        let rounds = [round(1_000, 4_000), round(90_000, 8_000), round(2_000, 2_000_000)];
        let row = BesideRow::new(&peer("tonic/tokio"), 64, LENGTH, &rounds).unwrap();
        assert_eq!((row.alone_p99_us, row.p99_us), (2.0, 8.0));
        assert_eq!((row.alone_max_us, row.max_us), (90.0, 2000.0));
        assert_eq!((row.alone_calls, row.calls), (300, 300));
        assert_eq!((row.p99_ratio_lowest, row.p99_ratio, row.p99_ratio_highest), (0.09, 4.0, 1000.0));
        assert_eq!((row.calls_per_s, row.upload_mib_per_s, row.workers), (100.0, 512.0, 1));
        assert!(BesideRow::new(&peer("tonic/tokio"), 64, LENGTH, &[]).is_err());
    }

    #[test]
    fn calls_beside_an_upload_are_compared_with_themselves_and_with_plain_tcp() {
        let row = |id: &str, workers, beside| {
            let sample = |ns: u64| Sample { seconds: 1.0, latency_ns: [(ns, 100)].into() };
            let round = Beside { alone: sample(1_000), beside: sample(beside), upload_seconds: 2.0, workers };
            BesideRow::new(&peer(id), 64, LENGTH, &[round]).unwrap()
        };
        let rows = [
            row("raw-tcp-pair/tokio", 2, 2_000),
            row("tonic/tokio", 2, 9_000),
            row("callosum/tokio", 1, 3_000),
            row("callosum/async-std", 2, 3_100),
        ];
        let expected = [
            "callosum-beside-upload (tokio, 1 a side): a p99 of 3.00 × alone, mark 3: met",
            "callosum-beside-upload (async-std, 2 a side): a p99 of 3.10 × alone, \
             1.55 × that of raw-tcp-pair-beside-upload, mark 3: missed",
        ];
        assert_eq!(beside_marks(&rows), expected);
    }

    #[test]
    fn all_rows_have_the_agreed_keys() {
        let sample = || Sample { seconds: 1.0, latency_ns: [(1, 1)].into() };
        let round = Beside { alone: sample(), beside: sample(), upload_seconds: 2.0, workers: 2 };
        let beside = BesideRow::new(&peer("tonic/tokio"), 64, LENGTH, &[round]).unwrap();
        assert_eq!(serde_json::to_value(&beside).unwrap()["workers"], 2);
        let upload = row("tonic/tokio", &[1.0]);
        for json in [serde_json::to_value(beside).unwrap(), serde_json::to_value(upload).unwrap()] {
            super::super::assert_agreed_keys(&json);
        }
    }
}
