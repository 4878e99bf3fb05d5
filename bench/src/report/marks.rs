//! The marks that Callosum has set itself for calls, and whether they are met.

use super::{Row, verdict};
use crate::cases;

/// What is compared.
#[derive(Clone, Copy)]
enum Of {
    /// Calls a second: the more the better.
    Calls,
    /// Median of a call's duration: the less the better.
    P50,
}

/// How `subject` in `row` is to compare with `other` in `other_row`.
struct Mark<'a> {
    subject: &'a str,
    row: &'a str,
    of: Of,
    other: &'a str,
    other_row: &'a str,
    /// The least ratio of calls a second; of durations there is none that is agreed on.
    least: Option<f64>,
}

impl<'a> Mark<'a> {
    const fn calls(subject: &'a str, row: &'a str, other: &'a str, least: f64) -> Self {
        Self { subject, row, of: Of::Calls, other, other_row: row, least: Some(least) }
    }

    const fn p50(subject: &'a str, row: &'a str, other: &'a str) -> Self {
        Self { subject, row, of: Of::P50, other, other_row: row, least: None }
    }

    /// Of the calls a second that it makes itself in another row.
    const fn itself(subject: &'a str, row: &'a str, other_row: &'a str, least: f64) -> Self {
        Self { subject, row, of: Of::Calls, other: subject, other_row, least: Some(least) }
    }

    /// A line for each runtime on which both were measured.
    fn lines(&self, rows: &[Row]) -> Vec<String> {
        let subjects = rows.iter().filter(|row| row.stack == self.subject && row.row == self.row);
        let line = |subject: &Row| {
            let others = || rows.iter().filter(|row| row.stack == self.other && row.row == self.other_row);
            // Callosum is compared with itself on the same runtime; the others have one only.
            let other = others()
                .find(|row| row.runtime == subject.runtime)
                .or_else(|| others().find(|_| !self.other.starts_with("callosum")))?;
            Some(self.line(subject, other))
        };
        subjects.filter_map(line).collect()
    }

    fn line(&self, subject: &Row, other: &Row) -> String {
        let (ratio, what) = match self.of {
            Of::Calls => (subject.calls_per_s / other.calls_per_s, "makes"),
            Of::P50 => (subject.p50_us / other.p50_us, "has a p50 of"),
        };
        // Rounded down, so that the figure and the verdict agree.
        let ratio = (ratio * 100.0).floor() / 100.0;
        let mark = match self.least {
            Some(least) => format!("mark {least}: {}", verdict(ratio >= least)),
            None => "no mark".to_owned(),
        };
        let Row { row, stack, runtime, .. } = subject;
        let whose = match other.row == *row {
            true => format!("{} ({})", other.stack, other.runtime),
            false => format!("its own {}", other.row),
        };
        format!("{row}: {stack} ({runtime}) {what} {ratio:.2} × {whose}, {mark}")
    }
}

const MARKS: &[Mark<'static>] = &[
    Mark::p50("callosum", "64B x1", "raw-tcp"),
    Mark::p50("callosum", "64B x1", "tarpc"),
    Mark::calls("callosum", "64B x128", "tarpc", 3.0),
    Mark::calls("callosum", "64B x128", "tonic", 10.0),
    Mark::calls("callosum", "64B x128", "python-callosum", 60.0),
    Mark::calls("callosum", "64B x128", "callosum-dialect-1", 1.25),
    Mark::itself("callosum", "64B x8192", "64B x1024", 0.8),
    Mark::calls("callosum", "64B x8192", "tarpc", 1.5),
    Mark::itself("callosum", "64B x128 keys-serialized", "64B x128 unordered", 0.85),
    Mark::calls("callosum", "64B x128 c64", "tarpc", 2.0),
    Mark::calls("callosum", "256KiB x64", "callosum-dialect-1", 1.0),
    Mark::calls("callosum", "256KiB x64", "tarpc", 1.2),
    Mark::calls("callosum", "256KiB x64", "raw-tcp", 0.9),
    Mark::calls("callosum", "1MiB x32", "callosum-dialect-1", 1.0),
    Mark::calls("callosum", "1MiB x32", "tarpc", 1.2),
    Mark::calls("callosum", "1MiB x32", "raw-tcp", 0.9),
    Mark::calls("callosum", "8MiB x8", "callosum-dialect-1", 1.0),
    Mark::calls("callosum", "8MiB x8", "tarpc", 1.2),
    Mark::calls("callosum", "8MiB x8", "raw-tcp", 0.9),
    Mark::calls("callosum-curve", "64B x128", "libzmq-curve", 2.0),
    Mark::calls("callosum-curve", "1MiB x32", "libzmq-curve", 1.2),
];

/// The layers, and how many of the calls a second of raw calls on the same kind of connection each is to make. One that comes is an entry
/// here and one of [`ALL`](crate::peers::ALL), with [`layer`](crate::peers::Peer::is_layer).
const LAYERS: &[(&str, f64)] = &[
    ("callosum-typed", 0.9),
    ("callosum-typed-msgpack", 0.9),
    ("callosum-thrift", 0.8),
    ("callosum-protobuf", 0.8),
];

/// Typed calls of other libraries, with which the layers are compared.
const OTHERS: [&str; 2] = ["tarpc", "tonic"];

/// How the layers stand to their marks, and to the typed calls of others: a line for each in each row, where both were measured.
pub fn layer_marks(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for row in cases::LAYERS.iter().map(ToString::to_string) {
        for &(subject, least) in LAYERS {
            let mark =
                |other, least| Mark { subject, row: &row, of: Of::Calls, other, other_row: &row, least };
            lines.extend(mark("callosum", Some(least)).lines(rows));
            lines.extend(OTHERS.iter().flat_map(|other| mark(other, None).lines(rows)));
        }
    }
    lines
}

/// How calls stand to the marks: a line for each and for each of Callosum's runtimes, where both rows were measured.
pub fn call_marks(rows: &[Row]) -> Vec<String> {
    MARKS.iter().flat_map(|mark| mark.lines(rows)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Sample, peers::Peer};

    /// One round of a second, in which a peer makes so many calls of 1 ms.
    fn row(id: &str, name: &str, calls: u64) -> Row {
        let case = cases::ALL.iter().find(|case| case.to_string() == name).unwrap();
        let sample = Sample { seconds: 1.0, latency_ns: [(1_000_000, calls)].into() };
        Row::new(&Peer::find(id).unwrap(), *case, &[sample]).unwrap()
    }

    #[test]
    fn marks_name_rows_and_peers_that_there_are() {
        let known = |name: &str| crate::peers::ALL.iter().any(|peer| peer.name == name);
        let names: Vec<_> = cases::ALL.iter().map(ToString::to_string).collect();
        for mark in MARKS {
            assert!(known(mark.subject) && known(mark.other));
            assert!([mark.row, mark.other_row].iter().all(|row| names.iter().any(|name| name == row)));
        }
        let layer = |name: &&str| crate::peers::ALL.iter().any(|peer| peer.name == *name && peer.is_layer());
        assert!(LAYERS.iter().map(|(name, _)| name).chain(&OTHERS).chain(&["callosum"]).all(layer));
        for case in cases::LAYERS {
            assert!(cases::ALL.contains(case), "so that both tables can be compared");
        }
    }

    #[test]
    fn a_mark_compares_on_the_same_runtime_or_with_the_only_one() {
        let rows = [
            row("callosum/tokio", "64B x128", 400),
            row("callosum/async-std", "64B x128", 200),
            row("tarpc/tokio", "64B x128", 100),
            row("callosum-dialect-1/async-std", "64B x128", 190),
        ];
        let expected = [
            "64B x128: callosum (tokio) makes 4.00 × tarpc (tokio), mark 3: met",
            "64B x128: callosum (async-std) makes 2.00 × tarpc (tokio), mark 3: missed",
            "64B x128: callosum (async-std) makes 1.05 × callosum-dialect-1 (async-std), mark 1.25: missed",
        ];
        assert_eq!(call_marks(&rows), expected);
    }

    #[test]
    fn a_mark_compares_rows_of_the_same_peer() {
        let rows = [
            row("callosum/tokio", "64B x128 unordered", 100),
            row("callosum/tokio", "64B x128 keys-serialized", 90),
            row("callosum/tokio", "64B x128", 5),
        ];
        let expected = [
            "64B x128 keys-serialized: callosum (tokio) makes 0.90 × its own 64B x128 unordered, mark 0.85: met",
        ];
        assert_eq!(call_marks(&rows), expected);
    }

    #[test]
    fn layers_are_compared_with_raw_calls_and_with_others() {
        let rows = [
            row("callosum/tokio", "64B x128", 100),
            row("callosum/async-std", "64B x128", 1),
            row("callosum-typed/tokio", "64B x128", 89),
            row("callosum-typed-msgpack/tokio", "64B x128", 90),
            row("callosum-thrift/tokio", "64B x128", 79),
            row("callosum-protobuf/tokio", "64B x128", 80),
            row("tonic/tokio", "64B x128", 10),
        ];
        let expected = [
            "64B x128: callosum-typed (tokio) makes 0.89 × callosum (tokio), mark 0.9: missed",
            "64B x128: callosum-typed (tokio) makes 8.90 × tonic (tokio), no mark",
            "64B x128: callosum-typed-msgpack (tokio) makes 0.90 × callosum (tokio), mark 0.9: met",
            "64B x128: callosum-typed-msgpack (tokio) makes 9.00 × tonic (tokio), no mark",
            "64B x128: callosum-thrift (tokio) makes 0.79 × callosum (tokio), mark 0.8: missed",
            "64B x128: callosum-thrift (tokio) makes 7.90 × tonic (tokio), no mark",
            "64B x128: callosum-protobuf (tokio) makes 0.80 × callosum (tokio), mark 0.8: met",
            "64B x128: callosum-protobuf (tokio) makes 8.00 × tonic (tokio), no mark",
        ];
        assert_eq!(layer_marks(&rows), expected);
    }

    #[test]
    fn a_figure_that_misses_its_mark_by_little_does_not_look_like_it() {
        let rows = [row("callosum/tokio", "64B x8192", 797), row("callosum/tokio", "64B x1024", 1000)];
        let expected = ["64B x8192: callosum (tokio) makes 0.79 × its own 64B x1024, mark 0.8: missed"];
        assert_eq!(call_marks(&rows), expected);
    }

    #[test]
    fn durations_are_compared_without_a_mark() {
        let rows = [row("callosum/tokio", "64B x1", 10), row("tarpc/tokio", "64B x1", 10)];
        assert_eq!(
            call_marks(&rows),
            ["64B x1: callosum (tokio) has a p50 of 1.00 × tarpc (tokio), no mark"]
        );
    }
}
