//! How applications use streams: they read and write random pieces, reassemble bodies, stop, or read nothing until the end.

use std::task::Poll;
use std::time::Instant;

use super::Pace;
use super::chance::Chance;
use super::model::Model;
use super::payload::{self, Direction};
use callosum_proto::{Connection, ReadError, StreamId, WriteError};

/// Largest piece that is written at a time.
const PIECE_MAX: usize = 40_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadMode {
    /// Chunk by chunk.
    Read,
    /// Not until the end of the simulation.
    Never,
    /// One chunk, then nothing until the end of the simulation.
    Pause,
    /// As one body, after reassembly in the connection.
    Reassemble,
    /// The application sends STOP.
    Stop,
}

/// The application that reads one stream.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) call: usize,
    direction: Direction,
    read_mode: ReadMode,
    /// The stream may have something to read.
    pub(super) ready: bool,
    items: usize,
    pub(super) done: bool,
    begun: bool,
}

impl Reader {
    pub(super) fn new(call: usize, direction: Direction, read_mode: ReadMode) -> Self {
        Self { call, direction, read_mode, ready: true, items: 0, done: false, begun: false }
    }

    /// Whether the application doesn't read the stream until the end of the simulation.
    pub(super) fn is_ignored(&self) -> bool {
        let ignored = self.read_mode == ReadMode::Never || (self.read_mode == ReadMode::Pause && self.begun);
        ignored && !self.done
    }

    pub(super) fn is_reassembling(&self) -> bool {
        self.read_mode == ReadMode::Reassemble && !self.done
    }

    /// Reads a chunk; returns whether that changed anything. With [`Pace::Final`] every application reads.
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        id: StreamId,
        now: Instant,
        model: &mut Model,
        pace: Pace,
    ) -> bool {
        if self.done || (self.is_ignored() && pace != Pace::Final) {
            return false;
        }
        match self.read_mode {
            ReadMode::Reassemble if !std::mem::replace(&mut self.begun, true) => {
                model.0[self.call].stream(self.direction).reassembled = true;
                connection.recv_stream(id).reassemble().expect("it is reassembled once");
                true
            }
            ReadMode::Reassemble => false,
            ReadMode::Stop => {
                connection.recv_stream(id).stop();
                self.done = true;
                true
            }
            // Read again only after a `Readable` event, so that a missing event shows as a stall.
            ReadMode::Read | ReadMode::Never | ReadMode::Pause => {
                self.ready && self.read(connection, id, now, model)
            }
        }
    }

    fn read(&mut self, connection: &mut Connection, id: StreamId, now: Instant, model: &mut Model) -> bool {
        let stream = model.0[self.call].stream(self.direction);
        match connection.recv_stream(id).read(now) {
            Ok(Poll::Ready(Some(chunk))) => {
                payload::check(self.call, self.direction, stream.read, &chunk.bytes);
                stream.read += chunk.bytes.len() as u64;
                self.begun = true;
                assert!(stream.read <= stream.written, "{}: more than was written", self.call);
                let next = stream.items.get(self.items).copied();
                if chunk.end_of_item {
                    assert_eq!(next, Some(stream.read), "{}: an item ends elsewhere", self.call);
                    self.items += 1;
                } else {
                    assert!(next.is_none_or(|at| at >= stream.read), "{}: an item has no end", self.call);
                }
            }
            Ok(Poll::Ready(None)) => {
                assert!(stream.finished && !stream.aborted, "{}: {:?} ends early", self.call, self.direction);
                assert_eq!(stream.read, stream.written, "{}: {:?}", self.call, self.direction);
                assert_eq!(self.items, stream.items.len(), "{}: items of {:?}", self.call, self.direction);
                self.done = true;
            }
            Ok(Poll::Pending) => self.ready = false,
            Err(ReadError::Aborted) => {
                self.check_aborted(model);
                self.done = true;
            }
            Err(error) => panic!("{}: {:?} can't be read: {error}", self.call, self.direction),
        }
        true
    }

    /// Its writer has aborted the stream, or the call is over.
    fn check_aborted(&self, model: &mut Model) {
        let over = model.0[self.call].end.is_some();
        assert!(model.0[self.call].stream(self.direction).aborted || over, "{}: not aborted", self.call);
    }

    /// The connection has reassembled the body, or reports why it can't.
    pub(super) fn reassembled(
        &mut self,
        body: &Result<bytes::Bytes, ReadError>,
        model: &mut Model,
        max: usize,
    ) {
        assert!(self.read_mode == ReadMode::Reassemble && !self.done, "{} was not asked for", self.call);
        self.done = true;
        match body {
            Ok(body) => model.check_whole(self.call, self.direction, body),
            Err(ReadError::TooLarge { size, limit }) => {
                assert!(*limit == max && *size > max as u64, "{}: {size} and {max}", self.call);
            }
            Err(ReadError::Aborted) => {
                self.check_aborted(model);
            }
            Err(ReadError::TimedOut) => {}
            Err(error) => panic!("{}: {error}", self.call),
        }
    }
}

/// The application that writes one stream, piece by piece.
#[derive(Debug)]
pub(super) struct Writer {
    call: usize,
    direction: Direction,
    target: u64,
    /// At the target it aborts the stream instead of finishing it.
    gives_up: bool,
    pub(super) ready: bool,
    pub(super) done: bool,
}

impl Writer {
    pub(super) fn new(call: usize, direction: Direction, target: usize, gives_up: bool) -> Self {
        Self { call, direction, target: target as u64, gives_up, ready: true, done: false }
    }

    /// Writes a piece; returns whether that changed anything.
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        id: StreamId,
        model: &mut Model,
        chance: &mut Chance<'_>,
    ) -> bool {
        if self.done || !self.ready {
            return false;
        }
        let mut sender = connection.send_stream(id);
        if let (Ok(written), Ok(consumed)) = (sender.written(), sender.acknowledged()) {
            model.acknowledged(self.call, self.direction, written, consumed);
        }
        let stream = model.0[self.call].stream(self.direction);
        match sender.room() {
            Ok(0) => self.ready = false,
            Ok(_) if stream.written >= self.target => self.end(connection, id, model),
            Ok(_) => {
                let left = usize::try_from(self.target - stream.written).expect("it is small");
                let len = if chance.is_used_up() { left } else { chance.size(PIECE_MAX).min(left) };
                let (bytes, item) =
                    (payload::bytes(self.call, self.direction, stream.written, len), chance.one_in(3));
                sender.write(bytes, item).expect("there is room");
                stream.written += len as u64;
                if item {
                    stream.items.push(stream.written);
                }
            }
            Err(WriteError::Stopped | WriteError::NotOpen) => self.done = true,
            Err(error) => panic!("{}: {:?} can't be written: {error}", self.call, self.direction),
        }
        true
    }

    fn end(&mut self, connection: &mut Connection, id: StreamId, model: &mut Model) {
        self.done = true;
        let stream = model.0[self.call].stream(self.direction);
        match (self.gives_up, id) {
            (true, StreamId::Call(_)) => {
                stream.aborted = true;
                connection.send_stream(id).abort();
            }
            // The handler fails the call with its reply.
            (true, StreamId::Request(_)) => {}
            (false, _) => {
                stream.finished = true;
                connection.send_stream(id).finish().expect("there was room, or none was asked for");
            }
        }
    }
}
