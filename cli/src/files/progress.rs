//! How far a transfer is, for who looks at a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::note;

const WITH_SIZE: &str = "{msg} {bar:30} {percent:>3}% {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta}";
const WITHOUT_SIZE: &str = "{msg} {spinner} {bytes} {binary_bytes_per_sec}";

/// A bar on stderr, if that is a terminal. Gone when dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    pub(super) fn none() -> Self {
        Self { bar: ProgressBar::hidden(), quiet: true }
    }

    pub(super) fn new(quiet: bool) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            // Hidden too where stderr is no terminal.
            false => ProgressDrawTarget::stderr(),
        };
        Self { bar: ProgressBar::with_draw_target(None, target), quiet }
    }

    /// Content begins to flow, from `offset` on.
    pub(super) fn begin(&self, name: &str, offset: u64, size: Option<u64>) {
        if offset > 0 {
            self.note(&format!("going on with {name} at {offset} bytes\n"));
        }
        let template = match size {
            Some(_) => WITH_SIZE,
            None => WITHOUT_SIZE,
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_message(crate::exit::printable(name));
        if let Some(size) = size {
            self.bar.set_length(size);
        }
        // The rate is that of now.
        self.bar.set_position(offset);
        self.bar.reset_eta();
    }

    pub(super) fn advance(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| note(text));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
