//! A multipart message. The transport delivers all of its frames, or none.

use bytes::{Bytes, BytesMut};

/// The most frames of a Callosum message.
pub(crate) const MAX_FRAMES: usize = 3;

/// A ZeroMQ multipart message of at most three frames. The list of frames needs no heap allocation.
///
/// The last frame may be in two pieces, of which the second is the [`tail`](Self::tail), so that a
/// MessagePack prefix can precede a large body without a copy of the body.
#[derive(Clone, Debug, Default)]
pub struct Multipart {
    frames: [Bytes; MAX_FRAMES],
    len: u8,
    tail: Bytes,
}

impl Multipart {
    /// A message of three frames, as in dialect 1.
    pub fn new(marker: Bytes, header: Bytes, body: Bytes) -> Self {
        Self { frames: [marker, header, body], len: MAX_FRAMES as u8, tail: Bytes::new() }
    }

    /// Like [`new`](Self::new), where the last frame is `body` followed by `tail`.
    pub fn with_tail(marker: Bytes, header: Bytes, body: Bytes, tail: Bytes) -> Self {
        Self { frames: [marker, header, body], len: MAX_FRAMES as u8, tail }
    }

    /// A message of one frame: `body` followed by `tail`.
    pub fn single(body: Bytes, tail: Bytes) -> Self {
        Self { frames: [body, Bytes::new(), Bytes::new()], len: 1, tail }
    }

    /// A message of these frames; `None` if there are none, or more than three.
    pub fn from_frames(frames: impl IntoIterator<Item = Bytes>) -> Option<Self> {
        let mut message = Self::default();
        for frame in frames {
            // Ends at the fourth frame, however many follow.
            *message.frames.get_mut(usize::from(message.len))? = frame;
            message.len += 1;
        }
        (message.len > 0).then_some(message)
    }

    /// A message of the first `count` frames; `None` unless `count` is 1, 2 or 3.
    pub(crate) fn from_array(frames: [Bytes; MAX_FRAMES], count: usize) -> Option<Self> {
        let len = u8::try_from(count).ok().filter(|_| (1..=MAX_FRAMES).contains(&count))?;
        Some(Self { frames, len, tail: Bytes::new() })
    }

    /// The frames, the last one without its [`tail`](Self::tail).
    pub fn frames(&self) -> &[Bytes] {
        &self.frames[..usize::from(self.len)]
    }

    /// The rest of the last frame; empty in received messages.
    pub fn tail(&self) -> &Bytes {
        &self.tail
    }

    /// Bytes of all frames together.
    pub fn size(&self) -> usize {
        self.frames().iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    /// The frames, each in one piece. Copies the last frame if it has a tail.
    pub fn into_frames(mut self) -> impl ExactSizeIterator<Item = Bytes> {
        self.join_tail();
        self.frames.into_iter().take(usize::from(self.len))
    }

    /// The frames of a message with exactly three; `None` for any other.
    pub fn into_three(mut self) -> Option<[Bytes; 3]> {
        self.join_tail();
        (usize::from(self.len) == MAX_FRAMES).then_some(self.frames)
    }

    /// The frame of a message with exactly one; `None` for any other.
    pub fn into_one(mut self) -> Option<Bytes> {
        self.join_tail();
        let [frame, ..] = self.frames;
        (self.len == 1).then_some(frame)
    }

    fn join_tail(&mut self) {
        if self.tail.is_empty() || self.len == 0 {
            return;
        }
        let last = &mut self.frames[usize::from(self.len) - 1];
        let mut whole = BytesMut::with_capacity(last.len() + self.tail.len());
        whole.extend_from_slice(last);
        whole.extend_from_slice(&self.tail);
        *last = whole.freeze();
        self.tail = Bytes::new();
    }
}

impl PartialEq for Multipart {
    fn eq(&self, other: &Self) -> bool {
        // Where the last frame is split has no meaning. Clones share their bytes.
        self.clone().into_frames().eq(other.clone().into_frames())
    }
}

impl Eq for Multipart {}
