//! Streams of more than one record, and helpers for their tests.

mod bodies;
mod cancelling;
mod credit;
mod endings;
mod faults;
mod ordering;
mod shares;
mod turns;
mod whole;
mod writers;

use super::dialect2::{binder, open, pair2, part, request, two, whole};
use super::*;
use crate::stream::KEPT_FOR;
use crate::wire::dialect2::MAX_TEXTS;
use crate::wire::{Failure, MAX_CHUNK, MAX_FIRST, Options, Piece, RECORD_COST, Record};

fn body(len: usize) -> Bytes {
    (0..len).map(|n| (n / 7) as u8).collect::<Vec<_>>().into()
}

pub(super) fn data(call: u64, offset: u64, piece: Piece) -> Record {
    Record::Data { call, offset, piece }
}

impl Side {
    fn read(&mut self, id: StreamId) -> Result<Poll<Option<Chunk>>, ReadError> {
        self.connection.recv_stream(id).read(self.now)
    }

    /// All that can be read now, and whether that was the end.
    fn read_all(&mut self, id: StreamId) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        loop {
            match self.read(id).unwrap() {
                Poll::Ready(Some(chunk)) => all.extend_from_slice(&chunk.bytes),
                Poll::Ready(None) => return (all, true),
                Poll::Pending => return (all, false),
            }
        }
    }

    /// Reads until an error, and returns it.
    fn read_to_failure(&mut self, id: StreamId) -> ReadError {
        loop {
            match self.read(id) {
                Ok(Poll::Ready(Some(_))) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => return error,
            }
        }
    }

    fn write(&mut self, id: StreamId, bytes: impl Into<Bytes>) -> Result<(), WriteError> {
        self.connection.send_stream(id).write(bytes.into(), true)
    }

    pub(super) fn collect(&mut self, id: StreamId) {
        self.connection.recv_stream(id).reassemble().unwrap();
        self.relay();
    }

    fn collected(&mut self) -> Result<Bytes, ReadError> {
        let events = self.events();
        let found = events.into_iter().find_map(|event| match event {
            Event::Reassembled { body, .. } => Some(body),
            _ => None,
        });
        found.expect("a body is complete")
    }

    fn invoke_streamed(&mut self) -> StreamId {
        let call = Call { argument: Delivery::Stream, ..new_call("m", "") };
        StreamId::Call(self.connection.invoke(self.now, call).unwrap())
    }
}

fn theirs(request: &Request) -> StreamId {
    StreamId::Request(request.id)
}

/// Passes messages both ways; `b` reassembles all streams.
fn exchange_collecting(a: &mut Side, b: &mut Side) -> Vec<Event> {
    exchange(a, b);
    let mut all = Vec::new();
    loop {
        let events = b.events();
        if events.is_empty() {
            return all;
        }
        for event in &events {
            match event {
                Event::Request(request) if matches!(request.body, Body::Stream { .. }) => {
                    b.collect(theirs(request));
                }
                Event::Response { call, .. } => b.collect(StreamId::Call(*call)),
                _ => {}
            }
        }
        all.extend(events);
        exchange(a, b);
    }
}
