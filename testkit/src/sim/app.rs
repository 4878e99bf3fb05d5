//! What applications do with contents: read and write them at their leisure.

use std::time::Instant;

use super::Pace;
use super::book::Book;
use super::chance::Chance;
use super::content::{self, Way};
use callosum_proto::session::{ContentError, ExchangeId, Read, Session, WriteError};

/// Largest piece that is written at a time.
const PIECE_MAX: usize = 40_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// A piece now and then.
    Read,
    /// Not before the end of the simulation.
    Never,
    /// A piece, and no more before the end of the simulation.
    Pause,
    /// As one body.
    Collect,
    /// It does not want it.
    Stop,
}

/// Of one content.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) call: usize,
    way: Way,
    manner: Manner,
    /// There is, or may be, something to read.
    pub(super) ready: bool,
    items: usize,
    pub(super) done: bool,
    begun: bool,
}

impl Reader {
    pub(super) fn new(call: usize, way: Way, manner: Manner) -> Self {
        Self { call, way, manner, ready: true, items: 0, done: false, begun: false }
    }

    /// Whether nobody looks at it, or not any more.
    pub(super) fn is_ignored(&self) -> bool {
        let ignored = self.manner == Manner::Never || (self.manner == Manner::Pause && self.begun);
        ignored && !self.done
    }

    pub(super) fn is_collecting(&self) -> bool {
        self.manner == Manner::Collect && !self.done
    }

    /// Reads a piece; whether that changed anything. In the end everybody reads.
    pub(super) fn step(
        &mut self,
        session: &mut Session,
        id: ExchangeId,
        now: Instant,
        book: &mut Book,
        pace: Pace,
    ) -> bool {
        if self.done || (self.is_ignored() && pace != Pace::Final) {
            return false;
        }
        match self.manner {
            Manner::Collect if !std::mem::replace(&mut self.begun, true) => {
                book.0[self.call].content(self.way).collected = true;
                session.contents().collect(now, id).expect("nobody has collected it");
                true
            }
            Manner::Collect => false,
            Manner::Stop => {
                session.contents().stop(id);
                self.done = true;
                true
            }
            // Only who was told that there is something looks again: a notice that is lost is a stall.
            Manner::Read | Manner::Never | Manner::Pause => self.ready && self.read(session, id, now, book),
        }
    }

    fn read(&mut self, session: &mut Session, id: ExchangeId, now: Instant, book: &mut Book) -> bool {
        let content = book.0[self.call].content(self.way);
        match session.contents().read(now, id) {
            Ok(Read::Chunk(chunk)) => {
                content::check(self.call, self.way, content.read, &chunk.bytes);
                content.read += chunk.bytes.len() as u64;
                self.begun = true;
                assert!(content.read <= content.written, "{}: more than was written", self.call);
                let next = content.items.get(self.items).copied();
                if chunk.end_of_item {
                    assert_eq!(next, Some(content.read), "{}: an item ends elsewhere", self.call);
                    self.items += 1;
                } else {
                    assert!(next.is_none_or(|at| at >= content.read), "{}: an item has no end", self.call);
                }
            }
            Ok(Read::End) => {
                assert!(content.finished && !content.aborted, "{}: {:?} ends early", self.call, self.way);
                assert_eq!(content.read, content.written, "{}: {:?}", self.call, self.way);
                assert_eq!(self.items, content.items.len(), "{}: items of {:?}", self.call, self.way);
                self.done = true;
            }
            Ok(Read::Pending) => self.ready = false,
            Err(ContentError::Aborted) => {
                let over = book.0[self.call].end.is_some();
                assert!(book.0[self.call].content(self.way).aborted || over, "{}: not aborted", self.call);
                self.done = true;
            }
            Err(error) => panic!("{}: {:?} can't be read: {error}", self.call, self.way),
        }
        true
    }

    /// A body was put together, or can't be.
    pub(super) fn collected(
        &mut self,
        body: &Result<bytes::Bytes, ContentError>,
        book: &mut Book,
        max: usize,
    ) {
        assert!(self.manner == Manner::Collect && !self.done, "{} was not asked for", self.call);
        self.done = true;
        match body {
            Ok(body) => book.whole_came(self.call, self.way, body),
            Err(ContentError::TooLarge { size, limit }) => {
                assert!(*limit == max && *size > max as u64, "{}: {size} and {max}", self.call);
            }
            Err(ContentError::Aborted) => {
                let over = book.0[self.call].end.is_some();
                assert!(book.0[self.call].content(self.way).aborted || over, "{}: not aborted", self.call);
            }
            Err(ContentError::TimedOut) => {}
            Err(error) => panic!("{}: {error}", self.call),
        }
    }
}

/// Of one content, bit by bit.
#[derive(Debug)]
pub(super) struct Writer {
    call: usize,
    way: Way,
    target: u64,
    /// It says at the target that it can't go on.
    gives_up: bool,
    pub(super) ready: bool,
    pub(super) done: bool,
}

impl Writer {
    pub(super) fn new(call: usize, way: Way, target: usize, gives_up: bool) -> Self {
        Self { call, way, target: target as u64, gives_up, ready: true, done: false }
    }

    /// Writes a piece; whether that changed anything.
    pub(super) fn step(
        &mut self,
        session: &mut Session,
        id: ExchangeId,
        book: &mut Book,
        chance: &mut Chance<'_>,
    ) -> bool {
        if self.done || !self.ready {
            return false;
        }
        let mut contents = session.contents();
        if let Ok(told) = contents.acknowledged(id) {
            book.acknowledged(self.call, self.way, told);
        }
        let content = book.0[self.call].content(self.way);
        match contents.room(id) {
            Ok(0) => self.ready = false,
            Ok(_) if content.written >= self.target => self.end(session, id, book),
            Ok(_) => {
                let left = usize::try_from(self.target - content.written).expect("it is small");
                let len = if chance.is_used_up() { left } else { chance.size(PIECE_MAX).min(left) };
                let (bytes, item) =
                    (content::bytes(self.call, self.way, content.written, len), chance.one_in(3));
                contents.write(id, bytes, item).expect("there is room");
                content.written += len as u64;
                if item {
                    content.items.push(content.written);
                }
            }
            Err(WriteError::Stopped | WriteError::NotOpen) => self.done = true,
            Err(error) => panic!("{}: {:?} can't be written: {error}", self.call, self.way),
        }
        true
    }

    fn end(&mut self, session: &mut Session, id: ExchangeId, book: &mut Book) {
        self.done = true;
        let content = book.0[self.call].content(self.way);
        match (self.gives_up, id) {
            (true, ExchangeId::Ours(call)) => {
                content.aborted = true;
                session.contents().abort(call);
            }
            // The failure of a result is its handler's.
            (true, ExchangeId::Theirs(_)) => {}
            (false, _) => {
                content.finished = true;
                session.contents().finish(id).expect("there was room, or none was asked for");
            }
        }
    }
}
