//! The output of the demonstration, and the count of promises.

use anstyle::{AnsiColor, Style};

use super::unexpected::Unexpected;
use crate::executor::Executor;
use crate::exit::{Failure, show};
use crate::stderr::printable;

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The stage: 80 columns, with colours if the terminal has them.
pub(super) struct Stage {
    pub(super) executor: Executor,
    scene: usize,
    kept: usize,
    broken: usize,
}

impl Stage {
    pub(super) fn new(executor: Executor) -> Self {
        Self { executor, scene: 0, kept: 0, broken: 0 }
    }

    pub(super) fn title(&self, text: &str) {
        self.line(&format!("{BOLD}{text}{BOLD:#}"));
    }

    /// Begins the next scene.
    pub(super) fn scene(&mut self, title: &str) {
        self.scene += 1;
        self.line("");
        self.title(&format!("{}. {title}", self.scene));
    }

    pub(super) fn line(&self, text: &str) {
        // The demonstration is checked even if stdout is closed.
        let _ = show(text);
    }

    /// Shows a message from one to the other: a call with `->`, its end with `<-`.
    pub(super) fn message(&self, from: &str, arrow: &str, to: &str, text: &str) {
        self.line(&format!("   {from:>7} {arrow} {to:<7}  {text}"));
    }

    /// Shows a text of several lines.
    pub(super) fn quote(&self, text: &str) {
        for line in printable(text).lines() {
            self.line(&format!("      | {line}"));
        }
    }

    /// Reports whether a promise was kept.
    pub(super) fn promise(&mut self, kept: bool, text: &str) {
        if kept {
            self.kept += 1;
            self.line(&format!("   {GOOD}ok{GOOD:#} {text}"));
        } else {
            self.broken += 1;
            self.line(&format!("   {BAD}BROKEN{BAD:#} {text}"));
        }
    }

    /// A scene that could not be played to its end is a broken promise.
    pub(super) fn broken_by(&mut self, result: Result<(), Unexpected>) {
        if let Err(Unexpected(what)) = result {
            self.promise(false, &what);
        }
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        self.line("");
        match self.broken {
            0 => {
                self.line(&format!("{GOOD}All {} promises were kept.{GOOD:#}", self.kept));
                Ok(())
            }
            broken => Err(Failure::Broken(broken)),
        }
    }
}
