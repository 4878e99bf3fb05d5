//! How hosts react to the events of their sessions, and what handlers do.

use std::time::Duration;

use super::app::{Reader, Writer};
use super::driver::result_metadata;
use super::host::{Handler, Plan, SessionId, Stage};
use super::model::{Answer, ERROR, FAILURE};
use super::payload::{self, Direction};
use super::{Connection, Pace, World, is_honest};
use callosum_proto::scheduler::{Action, Arrival, Scheduler, Withdrawn};
use callosum_proto::session::{
    Body, CloseCause, Dialect, Event, ExchangeId, IncomingId, Outcome, Refusal, Reply, ReplyError, Request,
};
use callosum_proto::{ErrorInfo, Ticket};

impl World<'_> {
    pub(super) fn take(&mut self, link: usize, side: usize, event: Event) {
        let is_fault = self.links[link].drivers[side].is_fault(&event);
        assert!(!is_fault, "{event:?} between honest peers");
        let orders = self.hosts[self.host(link, 1 - side)].orders_replies();
        self.note(&name_of(&event));
        let host = self.host(link, side);
        let driver = &mut self.links[link].drivers[side];
        match event {
            Event::Request(request) => self.request(link, side, request),
            Event::CancelRequested(id) => {
                if let Some(ticket) = self.hosts[host].find(driver.session_id.peer, id) {
                    self.model.cancelled(self.hosts[host].handlers[&ticket].call);
                    self.withdraw(host, ticket, Answer::Cancelled);
                }
            }
            Event::ExecutionTimedOut(id) => {
                if let Some(ticket) = self.hosts[host].find(driver.session_id.peer, id) {
                    self.withdraw(host, ticket, Answer::Error(Refusal::ExecutionTimedOut.name()));
                }
            }
            Event::Response { call, metadata, .. } => {
                let read_mode = self.read_mode(Direction::Result);
                let driver = &mut self.links[link].drivers[side];
                driver.responded(call, &metadata, (read_mode, orders), &mut self.model);
            }
            Event::Readable(ExchangeId::Ours(call)) => {
                driver.results.entry(call).and_modify(|reader| reader.ready = true);
            }
            Event::Writable(ExchangeId::Ours(call)) => {
                driver.arguments.entry(call).and_modify(|writer| writer.ready = true);
            }
            Event::Collected { exchange: ExchangeId::Ours(call), body } => {
                // The call may have ended meanwhile; then the application doesn't wait for the body.
                if let Some(reader) = driver.results.get_mut(&call) {
                    reader.collected(&body, &mut self.model, driver.config.max_body);
                }
            }
            Event::Readable(ExchangeId::Theirs(id))
            | Event::Writable(ExchangeId::Theirs(id))
            | Event::Collected { exchange: ExchangeId::Theirs(id), .. } => {
                let (peer, max) = (driver.session_id.peer, driver.config.max_body);
                if let Some(ticket) = self.hosts[host].find(peer, id) {
                    let handler = self.hosts[host].handlers.get_mut(&ticket).expect("it was found");
                    handler.wake(event, &mut self.model, max);
                }
            }
            Event::Ended { call, outcome, metadata } => {
                if is_answer(&outcome) {
                    self.note_answer(link, side);
                }
                let driver = &mut self.links[link].drivers[side];
                driver.ended(call, &outcome, &metadata, orders, &mut self.model);
            }
            Event::Established { hello, dialect } => {
                self.established(link, side, hello.is_some(), dialect);
            }
            Event::Closed(cause) => self.closed(link, side, cause),
            Event::Goodbye | Event::Pong { .. } | Event::Anomaly(_) => {}
        }
    }

    fn note_answer(&mut self, link: usize, side: usize) {
        let Connection { transport, up, .. } = &self.links[link];
        if transport.is_half_closed(side) && !up[1 - side] {
            self.note("answered after a half-close");
        }
        if self.setup.is_curve(link) {
            self.note("answered under CURVE");
        }
    }

    fn established(&mut self, link: usize, side: usize, has_hello: bool, dialect: Dialect) {
        if self.setup.is_curve(link) {
            self.note("established under CURVE");
        }
        let offers = [0, 1].map(|side| self.setup.config(link, side).dialect);
        // A binder that waits too long for a hello falls back to dialect 1.
        let late = !has_hello && side == 1 && dialect == Dialect::One;
        assert!(late || dialect == offers[0].min(offers[1]), "not the highest dialect that both offer");
    }

    fn closed(&mut self, link: usize, side: usize, cause: CloseCause) {
        assert!(
            is_honest(cause) || (side == 1 && cause == CloseCause::PeerRestarted),
            "{cause} between honest peers"
        );
        if cause == CloseCause::PeerNotReading && self.links[link].transport.is_blocked_midway(side) {
            self.note("closed PeerNotReading in the middle");
        }
        self.lose(link, side, cause);
        let driver = &mut self.links[link].drivers[side];
        assert_eq!(driver.session.poll_event(), None, "nothing follows the end");
        assert!(driver.calls.is_empty(), "a call has not ended: {:?}", driver.calls);
        driver.results.clear();
        driver.arguments.clear();
        driver.requests = 0;
        let peer = driver.session_id.peer;
        let host = self.host(link, side);
        let host = &mut self.hosts[host];
        host.scheduler.forget_peer(peer);
        host.handlers.retain(|_, handler| handler.session_id.peer != peer || handler.stage == Stage::Running);
        for handler in host.handlers.values_mut().filter(|handler| handler.session_id.peer == peer) {
            handler.gone = true;
        }
    }

    fn request(&mut self, link: usize, side: usize, request: Request) {
        let number: usize = request.method.parse().expect("methods are numbers");
        let driver = &mut self.links[link].drivers[side];
        driver.requested(number, &mut self.model);
        let call = &self.model.0[number];
        assert_eq!((&call.key, &call.metadata), (&request.key, &request.metadata), "{number}");
        if driver.session.dialect() == Some(Dialect::Two) {
            assert_eq!(call.deadline.is_some(), request.deadline.is_some());
            assert!(request.deadline >= call.deadline, "{number}: the time that is left grows less");
        }
        let size = request.size();
        let read_mode = self.read_mode(Direction::Argument);
        let argument = match request.body {
            Body::Whole(body) => {
                if self.model.0[number].streamed {
                    assert!(self.model.0[number].argument.finished, "it goes on");
                }
                self.model.check_whole(number, Direction::Argument, &body);
                None
            }
            Body::Streamed { .. } => Some(Reader::new(number, Direction::Argument, read_mode)),
        };
        let session_id = self.links[link].drivers[side].session_id;
        let plan = self.plan();
        let host = self.host(link, side);
        let host = &mut self.hosts[host];
        let ticket = host.ticket();
        let arrival = Arrival { ticket, peer: session_id.peer, key: &request.key, bytes: size };
        if let Err(busy) = host.scheduler.arrive(arrival) {
            self.model.0[number].answer = Some(Answer::Error(Refusal::Busy.name()));
            let error = Refusal::Busy.to_error(&busy.to_string());
            return self.reply(session_id, request.id, Reply::Refusal(error));
        }
        let (key, id) = (request.key, request.id);
        let stage = Stage::Waiting;
        let handler = Handler {
            call: number,
            session_id,
            id,
            key,
            stage,
            argument,
            plan,
            writer: None,
            stopped: None,
            gone: false,
            answered: false,
        };
        host.handlers.insert(ticket, handler);
    }

    fn plan(&mut self) -> Plan {
        let compressed = self.chance.one_in(3);
        match self.chance.below(10) {
            0 => Plan::Failure { traceback: self.chance.size(80_000) },
            1 => Plan::Error,
            2 => Plan::Cancelled,
            3..6 => Plan::Stream { len: self.chance.size(150_000), compressed, fails: self.chance.one_in(5) },
            _ => Plan::Result { len: self.chance.size(200_000), compressed },
        }
    }

    fn reply(&mut self, session_id: SessionId, id: IncomingId, reply: Reply) {
        let driver = &mut self.links[session_id.link].drivers[session_id.side];
        assert!(driver.session_id == session_id, "its session is another");
        driver.requests -= 1;
        match driver.session.reply(id, reply) {
            Ok(()) | Err(ReplyError::NeedsDialect2) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn withdraw(&mut self, host: usize, ticket: Ticket, answer: Answer) {
        let host = &mut self.hosts[host];
        let handler = host.handlers.get_mut(&ticket).expect("it was found");
        if handler.stage == Stage::Replying {
            // The result is being written: the handler stops at its next step.
            handler.stopped.get_or_insert(answer);
            return;
        }
        let withdrawn = host.scheduler.withdraw(ticket);
        let handler = host.handlers.get_mut(&ticket).expect("it was found");
        match withdrawn {
            Withdrawn::Waiting => {
                assert_eq!(handler.stage, Stage::Waiting);
                handler.stage = Stage::Done;
                handler.stopped.get_or_insert(answer);
            }
            Withdrawn::Running => drop(handler.stopped.get_or_insert(answer)),
            Withdrawn::Unknown => assert_eq!(handler.stage, Stage::Done),
        }
    }

    /// Carries out the scheduler's actions.
    pub(super) fn schedule(&mut self, host: usize) {
        while let Some(action) = self.hosts[host].scheduler.poll() {
            match action {
                Action::Start(ticket) => {
                    let time = self.chance.one_in(6).then(|| self.chance.below(2_000));
                    let handler = &self.hosts[host].handlers[&ticket];
                    assert_eq!(handler.stage, Stage::Waiting, "{handler:?} starts again");
                    self.hosts[host].check_start(handler);
                    let handler = self.hosts[host].handlers.get_mut(&ticket).expect("it is there");
                    handler.stage = Stage::Running;
                    let started = &mut self.model.0[handler.call].started;
                    assert!(!std::mem::replace(started, true), "{handler:?} starts again");
                    if let Some(time) = time {
                        let session =
                            &mut self.links[handler.session_id.link].drivers[handler.session_id.side].session;
                        session.started(handler.id, self.now + Duration::from_millis(1 + time as u64));
                    }
                }
                Action::Release(ticket) => self.release(host, ticket),
            }
        }
    }

    /// The scheduler has released a handler's answer.
    fn release(&mut self, host: usize, ticket: Ticket) {
        let handler = &self.hosts[host].handlers[&ticket];
        assert_eq!(handler.stage, Stage::Done, "{handler:?} leaves");
        if handler.answered {
            self.hosts[host].handlers.remove(&ticket);
            return;
        }
        let late = handler.stopped.is_none() && handler.writer.is_none();
        if let (Plan::Stream { .. }, true) = (&handler.plan, late) {
            self.hosts[host].handlers.get_mut(&ticket).expect("it is there").stage = Stage::Replying;
            return self.begin(host, ticket);
        }
        self.answer(host, ticket);
    }

    fn answer(&mut self, host: usize, ticket: Ticket) {
        let handler = self.hosts[host].handlers.remove(&ticket).expect("it is there");
        let number = handler.call;
        let error = |name: &'static str, traceback: usize| ErrorInfo {
            traceback: "t".repeat(traceback).into(),
            ..ErrorInfo::new(name, "repr")
        };
        let (reply, mut answer) = match (handler.stopped, &handler.plan) {
            (Some(Answer::Error(name)), _) => (Reply::Error(error(name, 0)), Answer::Error(name)),
            (Some(answer), _) => (Reply::Cancelled, answer),
            (None, Plan::Result { len, compressed }) => {
                let body = payload::bytes(number, Direction::Result, 0, *len);
                self.model.0[number].result = super::model::StreamState::whole(*len);
                let metadata = result_metadata(number, self.chance.one_in(4));
                (Reply::Result { body, compressed: *compressed, metadata }, Answer::Result)
            }
            (None, Plan::Stream { fails: false, .. }) => (Reply::End, Answer::Result),
            (None, Plan::Stream { .. } | Plan::Failure { traceback: 0 }) => {
                (Reply::Failure(error(FAILURE, 0)), Answer::Failure)
            }
            (None, Plan::Failure { traceback }) => {
                (Reply::Failure(error(FAILURE, *traceback)), Answer::Failure)
            }
            (None, Plan::Error) => (Reply::Error(error(ERROR, 0)), Answer::Error(ERROR)),
            (None, Plan::Cancelled) => (Reply::Cancelled, Answer::Cancelled),
        };
        let SessionId { link, side, .. } = handler.session_id;
        let driver = &mut self.links[link].drivers[side];
        assert!(driver.session_id == handler.session_id, "its session is another");
        driver.requests -= 1;
        match driver.session.reply(handler.id, reply) {
            Ok(()) | Err(ReplyError::NeedsDialect2) => {}
            Err(ReplyError::TooLarge { .. }) => answer = Answer::Error(Refusal::ReplyTooLarge.name()),
            Err(error) => panic!("{error}"),
        }
        self.model.0[number].answer = Some(answer);
    }

    /// Begins a streamed result.
    fn begin(&mut self, host: usize, ticket: Ticket) {
        let some = self.chance.one_in(4);
        let handler = self.hosts[host].handlers.get_mut(&ticket).expect("it is there");
        let Plan::Stream { len, compressed, fails } = handler.plan else { return };
        let SessionId { link, side, .. } = handler.session_id;
        let driver = &mut self.links[link].drivers[side];
        let metadata = result_metadata(handler.call, some);
        match driver.session.begin_reply(handler.id, compressed, metadata, None) {
            Ok(()) => handler.writer = Some(Writer::new(handler.call, Direction::Result, len, fails)),
            Err(ReplyError::NeedsDialect2) => {
                driver.requests -= 1;
                self.model.0[handler.call].answer = Some(Answer::Error(Refusal::Unsupported.name()));
                handler.answered = true;
                if handler.stage == Stage::Replying {
                    self.hosts[host].handlers.remove(&ticket);
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a step of each handler; returns whether anything changed.
    pub(super) fn handle(&mut self, host: usize) -> bool {
        let mut worked = false;
        for ticket in self.tickets(host) {
            if self.hosts[host].handlers.contains_key(&ticket)
                && (self.pace != Pace::Random || self.chance.one_in(2))
            {
                worked |= self.handle_one(host, ticket);
                self.act();
            }
        }
        worked
    }

    fn handle_one(&mut self, host: usize, ticket: Ticket) -> bool {
        let may_begin = {
            let handler = &self.hosts[host].handlers[&ticket];
            self.hosts[host].may_begin(handler)
        };
        let handler = self.hosts[host].handlers.get_mut(&ticket).expect("it is there");
        if !matches!(handler.stage, Stage::Running | Stage::Replying) {
            return false;
        }
        let id = ExchangeId::Theirs(handler.id);
        let SessionId { link, side, .. } = handler.session_id;
        if !handler.gone && !handler.answered {
            let session = &mut self.links[link].drivers[side].session;
            let mut worked = false;
            if let Some(reader) = &mut handler.argument {
                worked |= reader.step(session, id, self.now, &mut self.model, self.pace);
            }
            if let Some(writer) = handler.writer.as_mut().filter(|_| handler.stopped.is_none()) {
                worked |= writer.step(session, id, &mut self.model, &mut self.chance);
            }
            let reads = handler.argument.as_ref().is_some_and(|reader| !reader.done);
            let writes = handler.writer.as_ref().is_some_and(|writer| !writer.done);
            // Most handlers read their argument to its end; some answer before.
            let leaves = self.chance.one_in(if handler.writer.is_some() { 4 } else { 10 });
            let waits = writes || (reads && (self.setup.is_stable() || !leaves));
            if handler.stopped.is_none() && (worked || waits) {
                return worked;
            }
            let streams = matches!(handler.plan, Plan::Stream { .. }) && handler.stopped.is_none();
            if streams && handler.writer.is_none() && may_begin && handler.stage == Stage::Running {
                self.begin(host, ticket);
                return true;
            }
        }
        self.end_handler(host, ticket);
        true
    }

    fn end_handler(&mut self, host: usize, ticket: Ticket) {
        let handler = self.hosts[host].handlers.get_mut(&ticket).expect("it is there");
        if handler.stage == Stage::Replying {
            return self.answer(host, ticket);
        }
        if handler.gone {
            self.hosts[host].handlers.remove(&ticket);
            // There is no peer for the answer, so it needs no place in the release queue.
            self.hosts[host].scheduler.finish(ticket);
            return;
        }
        handler.stage = Stage::Done;
        self.hosts[host].scheduler.finish(ticket);
    }
}

fn is_answer(outcome: &Outcome) -> bool {
    use Outcome::{Cancelled, Complete, Error, Failure, Result};
    matches!(outcome, Result(_) | Complete | Failure(_) | Error(_) | Cancelled)
}

/// The name of an event in the tally.
fn name_of(event: &Event) -> String {
    let long = match event {
        Event::Ended { outcome: Outcome::Error(info), .. } => format!("ended {}", info.name.as_str()),
        Event::Ended { outcome, .. } => format!("ended {outcome:?}"),
        Event::Closed(cause) => format!("closed {cause:?}"),
        Event::Collected { body: Err(error), .. } => format!("not collected {error:?}"),
        event => format!("{event:?}"),
    };
    let end = long.find(|letter: char| !letter.is_alphanumeric() && letter != ' ').unwrap_or(long.len());
    long[..end].trim_end().to_owned()
}
