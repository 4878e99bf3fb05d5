//! The reference model of one endpoint: the state of each request, which may start, and which reply may be sent.

use std::collections::BTreeMap;

use super::model::Answer;
use callosum_proto::ordering::{Arrival, KeyScope, OrderingConfig, OrderingMode};
use callosum_proto::{ConnectionId, Endpoint, OrderingKey, Refusal, RequestId, StopReason};

/// The requests that an endpoint knows of.
#[derive(Debug)]
pub(super) struct Requests {
    config: OrderingConfig,
    known: BTreeMap<RequestId, Request>,
    /// Answers to requests that their callers have given up: they wait for no order, and nothing else is left of the requests.
    at_once: BTreeMap<RequestId, Answer>,
    arrivals: u64,
}

#[derive(Debug)]
struct Request {
    call: usize,
    key: OrderingKey,
    /// Its place in the order of arrival.
    place: u64,
    ready: bool,
    stage: Stage,
    gone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// With the answer if the handler brings none.
    Running {
        withdrawn: Option<Answer>,
        given_up: bool,
    },
    /// The answer waits for its order.
    Done(Answer),
}

impl Requests {
    pub(super) fn new(config: OrderingConfig) -> Self {
        Self { config, known: BTreeMap::new(), at_once: BTreeMap::new(), arrivals: 0 }
    }

    pub(super) fn arrived(&mut self, arrival: &Arrival, call: usize) {
        self.arrivals += 1;
        let (key, place, ready) = (arrival.key.clone(), self.arrivals, arrival.ready);
        let request = Request { call, key, place, ready, stage: Stage::Waiting, gone: false };
        assert!(self.known.insert(arrival.request, request).is_none(), "{} arrives twice", arrival.request);
    }

    pub(super) fn ready(&mut self, id: RequestId) {
        if let Some(request) = self.known.get_mut(&id) {
            assert!(!std::mem::replace(&mut request.ready, true), "{request:?} is ready twice");
        }
    }

    pub(super) fn withdrawn(&mut self, id: RequestId, reason: StopReason, answer: Answer) {
        let Some(request) = self.known.get_mut(&id).filter(|request| !request.gone) else { return };
        match &mut request.stage {
            Stage::Running { withdrawn, given_up } => {
                withdrawn.get_or_insert(answer);
                *given_up |= reason.is_given_up();
            }
            Stage::Waiting | Stage::Done(_) if reason.is_given_up() => {
                self.known.remove(&id);
                self.at_once.insert(id, answer);
            }
            Stage::Waiting => request.stage = Stage::Done(answer),
            // Its handler had ended in time.
            Stage::Done(_) => {}
        }
    }

    /// The handler has ended, or never ran.
    pub(super) fn finished(&mut self, id: RequestId, given: Option<Answer>) {
        let Some(request) = self.known.get_mut(&id) else { return };
        let Stage::Running { withdrawn, given_up } = &mut request.stage else { return };
        if request.gone {
            self.known.remove(&id);
            return;
        }
        let answer = given.or(withdrawn.take()).unwrap_or(Answer::Cancelled);
        if *given_up {
            self.known.remove(&id);
            self.at_once.insert(id, answer);
        } else {
            request.stage = Stage::Done(answer);
        }
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.at_once.retain(|id, _| id.connection() != connection);
        self.known.retain(|id, request| {
            request.gone |= id.connection() == connection;
            !request.gone || matches!(request.stage, Stage::Running { .. })
        });
    }

    pub(super) fn refused(&mut self, id: RequestId) {
        // It may have been withdrawn since it was refused.
        if self.at_once.remove(&id).is_some() {
            return;
        }
        let request = self.known.remove(&id).unwrap_or_else(|| panic!("{id} is refused, and unknown"));
        assert!(!matches!(request.stage, Stage::Running { .. }), "{request:?} is refused");
    }

    /// # Panics
    /// If the request must not start: it is not ready or has started, another with its key runs, or an earlier one waits.
    pub(super) fn started(&mut self, id: RequestId) {
        let started = self.known.get(&id).unwrap_or_else(|| panic!("{id} starts, and is unknown"));
        assert!(started.stage == Stage::Waiting && started.ready && !started.gone, "{started:?} starts");
        if self.config.mode == OrderingMode::KeySerialized && started.key.is_given() {
            for (other_id, other) in self.known.iter().filter(|other| self.shares_key(id, started, other)) {
                assert!(!matches!(other.stage, Stage::Running { .. }), "{started:?} runs beside {other:?}");
                let is_earlier = other.stage == Stage::Waiting
                    && other_id.connection() == id.connection()
                    && other.place < started.place;
                assert!(!is_earlier, "{started:?} starts before {other:?}");
            }
        }
        let stage = Stage::Running { withdrawn: None, given_up: false };
        self.known.get_mut(&id).expect("it was found").stage = stage;
    }

    fn shares_key(
        &self,
        id: RequestId,
        request: &Request,
        (other_id, other): &(&RequestId, &Request),
    ) -> bool {
        let in_scope = self.config.scope == KeyScope::Global || other_id.connection() == id.connection();
        **other_id != id && in_scope && other.key == request.key
    }

    /// # Panics
    /// If an earlier reply with the same key has not left.
    pub(super) fn check_order(&self, id: RequestId) {
        let request = self.known.get(&id).unwrap_or_else(|| panic!("{id} replies, and is unknown"));
        if self.config.mode == OrderingMode::Unordered || !request.key.is_given() {
            return;
        }
        for (_, other) in self.known.iter().filter(|other| self.shares_key(id, request, other)) {
            assert!(other.gone || other.place > request.place, "{request:?} replies before {other:?}");
        }
    }

    /// The endpoint sends a reply.
    ///
    /// # Panics
    /// If it is out of order, or another one than was given.
    pub(super) fn replied(&mut self, id: RequestId, answer: &Answer) {
        if let Some(expected) = self.at_once.remove(&id) {
            return assert_eq!(*answer, expected, "{id}");
        }
        self.check_order(id);
        let request = self.known.remove(&id).expect("it was found");
        // Too much was held already.
        let replaced = *answer == Answer::Error(Refusal::ReplyTooLarge.name());
        assert!(
            request.stage == Stage::Done(answer.clone()) || replaced,
            "{request:?} is answered {answer:?}"
        );
    }

    /// Compares the model with an endpoint that has decided all that it can.
    ///
    /// # Panics
    /// If the endpoint counts otherwise.
    pub(super) fn check(&self, endpoint: &Endpoint) {
        callosum_proto::internals::audit_endpoint(endpoint);
        let stages = || self.known.values().map(|request| &request.stage);
        let waiting = stages().filter(|stage| **stage == Stage::Waiting).count();
        let running = stages().filter(|stage| matches!(stage, Stage::Running { .. })).count();
        assert_eq!((endpoint.waiting(), endpoint.running()), (waiting, running), "{:?}", self.known);
        assert_eq!(endpoint.is_idle(), self.known.is_empty());
    }

    pub(super) fn running(&self) -> usize {
        self.known.values().filter(|request| matches!(request.stage, Stage::Running { .. })).count()
    }

    /// Handlers of one connection, with those that lend their slots.
    pub(super) fn running_of(&self, connection: ConnectionId) -> usize {
        let own = self.known.iter().filter(|(id, _)| id.connection() == connection);
        own.filter(|(_, request)| matches!(request.stage, Stage::Running { .. })).count()
    }

    /// Whether this call's request waits to start.
    pub(super) fn waits(&self, call: usize) -> bool {
        self.known.values().any(|request| request.call == call && request.stage == Stage::Waiting)
    }

    /// Whether a call's request waits for its argument.
    pub(super) fn is_incomplete(&self, call: usize) -> bool {
        self.known.values().any(|request| request.call == call && !request.ready)
    }

    /// Whether requests with this key are ordered, and another one than this call's is known.
    pub(super) fn waits_for_order(&self, call: usize) -> bool {
        let mut ordered = self.known.values().filter(|request| request.call == call);
        ordered.any(|request| request.key.is_given() && self.config.mode != OrderingMode::Unordered)
    }
}
