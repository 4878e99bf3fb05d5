//! One direction of a connection: bytes that arrive after the link's latency, no faster than its bandwidth.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How a pipe ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing follows: the reader gets the end of the stream.
    Closed,
    /// Unread bytes are lost. The writer gets the error, of this kind, at another time than the reader.
    Reset { writer: Instant, kind: io::ErrorKind },
}

/// Latency, bandwidth and capacity of a pipe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Travel {
    pub(super) latency: Duration,
    /// Bytes per second.
    pub(super) bandwidth: Option<u64>,
    /// Bytes that may be under way or unread.
    pub(super) capacity: usize,
}

#[derive(Debug, Default)]
pub(super) struct Pipe {
    chunks: VecDeque<(Instant, Bytes)>,
    /// Bytes of these.
    held: usize,
    /// When the last of what was written has left, and when it arrives.
    left: Option<Instant>,
    arrives: Option<Instant>,
    end: Option<(Instant, End)>,
    is_frozen: bool,
    is_unix: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A task to wake, and the time: at once if there is none.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Wakes(pub(super) Vec<(Option<Instant>, Waker)>);

impl Pipe {
    /// One of a Unix socket, or of TCP.
    pub(super) fn new(is_unix: bool) -> Self {
        Self { is_unix, ..Self::default() }
    }

    /// Takes as much as there is room for.
    pub(super) fn write(
        &mut self,
        now: Instant,
        cx: &Context<'_>,
        travel: Travel,
        bytes: &[u8],
    ) -> (Poll<io::Result<usize>>, Wakes) {
        match self.end {
            None => {}
            // The writer has not got the reset yet: its bytes are sent and lost. They are never read, so they keep their room.
            Some((_, End::Reset { writer, .. })) if writer > now => {
                let room = self.room(travel, bytes);
                if room == 0 && !bytes.is_empty() {
                    self.writer = Some(cx.waker().clone());
                    return (Poll::Pending, self.writer_learns(now, writer));
                }
                self.held += room;
                return (Poll::Ready(Ok(room)), Wakes::default());
            }
            // TCP finds out that its peer has closed by sending something.
            Some((_, End::Reset { kind: io::ErrorKind::BrokenPipe, .. }))
                if bytes.is_empty() && !self.is_unix =>
            {
                return (Poll::Ready(Ok(0)), Wakes::default());
            }
            Some((_, End::Reset { kind, .. })) => return (Poll::Ready(Err(kind.into())), Wakes::default()),
            Some((_, End::Closed)) => {
                return (Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())), Wakes::default());
            }
        }
        if bytes.is_empty() {
            // An empty chunk would be read as the end of the stream.
            return (Poll::Ready(Ok(0)), Wakes::default());
        }
        let room = self.room(travel, bytes);
        if room == 0 {
            self.writer = Some(cx.waker().clone());
            return (Poll::Pending, Wakes::default());
        }
        let takes = travel.bandwidth.map_or(Duration::ZERO, |rate| {
            Duration::from_nanos((room as u64).saturating_mul(1_000_000_000) / rate.max(1))
        });
        let left = self.left.unwrap_or(now).max(now) + takes;
        let arrives = self.arrival(now, left + travel.latency);
        (self.left, self.arrives) = (Some(left), Some(arrives));
        self.held += room;
        self.chunks.push_back((arrives, Bytes::copy_from_slice(&bytes[..room])));
        let reader = self.reader.clone().filter(|_| !self.is_frozen);
        let wakes = reader.map(|waker| (Some(arrives), waker)).into_iter().collect();
        (Poll::Ready(Ok(room)), Wakes(wakes))
    }

    /// How many of these bytes there is room for.
    fn room(&self, travel: Travel, bytes: &[u8]) -> usize {
        travel.capacity.saturating_sub(self.held).min(bytes.len())
    }

    /// Wakes a writer that waits when it learns of the reset: not before the link is up again if that is never.
    fn writer_learns(&mut self, now: Instant, at: Instant) -> Wakes {
        let waker = self.writer.take_if(|_| !is_never(now, at));
        Wakes(waker.map(|waker| (Some(at), waker)).into_iter().collect())
    }

    /// When what would arrive at `at` does.
    fn arrival(&self, now: Instant, at: Instant) -> Instant {
        let at = if self.is_frozen { now + NEVER } else { at };
        at.max(self.arrives.unwrap_or(now))
    }

    /// Returns arrived bytes; `fragment` returns how many of the available ones.
    pub(super) fn read(
        &mut self,
        now: Instant,
        cx: &Context<'_>,
        buffer: &mut [u8],
        fragment: impl FnOnce(usize) -> usize,
    ) -> (Poll<io::Result<usize>>, Wakes) {
        if let Some((at, End::Reset { .. })) = self.end
            && at <= now
        {
            return (Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())), Wakes::default());
        }
        let due = match self.chunks.front_mut() {
            Some((at, bytes)) if *at <= now => {
                let most = bytes.len().min(buffer.len());
                let size = fragment(most).clamp(most.min(1), most);
                buffer[..size].copy_from_slice(&bytes.split_to(size));
                if bytes.is_empty() {
                    self.chunks.pop_front();
                }
                self.held -= size;
                let wakes = self.writer.take().map(|waker| (None, waker)).into_iter().collect();
                return (Poll::Ready(Ok(size)), Wakes(wakes));
            }
            Some((at, _)) => Some(*at),
            None => None,
        };
        if let (None, Some((at, End::Closed))) = (due, self.end)
            && at <= now
        {
            return (Poll::Ready(Ok(0)), Wakes::default());
        }
        self.reader = Some(cx.waker().clone());
        let end = self.end.map(|(at, _)| at);
        let next = [due, end].into_iter().flatten().min().filter(|at| !is_never(now, *at));
        (Poll::Pending, Wakes(next.map(|at| (Some(at), cx.waker().clone())).into_iter().collect()))
    }

    /// Nothing more is written; the reader gets what is under way.
    pub(super) fn close(&mut self, now: Instant, latency: Duration) -> Wakes {
        let at = self.arrival(now, now + latency);
        if self.end.is_some() {
            return Wakes::default();
        }
        self.end = Some((at, End::Closed));
        let mut wakes = self.reader_learns(now, at);
        wakes.0.extend(self.writer.take().map(|waker| (None, waker)));
        wakes
    }

    /// Each side gets what arrives until it learns of the reset, and then an error. Of two resets, the one that it learns of first
    /// counts.
    pub(super) fn reset(&mut self, now: Instant, reader: Instant, writer: Instant) -> Wakes {
        self.fail(now, reader, writer, io::ErrorKind::ConnectionReset)
    }

    /// Its reader is gone, which the writer learns at `writer`.
    pub(super) fn abandon(&mut self, now: Instant, writer: Instant) -> Wakes {
        self.fail(now, now, writer, io::ErrorKind::BrokenPipe)
    }

    fn fail(&mut self, now: Instant, reader: Instant, writer: Instant, kind: io::ErrorKind) -> Wakes {
        let (reader, writer, kind) = match self.end {
            None | Some((_, End::Closed)) => (reader, writer, kind),
            Some((at, End::Reset { writer: before, .. })) if reader >= at && writer >= before => {
                return Wakes::default();
            }
            Some((at, End::Reset { writer: before, kind: first })) => {
                (reader.min(at), writer.min(before), if before <= writer { first } else { kind })
            }
        };
        self.end = Some((reader, End::Reset { writer, kind }));
        let mut wakes = self.reader_learns(now, reader);
        wakes.0.extend(self.writer_learns(now, writer).0);
        wakes
    }

    fn reader_learns(&self, now: Instant, at: Instant) -> Wakes {
        let reader = self.reader.clone().filter(|_| !is_never(now, at));
        Wakes(reader.map(|waker| (Some(at), waker)).into_iter().collect())
    }

    /// When chunks arrive, and when each side learns of the end.
    fn times(&mut self) -> impl Iterator<Item = &mut Instant> {
        let ends = self.end.iter_mut().flat_map(|(at, end)| {
            let writer = match end {
                End::Closed => None,
                End::Reset { writer, .. } => Some(writer),
            };
            [Some(at), writer].into_iter().flatten()
        });
        self.chunks.iter_mut().map(|(at, _)| at).chain(ends)
    }

    /// Nothing arrives any more, until [`thaw`](Self::thaw): the link is down, and neither end gets an error.
    pub(super) fn freeze(&mut self, now: Instant) {
        self.is_frozen = true;
        self.times().filter(|at| **at > now).for_each(|at| *at = now + NEVER);
    }

    /// Bytes that were held back arrive at `at`.
    pub(super) fn thaw(&mut self, now: Instant, at: Instant) -> Wakes {
        self.is_frozen = false;
        self.times().filter(|time| is_never(now, **time)).for_each(|time| *time = at);
        self.arrives = self.arrives.map(|arrives| if is_never(now, arrives) { at } else { arrives });
        let mut wakes = self.reader_learns(now, at);
        if let Some((_, End::Reset { writer, .. })) = self.end {
            wakes.0.extend(self.writer_learns(now, writer).0);
        }
        wakes
    }
}

/// As good as never: longer than any run.
pub(super) const NEVER: Duration = Duration::from_secs(1 << 33);

fn is_never(now: Instant, at: Instant) -> bool {
    at.saturating_duration_since(now) > NEVER / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn travel(capacity: usize) -> Travel {
        Travel { latency: 5 * MS, bandwidth: Some(1_000), capacity }
    }

    fn write(pipe: &mut Pipe, now: Instant, bytes: &[u8]) -> Poll<io::Result<usize>> {
        pipe.write(now, &Context::from_waker(Waker::noop()), travel(10), bytes).0
    }

    fn read(pipe: &mut Pipe, now: Instant) -> Poll<Result<usize, io::ErrorKind>> {
        let (read, _) = pipe.read(now, &Context::from_waker(Waker::noop()), &mut [0; 100], |most| most);
        read.map_err(|error| error.kind())
    }

    #[test]
    fn bytes_take_their_time_and_their_room() {
        let (mut pipe, now) = (Pipe::default(), Instant::now());
        assert!(matches!(write(&mut pipe, now, &[1; 8]), Poll::Ready(Ok(8))));
        assert!(matches!(write(&mut pipe, now, &[1; 8]), Poll::Ready(Ok(2))), "what there is room for");
        assert!(write(&mut pipe, now, &[1]).is_pending());
        assert!(
            read(&mut pipe, now + 12 * MS).is_pending(),
            "8 ms at 1,000 bytes a second, and 5 of latency"
        );
        assert_eq!(read(&mut pipe, now + 13 * MS), Poll::Ready(Ok(8)));
        assert!(read(&mut pipe, now + 14 * MS).is_pending());
        assert_eq!(read(&mut pipe, now + 15 * MS), Poll::Ready(Ok(2)));
        assert!(matches!(write(&mut pipe, now + 15 * MS, &[1]), Poll::Ready(Ok(1))));
    }

    #[test]
    fn a_close_follows_what_was_written_and_a_reset_does_not() {
        let (mut pipe, now) = (Pipe::default(), Instant::now());
        assert!(matches!(write(&mut pipe, now, &[1; 5]), Poll::Ready(Ok(5))));
        drop(pipe.close(now, MS));
        assert!(matches!(write(&mut pipe, now, &[1]), Poll::Ready(Err(_))), "it is closed");
        assert!(read(&mut pipe, now + MS).is_pending(), "the end does not overtake");
        assert_eq!(read(&mut pipe, now + 10 * MS), Poll::Ready(Ok(5)));
        assert_eq!(read(&mut pipe, now + 10 * MS), Poll::Ready(Ok(0)));

        let mut pipe = Pipe::default();
        assert!(matches!(write(&mut pipe, now, &[1; 5]), Poll::Ready(Ok(5))));
        drop(pipe.reset(now, now + MS, now + 2 * MS));
        assert!(
            matches!(write(&mut pipe, now + MS, &[1; 5]), Poll::Ready(Ok(5))),
            "its writer knows nothing yet"
        );
        assert!(write(&mut pipe, now + MS, &[1]).is_pending(), "nobody makes room any more");
        assert!(matches!(write(&mut pipe, now + 2 * MS, &[1]), Poll::Ready(Err(_))));
        assert_eq!(read(&mut pipe, now + 10 * MS), Poll::Ready(Err(io::ErrorKind::ConnectionReset)));
    }

    #[test]
    fn tcp_finds_out_by_sending_that_its_peer_has_closed_and_a_unix_socket_by_any_write() {
        let now = Instant::now();
        for is_unix in [false, true] {
            let mut pipe = Pipe::new(is_unix);
            drop(pipe.abandon(now, now + MS));
            let empty = write(&mut pipe, now + MS, &[]);
            assert_eq!(matches!(empty, Poll::Ready(Ok(0))), !is_unix, "{empty:?}");
            assert!(matches!(write(&mut pipe, now + MS, &[1]), Poll::Ready(Err(_))));
        }
    }

    #[test]
    fn a_writer_without_room_is_woken_when_it_learns_of_a_reset() {
        let (mut pipe, now) = (Pipe::default(), Instant::now());
        drop(pipe.reset(now, now, now + MS));
        let cx = Context::from_waker(Waker::noop());
        assert!(matches!(pipe.write(now, &cx, travel(10), &[1; 20]).0, Poll::Ready(Ok(10))));
        let (written, wakes) = pipe.write(now, &cx, travel(10), &[1]);
        assert!(written.is_pending());
        assert_eq!(wakes.0.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [Some(now + MS)]);
    }

    #[test]
    fn who_learns_of_a_reset_after_a_partition_is_woken_then() {
        let (mut pipe, now) = (Pipe::default(), Instant::now());
        assert!(read(&mut pipe, now).is_pending());
        drop(pipe.reset(now, now + 5 * MS, now + 5 * MS));
        pipe.freeze(now + MS);
        assert!(matches!(write(&mut pipe, now + 9 * MS, &[1; 10]), Poll::Ready(Ok(10))));
        assert!(write(&mut pipe, now + 9 * MS, &[1]).is_pending());
        assert!(read(&mut pipe, now + 9 * MS).is_pending());
        let at = now + 60 * MS;
        let wakes = pipe.thaw(now + 50 * MS, at);
        assert_eq!(wakes.0.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [Some(at); 2]);
        assert!(matches!(write(&mut pipe, at, &[1]), Poll::Ready(Err(_))));
        assert_eq!(read(&mut pipe, at), Poll::Ready(Err(io::ErrorKind::ConnectionReset)));
    }

    #[test]
    fn a_reset_on_the_spot_during_a_partition_is_learnt_at_once() {
        let (mut pipe, now) = (Pipe::default(), Instant::now());
        assert!(read(&mut pipe, now).is_pending());
        pipe.freeze(now);
        drop(pipe.reset(now, now + NEVER, now + NEVER));
        assert!(read(&mut pipe, now + MS).is_pending());
        let at = now + MS;
        let wakes = pipe.reset(at, at, at);
        assert_eq!(wakes.0.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [Some(at)]);
        assert_eq!(read(&mut pipe, at), Poll::Ready(Err(io::ErrorKind::ConnectionReset)));
    }

    #[test]
    fn an_empty_write_does_not_end_the_stream() {
        let (mut pipe, now) = (Pipe::default(), Instant::now());
        assert!(matches!(write(&mut pipe, now, &[]), Poll::Ready(Ok(0))));
        assert!(read(&mut pipe, now + 10 * MS).is_pending());
    }

    #[test]
    fn what_does_not_arrive_during_a_partition_arrives_after_it() {
        let (mut pipe, now) = (Pipe::default(), Instant::now());
        assert!(matches!(write(&mut pipe, now, &[1; 5]), Poll::Ready(Ok(5))));
        pipe.freeze(now + 10 * MS);
        assert!(matches!(write(&mut pipe, now + 11 * MS, &[1; 3]), Poll::Ready(Ok(3))));
        drop(pipe.close(now + 11 * MS, MS));
        assert_eq!(read(&mut pipe, now + 60_000 * MS), Poll::Ready(Ok(5)), "it had arrived");
        assert!(read(&mut pipe, now + 60_000 * MS).is_pending());
        drop(pipe.thaw(now + 60_000 * MS, now + 60_005 * MS));
        assert!(read(&mut pipe, now + 60_004 * MS).is_pending());
        assert_eq!(read(&mut pipe, now + 60_005 * MS), Poll::Ready(Ok(3)));
        assert_eq!(read(&mut pipe, now + 60_005 * MS), Poll::Ready(Ok(0)));
    }
}
