//! Instructions of the paths, compared with those that the repository has.
//!
//! gungraun keeps earlier counts in the target directory, where no other machine finds them. So a file in the repository has
//! them instead, `instructions.json`, and a change that makes a path longer changes that file too.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// What gungraun has printed with `--output-format=json`: a JSON object for each path.
    ///
    /// # Errors
    /// If that has another format, or no paths.
    pub fn from_gungraun(output: &str, compiler: &str) -> Result<Self> {
        let mut instructions = BTreeMap::new();
        for summary in serde_json::Deserializer::from_str(output).into_iter::<Value>() {
            let summary = summary.context("gungraun's output is not JSON")?;
            let text = |field: &str| summary[field].as_str().with_context(|| format!("{field} is missing"));
            let name = format!("{}::{}", text("function_name")?, text("id")?);
            let total = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"];
            let count = total.as_u64().with_context(|| format!("{name} has no count of instructions"))?;
            ensure!(instructions.insert(name.clone(), count).is_none(), "{name} is there twice");
        }
        ensure!(!instructions.is_empty(), "gungraun has counted nothing");
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
    fn reads_what_gungraun_prints() {
        let summary = |function: &str, values: &str| {
            format!(
                r#"{{"function_name":"{function}","id":"call","profiles":[{{"data":{{"total":{{"metrics":
                {{"Ir":{{"values":{values}}}}}}}}}}}]}}"#
            )
        };
        let output =
            [summary("encode", r#"{"new":5}"#), summary("decode", r#"{"new":7,"old":9}"#)].join("\n");
        let read = Counts::from_gungraun(&output, "rustc 1.95.0").expect("it has that format");
        assert_eq!(read, counts(&[("encode::call", 5), ("decode::call", 7)]));
        for wrong in ["", "no JSON", "{}", &summary("encode", r#"{"old":5}"#)] {
            Counts::from_gungraun(wrong, "").expect_err(wrong);
        }
        let twice = [summary("encode", r#"{"new":5}"#), summary("encode", r#"{"new":5}"#)].concat();
        Counts::from_gungraun(&twice, "").expect_err("the same path twice");
    }
}
