//! How a host carries events between its endpoint and its connections: at once or late, one by one or in batches, and events of
//! different connections in any order. The events from one connection, and those to it, keep their order.

use std::collections::{BTreeMap, VecDeque};

use super::link_side::LinkSide;
use super::model::{Answer, StreamState};
use super::{Pace, World};
use callosum_proto::{
    ConnectionEvent, ConnectionId, EndpointEvent, Refusal, Replied, Reply, ReplyError, RequestId,
};

/// Events that are under way. None of the queues is empty.
#[derive(Default)]
pub(super) struct Mail {
    reports: BTreeMap<ConnectionId, VecDeque<EndpointEvent>>,
    decisions: BTreeMap<ConnectionId, VecDeque<ConnectionEvent>>,
    /// The calls whose requests are among the reports.
    arriving: BTreeMap<RequestId, usize>,
}

/// A step of a host.
#[derive(Clone, Copy)]
enum Step {
    Report,
    Poll,
    Decide,
}

fn push<T>(queues: &mut BTreeMap<ConnectionId, VecDeque<T>>, connection: ConnectionId, event: T) {
    queues.entry(connection).or_default().push_back(event);
}

/// Takes the first event of one of the queues.
fn pop<T>(queues: &mut BTreeMap<ConnectionId, VecDeque<T>>, which: usize) -> Option<(ConnectionId, T)> {
    let connection = *queues.keys().nth(which)?;
    let queue = queues.get_mut(&connection)?;
    let event = queue.pop_front()?;
    if queue.is_empty() {
        queues.remove(&connection);
    }
    Some((connection, event))
}

impl Mail {
    pub(super) fn is_empty(&self) -> bool {
        self.reports.is_empty() && self.decisions.is_empty()
    }
}

impl World<'_> {
    /// Takes what a side's connection reports to its endpoint.
    pub(super) fn collect(&mut self, link: usize, side: usize) {
        let host = self.host(link, side);
        let driver = &mut self.links[link].drivers[side];
        while let Some(event) = driver.connection.poll_endpoint_event() {
            if let EndpointEvent::Arrived(arrival) = &event {
                let call = driver.arrived(arrival.request, &arrival.key, &mut self.model);
                self.hosts[host].mail.arriving.insert(arrival.request, call);
            }
            push(&mut self.hosts[host].mail.reports, driver.at.connection, event);
        }
    }

    /// Carries all events of a host, or with a random pace some of them; returns whether there were any.
    pub(super) fn carry(&mut self, host: usize) -> bool {
        let most = match self.pace == Pace::Random && self.chance.one_in(3) {
            true => self.chance.below(6),
            false => usize::MAX,
        };
        let mut carried = 0;
        let mut may_poll = true;
        while carried < most {
            self.collect_all(host);
            let mail = &self.hosts[host].mail;
            let possible = [
                (!mail.reports.is_empty()).then_some(Step::Report),
                may_poll.then_some(Step::Poll),
                (!mail.decisions.is_empty()).then_some(Step::Decide),
            ];
            let possible: Vec<_> = possible.into_iter().flatten().collect();
            if possible.is_empty() {
                self.hosts[host].requests.check(&self.hosts[host].endpoint);
                break;
            }
            let did = match self.chance.pick(&possible) {
                Step::Report => self.report(host),
                Step::Poll => self.poll_endpoint(host),
                Step::Decide => self.decide(host),
            };
            // Only what is reported, or done to the endpoint, makes it decide more.
            may_poll = did;
            carried += usize::from(did);
        }
        carried > 0
    }

    fn collect_all(&mut self, host: usize) {
        for link in 0..self.links.len() {
            for side in 0..2 {
                if self.host(link, side) == host {
                    self.collect(link, side);
                }
            }
        }
    }

    /// The endpoint learns what a connection has reported.
    fn report(&mut self, host: usize) -> bool {
        let which = self.chance.below(self.hosts[host].mail.reports.len().max(1));
        let Some((_, event)) = pop(&mut self.hosts[host].mail.reports, which) else { return false };
        if let Some(what) = name_of(&event) {
            self.note(what);
        }
        let host = &mut self.hosts[host];
        match &event {
            EndpointEvent::Arrived(arrival) => {
                let call = host.mail.arriving.remove(&arrival.request).expect("it was collected");
                host.requests.arrived(arrival, call);
            }
            EndpointEvent::Ready { request, .. } => host.requests.ready(*request),
            EndpointEvent::Withdrawn { request, reason, reply } => {
                host.requests.withdrawn(*request, *reason, Answer::of(reply))
            }
            EndpointEvent::NeverRan(request) => host.requests.finished(*request, None),
            EndpointEvent::Closed(connection) => host.requests.closed(*connection),
            _ => {}
        }
        host.endpoint.handle_event(event);
        true
    }

    /// The endpoint decides something.
    fn poll_endpoint(&mut self, host: usize) -> bool {
        let host = &mut self.hosts[host];
        let Some((connection, event)) = host.endpoint.poll_event() else { return false };
        match &event {
            ConnectionEvent::Start(request) => host.requests.started(*request),
            ConnectionEvent::Refuse { request, .. } => host.requests.refused(*request),
            ConnectionEvent::Reply { request, reply } => {
                host.requests.replied(*request, &Answer::of(reply));
            }
            ConnectionEvent::MayReply(request) => host.requests.check_order(*request),
            _ => {}
        }
        push(&mut host.mail.decisions, connection, event);
        true
    }

    /// A connection learns what the endpoint has decided.
    fn decide(&mut self, host: usize) -> bool {
        let which = self.chance.below(self.hosts[host].mail.decisions.len().max(1));
        let Some((connection, event)) = pop(&mut self.hosts[host].mail.decisions, which) else {
            return false;
        };
        let Some((link, side)) = self.find(host, connection) else {
            // Its place was taken by another one.
            if let ConnectionEvent::Start(request) = event {
                push(&mut self.hosts[host].mail.reports, connection, EndpointEvent::NeverRan(request));
            }
            return true;
        };
        let driver = &mut self.links[link].drivers[side];
        match event {
            ConnectionEvent::Reply { request, reply } => {
                self.reply(LinkSide { link, side, connection }, request, reply)
            }
            event => {
                if !driver.connection.is_closed() {
                    match &event {
                        ConnectionEvent::Refuse { request, .. } => {
                            let call = driver.open.remove(request).expect("it is open");
                            self.model.0[call].answer = Some(Answer::Error(Refusal::Busy.name()));
                        }
                        ConnectionEvent::Drain => driver.draining = true,
                        _ => {}
                    }
                }
                driver.connection.handle_event(self.now, event);
            }
        }
        true
    }

    /// The side of a host that has this connection.
    fn find(&self, host: usize, connection: ConnectionId) -> Option<(usize, usize)> {
        let mut sides = (0..self.links.len()).flat_map(|link| [(link, 0), (link, 1)]);
        sides.find(|&(link, side)| {
            self.host(link, side) == host && self.links[link].drivers[side].at.connection == connection
        })
    }

    /// The endpoint has a connection send a reply.
    fn reply(&mut self, at: LinkSide, id: RequestId, reply: Reply) {
        let driver = &mut self.links[at.link].drivers[at.side];
        if driver.connection.is_closed() {
            return;
        }
        let mut answer = Answer::of(&reply);
        let call = driver.open.remove(&id);
        let result = match &reply {
            Reply::Result { body, .. } => Some(StreamState::whole(body.len())),
            _ => None,
        };
        let sent = driver.connection.reply(id, reply);
        let Some(call) = call else {
            return assert_eq!(sent, Err(ReplyError::NotOpen), "{id} was answered before");
        };
        match sent {
            Ok(Replied::AsGiven | Replied::WithoutMetadata | Replied::GivenUp) => {}
            Ok(Replied::TooLarge { .. }) => answer = Answer::Error(Refusal::ReplyTooLarge.name()),
            other => panic!("{other:?}"),
        }
        let call = &mut self.model.0[call];
        if let Some(result) = result {
            call.result = StreamState { reassembled: call.result.reassembled, ..result };
        }
        call.answer = Some(answer);
    }
}

fn name_of(event: &EndpointEvent) -> Option<&'static str> {
    Some(match event {
        EndpointEvent::Ready { .. } => "argument reassembled before its request",
        EndpointEvent::NeverRan(_) => "never ran",
        EndpointEvent::Paused(_) => "paused",
        EndpointEvent::Resumed(_) => "resumed",
        EndpointEvent::Withdrawn { .. } => "withdrawn",
        _ => return None,
    })
}
