//! A live table of forwards: connections, rates and totals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callosum_tunnel::Totals;
use indicatif::HumanBytes;

use crate::stderr;

/// The table on stderr. Gone when dropped.
pub(super) struct Table {
    /// The forwards that were asked for, in that order; then others that have been counted, such as those that have got another port.
    forwards: Vec<Arc<str>>,
    last: Option<Sample>,
}

struct Sample {
    at: Instant,
    counts: BTreeMap<Arc<str>, Counts>,
}

/// The traffic of a forward so far; bytes to its target, and back.
#[derive(Clone, Copy, Default)]
struct Counts {
    open: u64,
    all: u64,
    refused: u64,
    there: u64,
    back: u64,
}

impl From<&Totals> for Counts {
    fn from(totals: &Totals) -> Self {
        let Totals { open, connections, refused, to_target, from_target, .. } = *totals;
        Self { open, all: connections, refused, there: to_target, back: from_target }
    }
}

impl Table {
    pub(super) fn new(forwards: Vec<Arc<str>>) -> Self {
        Self { forwards, last: None }
    }

    /// Shows these totals, and how they have changed since it was last called.
    pub(super) fn draw(&mut self, totals: &[Totals]) {
        let counts: BTreeMap<_, _> =
            totals.iter().map(|totals| (totals.forward.clone(), Counts::from(totals))).collect();
        for forward in counts.keys() {
            if !self.forwards.contains(forward) {
                self.forwards.push(forward.clone());
            }
        }
        let at = Instant::now();
        let before = self.last.as_ref().map(|last| (&last.counts, at - last.at));
        stderr::table(rows(&self.forwards, &counts, before));
        self.last = Some(Sample { at, counts });
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        stderr::table(Vec::new());
    }
}

/// The header and a row for each forward: first what is of interest at the moment, as a narrow terminal shows no more.
fn rows(
    forwards: &[Arc<str>],
    counts: &BTreeMap<Arc<str>, Counts>,
    before: Option<(&BTreeMap<Arc<str>, Counts>, Duration)>,
) -> Vec<String> {
    let width = forwards.iter().map(|forward| forward.chars().count()).max().unwrap_or(0).max(7);
    let row = |forward: &str, cells: [&str; 7]| {
        let [open, all, there_rate, back_rate, there, back, refused] = cells;
        format!(
            "{forward:width$}  {open:>4}  {all:>6}  {there_rate:>10}  {back_rate:>10}  {there:>10}  {back:>10}  \
             {refused:>7}"
        )
    };
    let header = row("FORWARD", ["OPEN", "TOTAL", "THERE/S", "BACK/S", "THERE", "BACK", "REFUSED"]);
    let lines = forwards.iter().map(|forward| {
        let of = |counts: &BTreeMap<_, Counts>| counts.get(forward).copied().unwrap_or_default();
        let now = of(counts);
        let rates = before.map(|(before, elapsed)| {
            let before = of(before);
            [rate(now.there - before.there, elapsed), rate(now.back - before.back, elapsed)]
        });
        let [there_rate, back_rate] = rates.unwrap_or_default();
        let [open, all, refused] = [now.open, now.all, now.refused].map(|count| count.to_string());
        let [there, back] = [now.there, now.back].map(|bytes| HumanBytes(bytes).to_string());
        row(forward, [&open, &all, &there_rate, &back_rate, &there, &back, &refused])
    });
    std::iter::once(header).chain(lines).collect()
}

/// Bytes in a second.
fn rate(bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    match seconds > 0.0 {
        true => HumanBytes((bytes as f64 / seconds) as u64).to_string(),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_was_moved_meanwhile() {
        let name: Arc<str> = "127.0.0.1:1 → db:2".into();
        let counts = |there, back| {
            BTreeMap::from([(name.clone(), Counts { open: 1, all: 3, refused: 2, there, back })])
        };
        let (before, now) = (counts(1024, 0), counts(5 * 1024, 10));
        let forwards = [name.clone(), "unused".into()];
        let rows = rows(&forwards, &now, Some((&before, Duration::from_secs(2))));
        let cells: Vec<Vec<&str>> = rows.iter().map(|row| row.split("  ").map(str::trim).collect()).collect();
        let filled = |n: usize| cells[n].iter().filter(|cell| !cell.is_empty()).copied().collect::<Vec<_>>();
        assert_eq!(filled(0), ["FORWARD", "OPEN", "TOTAL", "THERE/S", "BACK/S", "THERE", "BACK", "REFUSED"]);
        assert_eq!(filled(1), [&*name, "1", "3", "2.00 KiB", "5 B", "5.00 KiB", "10 B", "2"]);
        assert_eq!(filled(2), ["unused", "0", "0", "0 B", "0 B", "0 B", "0 B", "0"]);
        assert!(rows.iter().all(|row| row.chars().count() == rows[0].chars().count()), "{rows:?}");
    }
}
