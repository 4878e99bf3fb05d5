//! The display of a tunnel on stderr: a table on a terminal, lines elsewhere.

use std::collections::VecDeque;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::Arc;
use std::time::Duration;

use callosum_runtime::{Event, Events};
use callosum_tunnel::{ConnectionInfo, Reason, Summary, Tunnel, TunnelEvent, TunnelEvents};
use futures_util::future::join;
use futures_util::{FutureExt, StreamExt};
use indicatif::HumanBytes;

use super::table::Table;
use crate::executor::{Executor, beside};
use crate::exit::{Lines, advice};
use crate::stderr::{note, printable};

/// How often the table is drawn, and what its rates are of.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reasons that are shown while there is no connection: attempts may fail for several in turn.
const MAX_CAUSES: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Quiet,
    Lines,
    Table,
}

impl View {
    pub(super) fn new(quiet: bool) -> Self {
        match (quiet, stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Table,
            (false, false) => Self::Lines,
        }
    }

    /// Shows what happens, but that the forwards in `announced` accept. Ends when the tunnel does.
    ///
    /// A forward of port 0 that listens on another port after a reconnect is announced on stdout as those are, for the
    /// program that reads stdout: also if quiet. If both are terminals, the note is enough.
    pub(super) async fn follow(
        self,
        tunnel: &Tunnel,
        events: TunnelEvents,
        links: Events,
        announced: Vec<Arc<str>>,
        executor: Executor,
    ) {
        let table = (self == Self::Table).then(|| Table::new(announced.clone()));
        let drawing = async {
            let Some(mut table) = table else { return };
            loop {
                table.draw(&tunnel.totals());
                executor.sleep(INTERVAL).await;
            }
        };
        let meanwhile = join(drawing, self.links(links)).map(drop);
        beside(meanwhile, self.events(events, announced)).await;
    }

    /// Shows why there is no connection to the server, each reason once, and that there is one again.
    async fn links(self, mut events: Events) {
        let mut shown = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Disconnected { cause, .. } | Event::Reconnecting { cause, .. } => {
                    let cause = cause.to_string();
                    if !shown.contains(&cause) && shown.len() < MAX_CAUSES {
                        self.note(&format!("no connection to the server: {cause}"));
                        shown.push(cause);
                    }
                }
                Event::Connected(_) if !shown.is_empty() => {
                    self.note("connected to the server again");
                    shown.clear();
                }
                _ => {}
            }
        }
    }

    async fn events(self, mut events: TunnelEvents, mut announced: Vec<Arc<str>>) {
        let (mut current, mut lines) = (Current::new(&announced), Lines::default());
        let is_told = self != Self::Table || !stdout().is_terminal();
        // Nobody may read stdout any more, which delays no note.
        while let Some(event) = beside(current.tell(&mut lines), events.next()).await {
            match &event {
                TunnelEvent::Listening { forward, .. } if is_told => current.listens(forward),
                TunnelEvent::ListenFailed { forward, .. } => current.fails(forward),
                _ => {}
            }
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
                // Said of the connection to the server, with its cause.
                (_, TunnelEvent::ListenFailed { reason: Reason::NotConnected, .. }) => None,
                (_, TunnelEvent::ListenFailed { forward, reason, .. }) => {
                    Some(format!("{forward}: the other side does not listen any more: {reason}"))
                }
                (_, TunnelEvent::AcceptFailed { forward, error }) => {
                    Some(format!("{forward}: can't accept: {error}"))
                }
                (_, TunnelEvent::HandshakeFailed { forward, source, error, unreported, .. }) => {
                    let source = source.map(|source| format!(" from {source}")).unwrap_or_default();
                    let more = if *unreported > 0 { format!(" ({unreported} more)") } else { String::new() };
                    Some(format!("refused {forward}{source}: {error}{more}"))
                }
                (_, TunnelEvent::Refused { connection, reason }) => {
                    Some(format!("refused {}: {reason}{}", name(connection), advice(reason)))
                }
                (Self::Lines, event) => line(event),
                // The table counts these.
                _ => None,
            };
            if let Some(line) = line {
                self.note(&line);
            }
        }
    }

    /// Prints a note, unless `--quiet` is given.
    pub(super) fn note(self, text: &str) {
        // Targets may be what clients of the forwards have written.
        if self != Self::Quiet {
            note(&format!("{}\n", printable(text)));
        }
    }
}

/// The name of each forward that stdout has, or is to have: one of a forward, however often it changes.
struct Current {
    forwards: Vec<Named>,
    /// Indices of those whose names are to be written, each once.
    waiting: VecDeque<usize>,
}

struct Named {
    name: Arc<str>,
    is_listening: bool,
}

impl Current {
    fn new(announced: &[Arc<str>]) -> Self {
        let forwards = announced.iter().map(|name| Named { name: name.clone(), is_listening: true });
        Self { forwards: forwards.collect(), waiting: VecDeque::new() }
    }

    fn fails(&mut self, name: &Arc<str>) {
        if let Some(forward) = self.forwards.iter_mut().find(|forward| forward.name == *name) {
            forward.is_listening = false;
        }
    }

    fn listens(&mut self, name: &Arc<str>) {
        if let Some(forward) = self.forwards.iter_mut().find(|forward| forward.name == *name) {
            forward.is_listening = true;
            return;
        }
        // It is one that listened on another port. Of several to the same target, it doesn't matter which.
        let was =
            |forward: &Named| !forward.is_listening && without_port(&forward.name) == without_port(name);
        let Some(index) = self.forwards.iter().position(was) else { return };
        self.forwards[index] = Named { name: name.clone(), is_listening: true };
        if !self.waiting.contains(&index) {
            self.waiting.push_back(index);
        }
    }

    /// Writes the names that are to be written. Cancel safe.
    async fn tell(&mut self, lines: &mut Lines) {
        // Errors: nobody reads it any more.
        loop {
            lines.written().await.ok();
            let Some(index) = self.waiting.pop_front() else { return };
            lines.tell(format!("forwarding {}", self.forwards[index].name)).await.ok();
        }
    }
}

/// A name of a forward, in parts that are the same whichever port the system has chosen.
fn without_port(name: &str) -> Option<(&str, &str)> {
    let (listen, target) = name.split_once(" → ")?;
    Some((listen.rsplit_once(':')?.0, target))
}

/// The beginning and the end of a connection.
fn line(event: &TunnelEvent) -> Option<String> {
    match event {
        TunnelEvent::Opened(connection) => Some(format!("opened {}", name(connection))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_has_one_name_and_each_change_is_told() {
        let names = ["h:1 → t:80", "h:2 → t:80", "h:3 → u:80"].map(Arc::<str>::from);
        let mut current = Current::new(&names);
        let mut told = |from: &str, to: &str| {
            current.fails(&from.into());
            current.listens(&to.into());
            assert_eq!(current.forwards.len(), 3);
            current
                .waiting
                .drain(..)
                .map(|index| current.forwards[index].name.to_string())
                .collect::<Vec<_>>()
        };
        for (from, to) in [("h:1 → t:80", "h:4 → t:80"), ("h:4 → t:80", "h:1 → t:80")] {
            assert_eq!(told(from, to), [to]);
            assert!(told(to, to).is_empty(), "the same port again");
        }
        assert_eq!(told("h:3 → u:80", "h:5 → u:80"), ["h:5 → u:80"]);
    }

    #[test]
    fn what_nobody_reads_does_not_grow() {
        let mut current = Current::new(&["h:1 → t:80".into()]);
        for port in 1..100 {
            current.fails(&format!("h:{port} → t:80").into());
            current.listens(&format!("h:{} → t:80", port + 1).into());
        }
        assert_eq!((current.forwards.len(), current.waiting.len()), (1, 1));
        assert_eq!(&*current.forwards[0].name, "h:100 → t:80");
    }
}
