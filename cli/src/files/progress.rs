//! The progress of a transfer, shown on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::stderr::{flush, note, printable};

const WITH_SIZE: &str = "{msg} {bar:30} {percent:>3}% {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta}";
const WITHOUT_SIZE: &str = "{msg} {spinner} {bytes} {binary_bytes_per_sec}";

/// The longest time between two updates, so that a stall is visible.
const TICK: Duration = Duration::from_millis(100);

/// A bar on stderr, if that is a terminal. Gone when dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    begun: bool,
}

impl Progress {
    pub(super) fn none() -> Self {
        Self::new(true)
    }

    pub(super) fn new(quiet: bool) -> Self {
        Self { bar: ProgressBar::hidden(), quiet, begun: false }
    }

    /// What is there already is compared, so much of it if that is known.
    pub(super) fn check(&mut self, name: &str, size: Option<u64>) {
        self.show(&format!("checking {name}"), 0, size);
    }

    /// Content begins to flow, from `offset` on.
    pub(super) fn begin(&mut self, name: &str, offset: u64, size: Option<u64>) {
        if offset > 0 {
            self.note(&format!("going on with {name} at {offset} bytes\n"));
        }
        self.show(name, offset, size);
        self.begun = true;
    }

    /// Whether content has begun to flow.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    fn show(&mut self, message: &str, at: u64, size: Option<u64>) {
        self.bar.finish_and_clear();
        let template = match size {
            Some(_) => WITH_SIZE,
            None => WITHOUT_SIZE,
        };
        // Shown once it is complete.
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(printable(message));
        bar.set_position(at);
        bar.tick();
        // Earlier bytes don't count for the rate.
        bar.reset_eta();
        if !self.quiet {
            // It is also hidden if stderr is not a terminal.
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if !bar.is_hidden() {
            // Draw now: the steady tick has a thread of its own, which may be late.
            bar.tick();
            bar.enable_steady_tick(TICK);
        }
        self.bar = bar;
    }

    pub(super) fn advance(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            // The bar is back only once the text is above it.
            self.bar.suspend(|| {
                note(text);
                flush();
            });
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_what_flows() {
        const BEFORE: u64 = 1 << 50;
        let mut progress = Progress::none();
        progress.check("x", Some(BEFORE));
        progress.advance(1 << 49);
        progress.begin("x", BEFORE, Some(2 * BEFORE));
        progress.advance(1);
        progress.bar.tick();
        // At most one byte per nanosecond; with the earlier bytes, the rate would be higher.
        let rate = progress.bar.per_sec();
        assert!(rate > 0.0 && rate <= 1e9, "{rate}");
    }
}
