//! The three ordering modes: the same calls, sent to three agents at once.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};

use super::calls::{AGENTS, CALLS, COLUMN, DB, KEYLESS, Row, WEB};
use super::log::{HANDLER_TIMEOUT, Log, Step};
use super::stage::Stage;
use super::team::Team;
use super::timeline;
use super::unexpected::Unexpected;
use crate::executor::Executor;

/// How often the live picture is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Sends all calls to all agents at once, shows their progress, and checks it.
pub(super) async fn compare(stage: &mut Stage, team: &Team) -> Result<(), Unexpected> {
    stage.scene("The three ordering modes, side by side");
    stage.line("   The manager sends the same six calls, all at once, to each of the agents.");
    stage.line("   Calls that share a key (`web`, `db`) are ordered; `list` has no key.");
    stage.line("");
    let start = Instant::now();
    run(stage.executor, team, start).await?;
    for line in picture(&team.log, start, Instant::now()) {
        stage.line(&line);
    }
    stage.line("");
    let seconds = column(&team.log, start, Instant::now()).as_secs_f64();
    stage.line(&format!("   {}  waits for its order    {}  its handler runs", paint("-"), paint("=")));
    stage.line(&format!(
        "   {}  done, reply held back  {}  its reply leaves      one column: {seconds:.1} s",
        paint("."),
        paint(">")
    ));
    stage.line("");
    judge(stage, &team.log);
    Ok(())
}

fn paint(sample: &str) -> String {
    timeline::paint(sample)
}

async fn run(executor: Executor, team: &Team, start: Instant) -> Result<(), Unexpected> {
    let mut calls = FuturesUnordered::new();
    for (agent, (name, _)) in AGENTS.iter().enumerate() {
        let peer = team.agent(name).ok_or("an agent has gone")?;
        for (row, call) in CALLS.iter().enumerate() {
            let argument = Row { row };
            let mut invocation = peer.invoke::<_, ()>(call.verb, &argument).timeout(HANDLER_TIMEOUT * 4);
            if let Some(key) = call.key {
                invocation = invocation.key(key);
            }
            // The calls are made here, in this order; the futures only wait.
            calls.push(invocation.into_future().map(move |result| (agent, row, result)));
        }
    }
    // On a terminal one can watch; elsewhere nothing is drawn.
    let live = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        live.set_style(style);
    }
    loop {
        match select(calls.next(), std::pin::pin!(executor.sleep(FRAME))).await {
            Either::Left((Some((agent, row, result)), _)) => {
                result?;
                team.log.mark(agent, row, Step::Replied);
            }
            Either::Left((None, _)) => break,
            Either::Right(_) => {}
        }
        if !live.is_hidden() {
            let picture = picture(&team.log, start, Instant::now()).join("\n");
            live.set_message(match anstream::AutoStream::choice(&std::io::stderr()) {
                anstream::ColorChoice::Never => anstream::adapter::strip_str(&picture).to_string(),
                _ => picture,
            });
        }
    }
    live.finish_and_clear();
    Ok(())
}

fn column(log: &Log, start: Instant, now: Instant) -> Duration {
    let end = log.marks().last().map_or(now, |mark| mark.at);
    timeline::column(COLUMN, end.saturating_duration_since(start))
}

/// One row for each call, one timeline for each mode, and below them the order of the replies for each key.
fn picture(log: &Log, start: Instant, now: Instant) -> Vec<String> {
    let column = column(log, start, now);
    let heads = ["unordered", "exit-ordered", "key-serialized"];
    let mut lines = vec![line("   key  call", heads.map(String::from), |text| text.to_owned())];
    lines.push(line("", AGENTS.map(|(name, _)| format!("({name})")), |text| text.to_owned()));
    for (row, call) in CALLS.iter().enumerate() {
        let label = format!("   {:<4} {}", call.key.unwrap_or("-"), call.verb);
        let panels = [0, 1, 2].map(|agent| {
            timeline::draw(log.span(agent, row, start), now.saturating_duration_since(start), column)
        });
        lines.push(line(&label, panels, timeline::paint));
    }
    lines.push(String::new());
    for (key, rows) in [("web", &WEB[..]), ("db", &DB[..])] {
        let panels = [0, 1, 2].map(|agent| {
            let verbs: Vec<&str> = log.replies(agent, rows).iter().map(|&row| CALLS[row].verb).collect();
            verbs.join(" ")
        });
        lines.push(line(&format!("   {key:<4} replies"), panels, |text| text.to_owned()));
    }
    lines
}

/// A label and three panels, painted once they have their width; no space at the end.
fn line(label: &str, panels: [String; 3], paint: fn(&str) -> String) -> String {
    let width = timeline::WIDTH;
    let mut line = format!("{label:<17}");
    for (index, panel) in panels.iter().enumerate() {
        line.push_str(&paint(panel));
        if index < 2 {
            line.push_str(&" ".repeat((width + 1).saturating_sub(panel.len())));
        }
    }
    line.trim_end().to_owned()
}

fn judge(stage: &mut Stage, log: &Log) {
    use Step::{Done, Replied, Started};
    let [alpha, beta, gamma] = [0, 1, 2];
    let all = [0, 1, 2, 3, 4, KEYLESS];
    stage.promise(
        log.came_before(alpha, &[((1, Replied), (0, Replied)), ((4, Replied), (3, Replied))]),
        "unordered: replies leave when they are done; a quick call overtakes",
    );
    stage.promise(
        [WEB.as_slice(), &DB].iter().all(|rows| log.replies(beta, rows) == *rows)
            && log
                .came_before(beta, &[((1, Done), (0, Done)), ((2, Done), (0, Done)), ((4, Done), (3, Done))]),
        "exit-ordered: handlers overlap, replies leave in the order of the calls",
    );
    stage.promise(
        log.came_before(gamma, &[((0, Done), (1, Started)), ((1, Done), (2, Started))])
            && log.came_before(gamma, &[((3, Done), (4, Started)), ((0, Replied), (1, Replied))]),
        "key-serialized: one handler at a time per key, in the order of the calls",
    );
    stage.promise(
        [alpha, beta, gamma].iter().all(|&agent| {
            log.came_before(agent, &[((3, Started), (0, Done)), ((KEYLESS, Replied), (0, Replied))])
        }),
        "other keys go on meanwhile, and a call without a key waits for nobody",
    );
    stage.promise(
        [alpha, beta, gamma].iter().all(|&agent| {
            log.replies(agent, &all).len() == all.len()
                && log.marks().iter().filter(|mark| mark.agent == agent).count() == 3 * all.len()
        }),
        "each of the 18 calls ran once and was answered once",
    );
}
