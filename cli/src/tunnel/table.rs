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
        stderr::table(rows(&self.forwards, &counts, before, stderr::columns()));
        self.last = Some(Sample { at, counts });
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        stderr::table(Vec::new());
    }
}

/// What each column has at least, so that it does not change its width with each picture.
const WIDTHS: [usize; 7] = [4, 5, 8, 8, 8, 8, 7];

const HEADER: [&str; 7] = ["OPEN", "TOTAL", "THERE/S", "BACK/S", "THERE", "BACK", "REFUSED"];

const NAME: &str = "FORWARD";

/// The header and a row for each forward. If they have more than so many columns, the names of the forwards are shortened.
fn rows(
    forwards: &[Arc<str>],
    counts: &BTreeMap<Arc<str>, Counts>,
    before: Option<(&BTreeMap<Arc<str>, Counts>, Duration)>,
    columns: usize,
) -> Vec<String> {
    let cells = forwards.iter().map(|forward| {
        let of = |counts: &BTreeMap<_, Counts>| counts.get(forward).copied().unwrap_or_default();
        let now = of(counts);
        let rates = before.map(|(before, elapsed)| {
            let before = of(before);
            [rate(now.there - before.there, elapsed), rate(now.back - before.back, elapsed)]
        });
        let [there_rate, back_rate] = rates.unwrap_or_default();
        let [open, all, refused] = [now.open, now.all, now.refused].map(|count| count.to_string());
        let [there, back] = [now.there, now.back].map(|bytes| HumanBytes(bytes).to_string());
        [open, all, there_rate, back_rate, there, back, refused]
    });
    let cells: Vec<_> = std::iter::once(HEADER.map(String::from)).chain(cells).collect();
    let names = || std::iter::once(NAME).chain(forwards.iter().map(|forward| &**forward));
    let width_of = |n: usize| cells.iter().map(|cells| cells[n].len()).max().unwrap_or(0).max(WIDTHS[n]);
    let widths: Vec<_> = (0..WIDTHS.len()).map(width_of).collect();
    let numbers: usize = widths.iter().map(|width| 2 + width).sum();
    let longest = names().map(|name| name.chars().count()).max().unwrap_or(0);
    let name_width = longest.min(columns.saturating_sub(numbers)).max(NAME.len());
    let row = |(name, cells): (&str, &[String; 7])| {
        let mut row = format!("{:name_width$}", shortened(name, name_width));
        for (cell, width) in cells.iter().zip(&widths) {
            row.push_str(&format!("  {cell:>width$}"));
        }
        row
    };
    names().zip(&cells).map(row).collect()
}

/// The text with so many characters at most: the middle is left out, as both ends of a forward end with a port.
fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let tail = width / 2;
    let head = width.saturating_sub(tail + 1);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).collect()
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
        let rows = rows(&forwards, &now, Some((&before, Duration::from_secs(2))), 120);
        let cells: Vec<Vec<&str>> = rows.iter().map(|row| row.split("  ").map(str::trim).collect()).collect();
        let filled = |n: usize| cells[n].iter().filter(|cell| !cell.is_empty()).copied().collect::<Vec<_>>();
        assert_eq!(filled(0), ["FORWARD", "OPEN", "TOTAL", "THERE/S", "BACK/S", "THERE", "BACK", "REFUSED"]);
        assert_eq!(filled(1), [&*name, "1", "3", "2.00 KiB", "5 B", "5.00 KiB", "10 B", "2"]);
        assert_eq!(filled(2), ["unused", "0", "0", "0 B", "0 B", "0 B", "0 B", "0"]);
        assert!(rows.iter().all(|row| row.chars().count() == rows[0].chars().count()), "{rows:?}");
    }

    #[test]
    fn names_are_shortened_in_the_middle_so_that_all_numbers_show() {
        let name: Arc<str> = "127.0.0.1:40001 → db.internal.example:5432".into();
        let counts = Counts { open: 10_000, all: 123_456, refused: 7, there: 5 << 30, back: 1023 << 20 };
        let counts = BTreeMap::from([(name.clone(), counts)]);
        let rows = rows(&[name], &counts, Some((&BTreeMap::new(), Duration::from_secs(1))), 80);
        assert!(rows.iter().all(|row| row.chars().count() <= 80), "{rows:?}");
        assert!(rows[0].ends_with("THERE         BACK  REFUSED"), "{rows:?}");
        assert!(rows[1].ends_with("5.00 GiB  1023.00 MiB        7"), "{rows:?}");
        assert!(rows[1].starts_with("127") && rows[1].contains('…') && rows[1].contains("32 "), "{rows:?}");
        assert_eq!(["abcdefg", "abcdef"].map(|text| shortened(text, 6)), ["ab…efg", "abcdef"]);
    }
}
