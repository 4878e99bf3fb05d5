//! Instructions of the paths, compared with those that the repository has.
//!
//! A file in the repository has the counts, `instructions.json`, and a change that makes a path longer changes that file too.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// By how many percent a path may grow. What changes less is mostly the compiler's: which function it inlines where.
const TOLERANCE: u64 = 5;

/// Instructions of each path, and the compiler that made them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// As `rustc --version` says.
    pub compiler: String,
    /// By the name of the path.
    pub instructions: BTreeMap<String, u64>,
}

impl Counts {
    /// What `benches/paths.rs` has printed: a line for each path, with its name and its count.
    ///
    /// # Errors
    /// If that has another format, or no paths.
    pub fn parse(output: &str, compiler: &str) -> Result<Self> {
        let mut instructions = BTreeMap::new();
        for line in output.lines() {
            let (name, count) = line.split_once(' ').with_context(|| format!("{line:?} has no count"))?;
            let count = count.parse().with_context(|| format!("{line:?} has no count"))?;
            ensure!(instructions.insert(name.to_owned(), count).is_none(), "{name} is there twice");
        }
        ensure!(!instructions.is_empty(), "nothing was counted");
        Ok(Self { compiler: compiler.to_owned(), instructions })
    }

    /// How they differ from a baseline.
    pub fn compare<'a>(&'a self, baseline: &'a Self) -> Comparison<'a> {
        let names = self.instructions.keys().chain(baseline.instructions.keys());
        let change = |name: &'a String| {
            let before = baseline.instructions.get(name).copied();
            Change { name, before, now: self.instructions.get(name).copied() }
        };
        let changes: BTreeMap<_, _> = names.map(|name| (name, change(name))).collect();
        Comparison { now: self, baseline, changes: changes.into_values().collect() }
    }
}

/// Of one path.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change<'a> {
    name: &'a str,
    before: Option<u64>,
    now: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Shrunk,
    Grown,
    New,
    Gone,
}

impl Change<'_> {
    /// 0.1 if it has grown by a tenth.
    fn growth(&self) -> Option<f64> {
        Some(self.now? as f64 / self.before? as f64 - 1.0)
    }

    fn verdict(&self) -> Verdict {
        match (self.before, self.now) {
            (None, _) => Verdict::New,
            (_, None) => Verdict::Gone,
            (Some(before), Some(now)) if 100 * now > (100 + TOLERANCE) * before => Verdict::Grown,
            (Some(before), Some(now)) if 100 * now < (100 - TOLERANCE) * before => Verdict::Shrunk,
            _ => Verdict::Same,
        }
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
        let growth = self.growth().map_or_else(String::new, |growth| format!("{:+.1} %", 100.0 * growth));
        let verdict = match self.verdict() {
            Verdict::Same => "",
            Verdict::Shrunk => "less",
            Verdict::Grown => "MORE",
            Verdict::New => "NEW",
            Verdict::Gone => "GONE",
        };
        let (before, now) = (count(self.before), count(self.now));
        write!(f, "{:32} {before:>12} {now:>12} {growth:>9} {verdict}", self.name)
    }
}

/// All paths beside a baseline; displayed, it says what to do.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    now: &'a Counts,
    baseline: &'a Counts,
    changes: Vec<Change<'a>>,
}

impl Comparison<'_> {
    /// Whether the baseline must be changed: a path has grown, or has no baseline, or a baseline has no path.
    pub fn has_failed(&self) -> bool {
        self.has([Verdict::Grown, Verdict::New, Verdict::Gone])
    }

    fn has<const N: usize>(&self, verdicts: [Verdict; N]) -> bool {
        self.changes.iter().any(|change| verdicts.contains(&change.verdict()))
    }
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:32} {:>12} {:>12} {:>9}", "instructions", "baseline", "now", "change")?;
        self.changes.iter().try_for_each(|change| writeln!(f, "{}", change.to_string().trim_end()))?;
        if self.has_failed() {
            writeln!(
                f,
                "A path has grown by more than {TOLERANCE} %, or differs from the baseline's. If that is meant:"
            )?;
        } else if self.has([Verdict::Shrunk]) {
            writeln!(f, "A path has shrunk by more than {TOLERANCE} %. So that it stays short:")?;
        } else {
            return Ok(());
        }
        writeln!(
            f,
            "\n    bench/instructions --update\n\nand commit bench/engine/instructions.json with the change."
        )?;
        if self.now.compiler != self.baseline.compiler {
            writeln!(
                f,
                "The compiler is another, too: {}, not {}.",
                self.now.compiler, self.baseline.compiler
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(instructions: &[(&str, u64)]) -> Counts {
        let instructions = instructions.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Counts { compiler: "rustc 1.95.0".into(), instructions }
    }

    #[test]
    fn more_than_five_percent_more_fails_and_less_is_only_said() {
        let baseline = counts(&[("encode::call", 1_000), ("decode::call", 1_000)]);
        for (count, fails, says) in [
            (949, false, "shrunk by more than 5 %"),
            (950, false, ""),
            (1_000, false, ""),
            (1_050, false, ""),
            (1_051, true, "grown by more than 5 %"),
        ] {
            let now = counts(&[("encode::call", count), ("decode::call", 1_000)]);
            let comparison = now.compare(&baseline);
            assert_eq!(comparison.has_failed(), fails, "{count}");
            let text = comparison.to_string();
            assert!(text.contains(says), "{text}");
            assert_eq!(text.contains("bench/instructions --update"), !says.is_empty(), "{text}");
        }
    }

    #[test]
    fn says_which_path_grew_and_by_how_much() {
        let baseline = counts(&[("encode::call", 1_000), ("decode::call", 2_000)]);
        let mut now = counts(&[("encode::call", 1_000), ("decode::call", 2_500)]);
        now.compiler = "rustc 1.96.0".into();
        let text = now.compare(&baseline).to_string();
        let grown: Vec<_> = text.lines().filter(|line| line.contains("MORE")).collect();
        assert_eq!(grown, ["decode::call                             2000         2500   +25.0 % MORE"]);
        assert!(text.contains("rustc 1.96.0, not rustc 1.95.0"), "{text}");
    }

    #[test]
    fn a_path_without_baseline_and_a_baseline_without_path_fail() {
        let (one, two) = (counts(&[("a::b", 1)]), counts(&[("a::b", 1), ("a::c", 1)]));
        assert!(!one.compare(&one).has_failed());
        assert!(one.compare(&two).has_failed());
        assert!(two.compare(&one).has_failed());
    }

    #[test]
    fn reads_a_line_for_each_path() {
        let read =
            Counts::parse("encode::call 5\ndecode::call 7\n", "rustc 1.95.0").expect("it has that format");
        assert_eq!(read, counts(&[("encode::call", 5), ("decode::call", 7)]));
        for wrong in ["", "encode::call", "encode::call many", "encode::call 5\n\n", "a 5\na 5\n"] {
            Counts::parse(wrong, "").expect_err(wrong);
        }
    }
}
