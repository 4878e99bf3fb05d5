//! How hosts react to the events of their connections, and what handlers do.

use std::fmt::{self, Write as _};

use super::app::{Reader, Writer};
use super::driver::result_metadata;
use super::host::{Handler, Plan, Stage};
use super::link_side::LinkSide;
use super::model::{Answer, ERROR, FAILURE};
use super::payload::{self, Direction};
use super::{Link, Pace, World, is_honest, setup};
use callosum_proto::{
    Body, CloseCause, Dialect, ErrorInfo, Event, Outcome, Refusal, Replied, Reply, ReplyError, Request,
    RequestId, StopReason, StreamId,
};

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
            Event::Stop { request, reason } => {
                if let Some(handler) = self.hosts[host].handler(request) {
                    assert!(!std::mem::replace(&mut handler.stopped, true), "{handler:?} is stopped twice");
                    if reason == StopReason::Cancelled {
                        self.model.cancelled(handler.call);
                    }
                }
            }
            Event::MayReply(request) => self.begin(host, request),
            Event::Response { call, metadata, .. } => {
                let read_mode = self.read_mode(Direction::Result);
                let driver = &mut self.links[link].drivers[side];
                driver.responded(call, &metadata, (read_mode, orders), &mut self.model);
            }
            Event::Readable(StreamId::Call(call)) => {
                driver.results.entry(call).and_modify(|reader| reader.ready = true);
            }
            Event::Writable(StreamId::Call(call)) => {
                driver.arguments.entry(call).and_modify(|writer| writer.ready = true);
            }
            Event::Reassembled { stream: StreamId::Call(call), body } => {
                // The call may have ended meanwhile; then the application doesn't wait for the body.
                if let Some(reader) = driver.results.get_mut(&call) {
                    reader.reassembled(&body, &mut self.model, driver.config.max_body);
                }
            }
            Event::Readable(StreamId::Request(id))
            | Event::Writable(StreamId::Request(id))
            | Event::Reassembled { stream: StreamId::Request(id), .. } => {
                let max = driver.config.max_body;
                if let Some(handler) = self.hosts[host].handler(id) {
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
            Event::Established { max_body, dialect } => {
                self.established(link, side, max_body.is_some(), dialect);
            }
            Event::Closed(cause) => self.closed(link, side, cause),
            Event::Goodbye | Event::Pong { .. } | Event::Anomaly(_) => {}
            other => panic!("{other:?} is unknown"),
        }
    }

    fn note_answer(&mut self, link: usize, side: usize) {
        let Link { transport, up, .. } = &self.links[link];
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
        assert_eq!(driver.connection.poll_event(), None, "nothing follows the end");
        assert!(driver.calls.is_empty(), "a call has not ended: {:?}", driver.calls);
        driver.results.clear();
        driver.arguments.clear();
        driver.open.clear();
        let connection = driver.at.connection;
        let host = self.host(link, side);
        let handlers = self.hosts[host].handlers.values_mut();
        handlers
            .filter(|handler| handler.at.connection == connection)
            .for_each(|handler| handler.gone = true);
    }

    fn request(&mut self, link: usize, side: usize, request: Request) {
        let number: usize = request.method.parse().expect("methods are numbers");
        let driver = &mut self.links[link].drivers[side];
        assert_eq!(driver.open.get(&request.id), Some(&number), "it has not arrived, or was answered");
        let call = &mut self.model.0[number];
        assert!(!std::mem::replace(&mut call.started, true), "{number} starts again");
        assert_eq!((&call.key, &call.metadata), (&request.key, &request.metadata), "{number}");
        // One that came in dialect 1, before this side knew better, has no deadline (H-11).
        let came_in_dialect_1 = request.id.number() >= 1 << 61;
        if driver.connection.dialect() == Some(Dialect::Two) && !came_in_dialect_1 {
            let limit = driver.config.execution_timeout.map(|limit| self.now + limit);
            assert_eq!(call.deadline.is_some() || limit.is_some(), request.deadline.is_some());
            let least = call.deadline.into_iter().chain(limit).min();
            assert!(request.deadline >= least, "{number}: the time that is left grows less");
        }
        let streams = setup::streams_argument(&driver.config, number);
        let at = driver.at;
        let read_mode = self.read_mode(Direction::Argument);
        let argument = match request.body {
            Body::Whole(body) => {
                if self.model.0[number].streamed {
                    assert!(self.model.0[number].argument.finished, "it goes on");
                }
                self.model.check_whole(number, Direction::Argument, &body);
                None
            }
            Body::Stream { .. } => {
                assert!(streams, "{number} was to come as a whole");
                Some(Reader::new(number, Direction::Argument, read_mode))
            }
        };
        let handler = Handler {
            call: number,
            at,
            key: request.key,
            stage: Stage::Running,
            argument,
            plan: self.plan(),
            writer: None,
            stopped: false,
            gone: false,
            answered: false,
            nested: 0,
        };
        let host = self.host(link, side);
        assert!(
            self.hosts[host].handlers.insert(request.id, handler).is_none(),
            "{} runs already",
            request.id
        );
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

    /// The order allows a streamed result to begin. It begins, unless its handler has ended meanwhile.
    fn begin(&mut self, host: usize, id: RequestId) {
        let some = self.chance.one_in(4);
        let Some(handler) = self.hosts[host].handler(id) else { return };
        assert_eq!(handler.stage, Stage::Beginning, "{handler:?} has not asked");
        let Plan::Stream { len, compressed, fails } = handler.plan else { return };
        handler.stage = Stage::Replying;
        let LinkSide { link, side, .. } = handler.at;
        let driver = &mut self.links[link].drivers[side];
        let metadata = result_metadata(handler.call, some);
        let call = &mut self.model.0[handler.call];
        match driver.connection.begin_reply(id, compressed, metadata, None) {
            Ok(()) => {
                call.result.streamed = true;
                handler.writer = Some(Writer::new(handler.call, Direction::Result, len, fails));
            }
            Err(ReplyError::NeedsDialect2) => {
                driver.open.remove(&id);
                call.answer = Some(Answer::Error(Refusal::Unsupported.name()));
                handler.answered = true;
                let unsupported = Refusal::Unsupported.reply("a streamed result");
                assert_eq!(driver.connection.reply(id, unsupported), Ok(Replied::AsGiven));
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a step of each handler; returns whether anything changed.
    pub(super) fn handle(&mut self, host: usize) -> bool {
        let mut worked = false;
        for id in self.running(host) {
            if self.hosts[host].handlers.contains_key(&id)
                && (self.pace != Pace::Random || self.chance.one_in(2))
            {
                worked |= self.handle_one(host, id);
                self.act();
            }
        }
        worked
    }

    fn handle_one(&mut self, host: usize, id: RequestId) -> bool {
        if self.waits_for_nested_call(host, id) {
            return true;
        }
        let handler = self.hosts[host].handlers.get_mut(&id).expect("it is there");
        if handler.is_at_work() {
            let LinkSide { link, side, .. } = handler.at;
            let connection = &mut self.links[link].drivers[side].connection;
            let mut worked = false;
            if let Some(reader) = &mut handler.argument {
                worked |= reader.step(connection, id.into(), self.now, &mut self.model, self.pace);
            }
            if let Some(writer) = handler.writer.as_mut().filter(|_| !handler.stopped) {
                worked |= writer.step(connection, id.into(), &mut self.model, &mut self.chance);
            }
            let reads = handler.argument.as_ref().is_some_and(|reader| !reader.done);
            let writes = handler.writer.as_ref().is_some_and(|writer| !writer.done);
            // Most handlers read their argument to its end; some answer before.
            let leaves = self.chance.one_in(if handler.writer.is_some() { 4 } else { 10 });
            let waits = writes || (reads && (self.setup.is_stable() || !leaves));
            if !handler.stopped && (worked || waits) {
                return worked;
            }
            if matches!(handler.plan, Plan::Stream { .. }) && !handler.stopped {
                match handler.stage {
                    Stage::Running => {
                        handler.stage = Stage::Beginning;
                        self.hosts[host].endpoint.begin_reply(id);
                        return true;
                    }
                    Stage::Beginning => return worked,
                    Stage::Replying => {}
                }
            }
        }
        self.end_handler(host, id);
        true
    }

    /// Some handlers wait for nested calls for a while, sometimes for several at a time, and lend their slots.
    fn waits_for_nested_call(&mut self, host: usize, id: RequestId) -> bool {
        let random = self.pace == Pace::Random;
        let begins = random && self.chance.one_in(12);
        let ends = !random || self.chance.one_in(3);
        let host = &mut self.hosts[host];
        let handler = host.handlers.get_mut(&id).expect("it is there");
        if begins {
            handler.nested += 1;
            host.endpoint.suspend(id);
        } else if handler.nested > 0 && ends {
            handler.nested -= 1;
            host.endpoint.resume(id);
        } else if handler.nested == 0 {
            return false;
        }
        true
    }

    fn end_handler(&mut self, host: usize, id: RequestId) {
        // One that is to be stopped may end by itself before.
        let ends_by_itself = self.chance.one_in(4);
        let metadata = self.chance.one_in(4);
        let handler = self.hosts[host].handlers.remove(&id).expect("it is there");
        let number = handler.call;
        let error = |name: &'static str, traceback: usize| ErrorInfo {
            traceback: "t".repeat(traceback).into(),
            ..ErrorInfo::new(name, "repr")
        };
        let stops = handler.stopped && !(ends_by_itself && handler.stage == Stage::Running);
        let reply = match &handler.plan {
            _ if stops || handler.gone || handler.answered => None,
            Plan::Result { len, compressed } => Some(Reply::Result {
                body: payload::bytes(number, Direction::Result, 0, *len),
                compressed: *compressed,
                metadata: result_metadata(number, metadata),
            }),
            // It was stopped before it could begin.
            Plan::Stream { .. } if handler.stage != Stage::Replying => Some(Reply::Cancelled),
            Plan::Stream { fails: false, .. } => Some(Reply::End),
            Plan::Stream { .. } => Some(Reply::Failure(error(FAILURE, 0).into())),
            Plan::Failure { traceback } => Some(Reply::Failure(error(FAILURE, *traceback).into())),
            Plan::Error => Some(Reply::Error(error(ERROR, 0).into())),
            Plan::Cancelled => Some(Reply::Cancelled),
        };
        self.hosts[host].finish(id, reply);
    }
}

fn is_answer(outcome: &Outcome) -> bool {
    use Outcome::{Cancelled, Complete, Error, Failure, Result};
    matches!(outcome, Result(_) | Complete | Failure(_) | Error(_) | Cancelled)
}

/// The start of a text, up to the first character that is no letter, digit or space. It refuses what comes after that, so that
/// formatting ends there: what an event holds may be long.
#[derive(Default)]
struct Start(String);

impl fmt::Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != ' ');
        self.0.push_str(&text[..end.unwrap_or(text.len())]);
        end.map_or(Ok(()), |_| Err(fmt::Error))
    }
}

/// The name of an event in the tally.
fn name_of(event: &Event) -> String {
    let mut name = Start::default();
    // An error is the end of the name.
    let _ = match event {
        Event::Ended { outcome: Outcome::Error(info), .. } => write!(name, "ended {}", info.name.as_str()),
        Event::Ended { outcome, .. } => write!(name, "ended {outcome:?}"),
        Event::Closed(cause) => write!(name, "closed {cause:?}"),
        Event::Reassembled { body: Err(error), .. } => write!(name, "not reassembled {error:?}"),
        Event::Stop { reason, .. } => write!(name, "stopped {reason:?}"),
        event => write!(name, "{event:?}"),
    };
    name.0.trim_end().to_owned()
}
