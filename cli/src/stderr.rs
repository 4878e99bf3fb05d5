//! What is written to stderr: lines, and a live table below them.
//!
//! A write blocks for as long as a terminal is paused, or a program does not read. Tasks that drive connections therefore
//! queue what they have to say, and a thread of its own writes it. The queue is bounded: once it is full, lines are dropped
//! and counted until all of it has been written, and the count is written in their place. Of the table, only the newest
//! picture waits.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;

/// Bytes that may wait. The line that exceeds them still fits; those after it are dropped.
const CAPACITY: usize = 1024 * 1024;

/// A program ends although something waits to be written, if nothing could be written for so long.
const STUCK: Duration = Duration::from_secs(1);

static STDERR: LazyLock<Stderr> = LazyLock::new(Stderr::default);

/// Writes a line, or several, without waiting. Errors are ignored: there is no other place to report them.
pub(crate) fn note(text: &str) {
    STDERR.change(|waiting| waiting.push(text));
}

/// Shows these rows below all lines, in place of the rows before. Without rows, there is no table any more.
pub(crate) fn table(rows: Vec<String>) {
    STDERR.change(|waiting| waiting.rows = Some(rows));
}

/// The columns of the terminal, if it has a width.
pub(crate) fn columns() -> usize {
    let size = tcgetwinsize(io::stderr());
    size.map(|size| usize::from(size.ws_col)).ok().filter(|columns| *columns > 0).unwrap_or(usize::MAX)
}

/// Blocks until all has been written, or for [`STUCK`] nothing could be. Returns whether all has been written.
pub(crate) fn flush() -> bool {
    STDERR.flush()
}

/// The text with its control characters escaped, but for line breaks and tabs: an unauthenticated peer may have sent it, and
/// terminals obey control characters.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => printable.push(character),
            _ if character.is_control() => printable.extend(character.escape_default()),
            _ => printable.push(character),
        }
    }
    printable
}

/// Where `tracing` writes, each event at once.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        note(&String::from_utf8_lossy(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Stderr {
    waiting: Mutex<Backlog>,
    /// Something was queued, or written.
    changed: Condvar,
}

/// What has not been written yet.
#[derive(Default)]
struct Backlog {
    lines: VecDeque<String>,
    /// Of the lines.
    bytes: usize,
    /// Lines that did not fit.
    dropped: u64,
    /// The newest picture of the table.
    rows: Option<Vec<String>>,
    writer: Writer,
    /// How often something was written.
    writes: u64,
}

#[derive(Default, PartialEq, Eq)]
enum Writer {
    #[default]
    NotStarted,
    Idle,
    Writing,
}

/// What the thread writes next.
#[derive(Debug, PartialEq, Eq)]
enum Job {
    Lines(String),
    Rows(Vec<String>),
}

impl Backlog {
    fn push(&mut self, text: &str) {
        // Once a line has been dropped, so are those after it until the queue is empty: there is one gap, not many.
        if self.dropped > 0 || self.bytes >= CAPACITY {
            self.dropped += 1;
            return;
        }
        self.bytes += text.len();
        self.lines.push_back(text.to_owned());
    }

    fn pop(&mut self) -> Option<Job> {
        if let Some(line) = self.lines.pop_front() {
            self.bytes -= line.len();
            return Some(Job::Lines(line));
        }
        match std::mem::take(&mut self.dropped) {
            0 => self.rows.take().map(Job::Rows),
            dropped => Some(Job::Lines(format!("{dropped} lines are missing here: stderr was not read\n"))),
        }
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && self.rows.is_none() && self.writer != Writer::Writing
    }
}

impl Stderr {
    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&'static self, change: impl FnOnce(&mut Backlog)) {
        let mut waiting = self.lock();
        change(&mut waiting);
        if waiting.writer == Writer::NotStarted {
            waiting.writer = Writer::Idle;
            thread::spawn(|| self.write());
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Writes what is queued, as long as the process runs.
    fn write(&self) {
        let mut screen = Screen::new();
        let mut waiting = self.lock();
        loop {
            let Some(job) = waiting.pop() else {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            waiting.writer = Writer::Writing;
            drop(waiting);
            match job {
                Job::Lines(text) => screen.write(&text),
                Job::Rows(rows) => screen.draw(rows),
            }
            waiting = self.lock();
            waiting.writer = Writer::Idle;
            waiting.writes += 1;
            self.changed.notify_all();
        }
    }

    fn flush(&self) -> bool {
        let mut waiting = self.lock();
        while !waiting.is_empty() {
            let before = waiting.writes;
            let is_stuck = |waiting: &mut Backlog| waiting.writes == before;
            let (guard, _) = self
                .changed
                .wait_timeout_while(waiting, STUCK, is_stuck)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = guard;
            if waiting.writes == before {
                return false;
            }
        }
        true
    }
}

/// The terminal, or where stderr goes else.
struct Screen {
    below: MultiProgress,
    rows: Vec<ProgressBar>,
}

impl Screen {
    fn new() -> Self {
        Self { below: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), rows: Vec::new() }
    }

    fn write(&self, text: &str) {
        self.below.suspend(|| {
            let _ = anstream::stderr().write_all(text.as_bytes());
        });
    }

    fn draw(&mut self, rows: Vec<String>) {
        for row in self.rows.drain(rows.len().min(self.rows.len())..) {
            row.finish_and_clear();
            self.below.remove(&row);
        }
        while self.rows.len() < rows.len() {
            let row = self.below.add(ProgressBar::no_length());
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                row.set_style(style);
            }
            self.rows.push(row);
        }
        for (row, text) in self.rows.iter().zip(rows) {
            row.set_message(printable(&text));
            row.tick();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_error_has_no_control_characters_on_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tünï\u{9b}"), "a\\u{1b}[2Jb\\r\n\tünï\\u{9b}");
    }

    #[test]
    fn what_does_not_fit_is_counted_in_its_place() {
        let mut waiting = Backlog::default();
        let line = |text: &str| Some(Job::Lines(text.to_owned()));
        let half = "x".repeat(CAPACITY / 2);
        waiting.push(&half);
        waiting.push(&half[1..]);
        // A byte is left.
        waiting.push("fits");
        waiting.push("lost");
        assert_eq!(waiting.pop(), line(&half));
        // There is room, but the gap is not over.
        waiting.push("lost too");
        assert_eq!([waiting.pop(), waiting.pop()], [line(&half[1..]), line("fits")]);
        assert!(!waiting.is_empty());
        assert_eq!(waiting.pop(), line("2 lines are missing here: stderr was not read\n"));
        assert!(waiting.is_empty() && waiting.bytes == 0);
        waiting.push("after");
        assert_eq!([waiting.pop(), waiting.pop()], [line("after"), None]);
    }

    #[test]
    fn of_a_table_the_newest_picture_comes_after_all_lines() {
        let mut waiting = Backlog { rows: Some(vec![String::from("old")]), ..Backlog::default() };
        waiting.push("line");
        waiting.rows = Some(vec![String::from("new")]);
        assert_eq!(waiting.pop(), Some(Job::Lines(String::from("line"))));
        assert_eq!(waiting.pop(), Some(Job::Rows(vec![String::from("new")])));
        assert_eq!(waiting.pop(), None);
    }
}
