//! Timelines of calls, drawn with characters that every terminal has.

use std::time::Duration;

use anstyle::{AnsiColor, Style};

/// Columns of one timeline, its end included.
pub(super) const WIDTH: usize = 20;

/// When a call was sent, all calls being sent at once, is zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) started: Option<Duration>,
    pub(super) done: Option<Duration>,
    pub(super) replied: Option<Duration>,
}

/// One column for so much time that all of it fits.
pub(super) fn column(usual: Duration, end: Duration) -> Duration {
    usual.max(end.div_f64((WIDTH - 2) as f64))
}

/// The history of a call until `now`: `-` it waits, `=` it runs, `.` it is done and its reply is held back, `>` its
/// reply left.
pub(super) fn draw(span: Span, now: Duration, column: Duration) -> String {
    let columns = |time: Duration| (time.as_secs_f64() / column.as_secs_f64()).round() as usize;
    let end = columns(span.replied.unwrap_or(now)).min(WIDTH - 1);
    let until = |time: Option<Duration>| time.map_or(end, columns).min(end);
    let (started, done) = (until(span.started), until(span.done));
    let mut line = "-".repeat(started);
    line.push_str(&"=".repeat(done - started));
    line.push_str(&".".repeat(end - done));
    line.extend(span.replied.map(|_| '>'));
    line
}

/// The same in colours.
pub(super) fn paint(line: &str) -> String {
    let mut painted = String::new();
    for run in line.as_bytes().chunk_by(|a, b| a == b) {
        let style = match run[0] {
            b'-' => AnsiColor::BrightBlack.on_default(),
            b'=' => AnsiColor::Cyan.on_default(),
            b'.' => AnsiColor::Yellow.on_default(),
            b'>' => AnsiColor::Green.on_default().bold(),
            _ => Style::new(),
        };
        let run = String::from_utf8_lossy(run);
        painted.push_str(&format!("{style}{run}{style:#}"));
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMN: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[test]
    fn the_stages_of_a_call_are_told_apart() {
        let span = Span { started: at(203), done: at(501), replied: at(790) };
        assert_eq!(draw(span, Duration::from_secs(2), COLUMN), "--===...>");
    }

    #[test]
    fn what_has_not_happened_yet_is_not_drawn() {
        let now = Duration::from_millis(400);
        assert_eq!(draw(Span::default(), now, COLUMN), "----");
        assert_eq!(draw(Span { started: at(100), ..Span::default() }, now, COLUMN), "-===");
        assert_eq!(draw(Span { started: at(0), done: at(300), replied: None }, now, COLUMN), "===.");
    }

    #[test]
    fn slow_machines_get_wider_columns() {
        let end = Duration::from_secs(9);
        let span = Span { started: at(0), done: Some(end), replied: Some(end) };
        let line = draw(span, end, column(COLUMN, end));
        assert_eq!(line.len(), WIDTH - 1);
        assert!(draw(span, end, COLUMN).len() <= WIDTH);
    }

    #[test]
    fn colours_change_nothing_else() {
        let painted = paint("--==.>");
        let plain = anstream::adapter::strip_str(&painted).to_string();
        assert_eq!(plain, "--==.>");
    }
}
