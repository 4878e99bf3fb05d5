//! The display of a tunnel on stderr: a table on a terminal, lines elsewhere.

use std::future::pending;
use std::io::{IsTerminal, stderr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use callosum_tunnel::{ConnectionInfo, Summary, Tunnel, TunnelEvent, TunnelEvents};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use indicatif::HumanBytes;

use super::table::Table;
use crate::executor::Executor;
use crate::exit::{advice, note, printable};

/// How often the table is drawn, and what its rates are of.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) enum View {
    Quiet,
    Lines,
    Table(Table),
}

impl View {
    pub(super) fn new(quiet: bool, forwards: Vec<Arc<str>>) -> Self {
        match (quiet, stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Table(Table::new(forwards)),
            (false, false) => Self::Lines,
        }
    }

    /// Shows what happens, but that the forwards in `announced` accept. Never ends before the tunnel does.
    pub(super) async fn follow(
        &self,
        tunnel: &Tunnel,
        events: TunnelEvents,
        announced: Vec<Arc<str>>,
        executor: Executor,
    ) {
        let events = self.events(events, announced);
        let drawing = async {
            let Self::Table(table) = self else { return pending().await };
            loop {
                table.draw(&tunnel.totals());
                executor.sleep(INTERVAL).await;
            }
        };
        match select(pin!(events), pin!(drawing)).await {
            Either::Left(((), _)) | Either::Right(((), _)) => {}
        }
    }

    async fn events(&self, mut events: TunnelEvents, mut announced: Vec<Arc<str>>) {
        while let Some(event) = events.next().await {
            let line = match (self, &event) {
                (_, TunnelEvent::Listening { forward, .. }) => {
                    match announced.iter().position(|name| name == forward) {
                        Some(first) => {
                            announced.swap_remove(first);
                            None
                        }
                        None => Some(format!("forwarding {forward} again")),
                    }
                }
                (_, TunnelEvent::ListenFailed { forward, reason, .. }) => {
                    Some(format!("{forward}: the other side does not listen any more: {reason}"))
                }
                (_, TunnelEvent::AcceptFailed { forward, error }) => {
                    Some(format!("{forward}: can't accept: {error}"))
                }
                // The table counts these.
                (Self::Lines, event) => line(event),
                _ => None,
            };
            if let Some(line) = line {
                self.note(&line);
            }
        }
    }

    /// Prints a note, unless `--quiet` is given.
    pub(super) fn note(&self, text: &str) {
        // Targets may be what clients of the forwards have written.
        let text = format!("{}\n", printable(text));
        match self {
            Self::Quiet => {}
            Self::Lines => note(&text),
            Self::Table(table) => table.aside(|| note(&text)),
        }
    }
}

/// The outcome of a connection.
fn line(event: &TunnelEvent) -> Option<String> {
    match event {
        TunnelEvent::Opened(connection) => Some(format!("opened {}", name(connection))),
        TunnelEvent::Refused { connection, reason } => {
            Some(format!("refused {}: {reason}{}", name(connection), advice(reason)))
        }
        TunnelEvent::Closed(Summary { connection, to_target, from_target, duration, end, .. }) => {
            let (there, back) = (HumanBytes(*to_target), HumanBytes(*from_target));
            let took = humantime::format_duration(Duration::from_millis(duration.as_millis() as u64));
            Some(format!("closed {}: {there} there, {back} back, {took}: {end}", name(connection)))
        }
        _ => None,
    }
}

fn name(connection: &ConnectionInfo) -> String {
    let ConnectionInfo { id, forward, target, source, .. } = connection;
    let target =
        target.as_ref().map(ToString::to_string).filter(|target| !forward.ends_with(target.as_str()));
    let target = target.map(|target| format!(" to {target}")).unwrap_or_default();
    let source = source.map(|source| format!(" from {source}")).unwrap_or_default();
    format!("#{id} {forward}{target}{source}")
}
