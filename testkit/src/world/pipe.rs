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
    /// What has not been read is lost. The writer learns it at another time than the reader.
    Reset { writer: Instant },
}

/// What a write may do, and how long it takes.
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
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Whom to wake, and when: at once if there is no time.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Wakes(pub(super) Vec<(Option<Instant>, Waker)>);

impl Pipe {
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
            // Whoever writes does not know it yet.
            Some((_, End::Reset { writer })) if writer > now => {
                return (Poll::Ready(Ok(bytes.len())), Wakes::default());
            }
            Some(_) => return (Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())), Wakes::default()),
        }
        let room = travel.capacity.saturating_sub(self.held).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
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

    /// When what would arrive at `at` does.
    fn arrival(&self, now: Instant, at: Instant) -> Instant {
        let at = if self.is_frozen { now + NEVER } else { at };
        at.max(self.arrives.unwrap_or(now))
    }

    /// Gives what has arrived; `fragment` says how much of so much to give.
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
        self.finish(at, End::Closed)
    }

    /// Each side gets what arrives until it learns of the reset, and then an error.
    pub(super) fn reset(&mut self, reader: Instant, writer: Instant) -> Wakes {
        self.finish(reader, End::Reset { writer })
    }

    fn finish(&mut self, at: Instant, how: End) -> Wakes {
        match (self.end, how) {
            (None, _) | (Some((_, End::Closed)), End::Reset { .. }) => self.end = Some((at, how)),
            (Some(_), _) => return Wakes::default(),
        }
        let reader = self.reader.clone().filter(|_| !self.is_frozen).map(|waker| (Some(at), waker));
        let learns = match how {
            End::Closed => None,
            End::Reset { writer } => Some(writer),
        };
        Wakes(reader.into_iter().chain(self.writer.take().map(|waker| (learns, waker))).collect())
    }

    /// Nothing arrives any more, until [`thaw`](Self::thaw): the link is down, and nobody is told.
    pub(super) fn freeze(&mut self, now: Instant) {
        self.is_frozen = true;
        let times = self.chunks.iter_mut().map(|(at, _)| at).chain(self.end.as_mut().map(|(at, _)| at));
        times.filter(|at| **at > now).for_each(|at| *at = now + NEVER);
    }

    /// What did not arrive meanwhile does at `at`.
    pub(super) fn thaw(&mut self, now: Instant, at: Instant) -> Wakes {
        self.is_frozen = false;
        let times = self.chunks.iter_mut().map(|(at, _)| at).chain(self.end.as_mut().map(|(at, _)| at));
        times.filter(|time| is_never(now, **time)).for_each(|time| *time = at);
        self.arrives = self.arrives.map(|arrives| if is_never(now, arrives) { at } else { arrives });
        Wakes(self.reader.clone().map(|waker| (Some(at), waker)).into_iter().collect())
    }
}

/// As good as never: longer than any run.
const NEVER: Duration = Duration::from_secs(1 << 33);

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
        drop(pipe.reset(now + MS, now + 2 * MS));
        assert!(
            matches!(write(&mut pipe, now + MS, &[1; 5]), Poll::Ready(Ok(5))),
            "its writer knows nothing yet"
        );
        assert!(matches!(write(&mut pipe, now + 2 * MS, &[1]), Poll::Ready(Err(_))));
        assert_eq!(read(&mut pipe, now + 10 * MS), Poll::Ready(Err(io::ErrorKind::ConnectionReset)));
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
