//! One host: the scheduler that its sessions share, and its handlers.

use std::collections::BTreeMap;

use super::app::{Reader, Writer};
use super::model::{Answer, Model};
use callosum_proto::scheduler::{BuiltinScheduler, KeyScope, OrderingMode, SchedulerConfig};
use callosum_proto::session::{Event, IncomingId};
use callosum_proto::{OrderingKey, PeerId, Ticket};

/// A session: its connection, its side of the connection, and a number of its own, since a new connection gets new
/// sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionId {
    pub(super) link: usize,
    pub(super) side: usize,
    pub(super) peer: PeerId,
}

pub(super) struct Host {
    pub(super) scheduler: BuiltinScheduler,
    pub(super) handlers: BTreeMap<Ticket, Handler>,
    next_ticket: u64,
}

#[derive(Debug)]
pub(super) struct Handler {
    pub(super) call: usize,
    pub(super) session_id: SessionId,
    pub(super) id: IncomingId,
    pub(super) key: OrderingKey,
    pub(super) stage: Stage,
    pub(super) argument: Option<Reader>,
    pub(super) plan: Plan,
    pub(super) writer: Option<Writer>,
    /// The handler has to stop and to answer this.
    pub(super) stopped: Option<Answer>,
    /// Its session is closed.
    pub(super) gone: bool,
    /// The request was answered before the handler ended.
    pub(super) answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Running,
    /// The handler has ended; its answer waits in the release queue.
    Done,
    /// The answer is released; its streamed result is being written.
    Replying,
}

impl Handler {
    /// Whether the handler runs, and its session waits for its answer.
    pub(super) fn is_at_work(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Replying) && !self.gone && !self.answered
    }

    /// Whether the handler runs and doesn't read its argument until the end of the simulation.
    pub(super) fn is_ignoring(&self) -> bool {
        self.is_at_work() && self.argument.as_ref().is_some_and(Reader::is_ignored)
    }

    /// An event of one of its streams.
    pub(super) fn wake(&mut self, event: Event, model: &mut Model, max_body: usize) {
        match (event, &mut self.argument, &mut self.writer) {
            (Event::Readable(_), Some(reader), _) => reader.ready = true,
            (Event::Writable(_), _, Some(writer)) => writer.ready = true,
            (Event::Collected { body, .. }, Some(reader), _) => reader.collected(&body, model, max_body),
            (Event::Collected { .. }, None, _) => panic!("not collected: {self:?}"),
            _ => {}
        }
    }
}

/// How a handler answers.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Result { len: usize, compressed: bool },
    Stream { len: usize, compressed: bool, fails: bool },
    Failure { traceback: usize },
    Error,
    Cancelled,
}

impl Plan {
    /// Whether a streamed result ends with a failure.
    pub(super) fn fails(&self) -> bool {
        matches!(self, Self::Stream { fails: true, .. })
    }
}

impl Host {
    pub(super) fn new(config: SchedulerConfig) -> Self {
        Self { scheduler: BuiltinScheduler::new(config), handlers: BTreeMap::new(), next_ticket: 0 }
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    pub(super) fn orders_replies(&self) -> bool {
        self.scheduler.config().mode != OrderingMode::Unordered
    }

    /// Whether a streamed result may begin before the scheduler releases the answer.
    pub(super) fn may_begin(&self, handler: &Handler) -> bool {
        !handler.key.is_given() || self.scheduler.config().mode != OrderingMode::ExitOrdered
    }

    /// # Panics
    /// If another handler with the same key runs, or an earlier one still waits.
    pub(super) fn check_start(&self, started: &Handler) {
        let config = self.scheduler.config();
        if config.mode != OrderingMode::KeySerialized || !started.key.is_given() {
            return;
        }
        let same = |other: &&Handler| {
            other.key == started.key
                && (config.scope == KeyScope::Global || other.session_id.peer == started.session_id.peer)
        };
        for other in self.handlers.values().filter(same) {
            assert!(other.stage != Stage::Running, "{started:?} runs beside {other:?}");
            let earlier = other.stage == Stage::Waiting
                && other.session_id.peer == started.session_id.peer
                && other.call < started.call;
            assert!(!earlier, "{started:?} starts before {other:?}");
        }
    }

    pub(super) fn find(&self, peer: PeerId, id: IncomingId) -> Option<Ticket> {
        let found = self.handlers.iter().find(|(_, handler)| {
            handler.session_id.peer == peer && handler.id == id && !handler.gone && !handler.answered
        })?;
        Some(*found.0)
    }
}
