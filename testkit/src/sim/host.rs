//! An endpoint: the scheduler that its sessions share, and its handlers.

use std::collections::BTreeMap;

use super::app::{Reader, Writer};
use super::book::{Book, Said};
use callosum_proto::scheduler::{BuiltinScheduler, KeyScope, OrderingMode, SchedulerConfig};
use callosum_proto::session::{Event, IncomingId};
use callosum_proto::{OrderingKey, PeerId, Ticket};

/// Where a session is: which connection, which side of it, and of which incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
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
    pub(super) seat: Seat,
    pub(super) id: IncomingId,
    pub(super) key: OrderingKey,
    pub(super) stage: Stage,
    pub(super) argument: Option<Reader>,
    pub(super) plan: Plan,
    pub(super) writer: Option<Writer>,
    /// It has to stop, and to say this.
    pub(super) stopped: Option<Said>,
    /// Its session is over.
    pub(super) gone: bool,
    /// It was answered before its turn.
    pub(super) answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Running,
    /// It has ended, and its answer waits for its turn.
    Done,
    /// It is its turn, and its result is written now.
    Leaving,
}

impl Handler {
    /// Whether somebody works for its session.
    pub(super) fn is_at_work(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Leaving) && !self.gone && !self.answered
    }

    /// Whether it waits for an argument that it does not read.
    pub(super) fn is_ignoring(&self) -> bool {
        self.is_at_work() && self.argument.as_ref().is_some_and(Reader::is_ignored)
    }

    /// Something has come of its contents.
    pub(super) fn wake(&mut self, event: Event, book: &mut Book, max_body: usize) {
        match (event, &mut self.argument, &mut self.writer) {
            (Event::Readable(_), Some(reader), _) => reader.ready = true,
            (Event::Writable(_), _, Some(writer)) => writer.ready = true,
            (Event::Collected { body, .. }, Some(reader), _) => reader.collected(&body, book, max_body),
            (Event::Collected { .. }, None, _) => panic!("nobody puts it together: {self:?}"),
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
    /// Whether a result that has begun does not end well.
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

    pub(super) fn orders_exits(&self) -> bool {
        self.scheduler.config().mode != OrderingMode::Unordered
    }

    /// Whether the result of a handler may begin before the handler's turn to leave has come.
    pub(super) fn may_begin(&self, handler: &Handler) -> bool {
        !handler.key.is_given() || self.scheduler.config().mode != OrderingMode::ExitOrdered
    }

    /// # Panics
    /// If another handler of the key runs that must not.
    pub(super) fn check_start(&self, started: &Handler) {
        let config = self.scheduler.config();
        if config.mode != OrderingMode::KeySerialized || !started.key.is_given() {
            return;
        }
        let same = |other: &&Handler| {
            other.key == started.key
                && (config.scope == KeyScope::Global || other.seat.peer == started.seat.peer)
        };
        for other in self.handlers.values().filter(same) {
            assert!(other.stage != Stage::Running, "{started:?} runs beside {other:?}");
            let earlier = other.stage == Stage::Waiting
                && other.seat.peer == started.seat.peer
                && other.call < started.call;
            assert!(!earlier, "{started:?} starts before {other:?}");
        }
    }

    pub(super) fn find(&self, peer: PeerId, id: IncomingId) -> Option<Ticket> {
        let found = self.handlers.iter().find(|(_, handler)| {
            handler.seat.peer == peer && handler.id == id && !handler.gone && !handler.answered
        })?;
        Some(*found.0)
    }
}
