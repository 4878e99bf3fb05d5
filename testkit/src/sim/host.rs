//! One host: the endpoint that its connections share, and its handlers.

use std::collections::BTreeMap;

use super::app::{Reader, Writer};
use super::carrying::Mail;
use super::link_side::LinkSide;
use super::model::{Answer, Model};
use super::requests::Requests;
use callosum_proto::ordering::{OrderingConfig, OrderingMode};
use callosum_proto::{Endpoint, EndpointConfig, Event, OrderingKey, RequestId};

pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    pub(super) config: EndpointConfig,
    pub(super) requests: Requests,
    pub(super) handlers: BTreeMap<RequestId, Handler>,
    pub(super) mail: Mail,
}

/// A handler that has started and not ended.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) call: usize,
    pub(super) at: LinkSide,
    pub(super) key: OrderingKey,
    pub(super) stage: Stage,
    pub(super) argument: Option<Reader>,
    pub(super) plan: Plan,
    pub(super) writer: Option<Writer>,
    /// The handler has to stop.
    pub(super) stopped: bool,
    /// Its connection is closed.
    pub(super) gone: bool,
    /// The request was answered before the handler ended.
    pub(super) answered: bool,
    /// Nested calls that it waits for.
    pub(super) nested: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    /// It waits until its streamed result may begin.
    Beginning,
    /// Its streamed result is being written.
    Replying,
}

impl Handler {
    /// Whether its connection waits for its answer.
    pub(super) fn is_at_work(&self) -> bool {
        !self.gone && !self.answered
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
            (Event::Reassembled { body, .. }, Some(reader), _) => reader.reassembled(&body, model, max_body),
            (Event::Reassembled { .. }, None, _) => panic!("not reassembled: {self:?}"),
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
    pub(super) fn new(config: EndpointConfig) -> Self {
        Self {
            endpoint: Endpoint::new(config.clone()),
            requests: Requests::new(config.ordering.clone()),
            config,
            handlers: BTreeMap::new(),
            mail: Mail::default(),
        }
    }

    pub(super) fn ordering(&self) -> &OrderingConfig {
        &self.config.ordering
    }

    pub(super) fn orders_replies(&self) -> bool {
        self.ordering().mode != OrderingMode::Unordered
    }

    /// The handler of a request, unless its connection expects nothing of it any more.
    pub(super) fn handler(&mut self, id: RequestId) -> Option<&mut Handler> {
        self.handlers.get_mut(&id).filter(|handler| handler.is_at_work())
    }

    /// The handler has ended; `answer` is that of its own reply.
    pub(super) fn finish(&mut self, id: RequestId, reply: Option<callosum_proto::Reply>) {
        self.requests.finished(id, reply.as_ref().map(Answer::of));
        self.endpoint.finish(id, reply);
    }
}
