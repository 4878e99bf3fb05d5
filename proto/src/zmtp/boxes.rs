//! What holds for encrypted frames, before and after the codec opens them (RFC 26, section "MESSAGE").

use super::assembly::MAX_FRAMES_READ;
use super::framing::Head;
use super::{LinkError, MAX_COMMAND, Violation};

const NAME: &[u8] = b"\x07MESSAGE";
const NONCE: usize = 8;
const TAG: usize = 16;
const FLAGS: usize = 1;
/// By how much a box is longer than what is in it.
pub(super) const OVERHEAD: usize = NAME.len() + NONCE + TAG + FLAGS;
/// RFC 26: a client has said HELLO and INITIATE with the first two numbers, a server READY with the first.
const SAID_BY_CLIENT: u64 = 2;
const SAID_BY_SERVER: u64 = 1;
/// The longest PONG (RFC 37): its name and 16 bytes of context.
const MAX_PONG: usize = 5 + 16;

/// The nonce of the command with which a peer ends its part of the handshake (RFC 26: INITIATE has a cookie of 96
/// bytes before it, READY nothing).
pub(super) fn handshake_nonce(command: &[u8]) -> Option<u64> {
    let ready = command.strip_prefix(b"\x05READY");
    let from_nonce = ready.or_else(|| command.strip_prefix(b"\x08INITIATE")?.get(96..))?;
    from_nonce.first_chunk().copied().map(u64::from_be_bytes)
}

/// What came out of a box.
#[derive(Clone, Copy)]
pub(super) enum Opened {
    /// The last frame of a message of this size, with this many frames.
    Message { size: usize, frames: usize },
    /// A command that was answered or passed on.
    Command,
    /// Nothing: a frame with more to follow, or a PONG. The codec does not say which.
    Nothing,
}

/// Counts what the codec is putting together, and keeps the boxes in order.
pub(super) struct Boxes {
    max_size: usize,
    next_nonce: u64,
    /// The number of the last box of this end's. The codec counts them too, and seals none past the last number, but half
    /// of a message may be out by then.
    last_sealed: u64,
    size: usize,
    frames: usize,
    pongs_due: usize,
}

impl Boxes {
    /// `last_nonce`: of the peer's last command of the handshake. Boxes count on from it, or the first ones could be
    /// taken out without a trace.
    pub(super) fn new(max_size: usize, last_nonce: u64, server: bool) -> Self {
        Self {
            max_size,
            next_nonce: last_nonce.wrapping_add(1),
            last_sealed: if server { SAID_BY_SERVER } else { SAID_BY_CLIENT },
            size: 0,
            frames: 0,
            pongs_due: 0,
        }
    }

    /// Takes the numbers for so many boxes of this end's, or none of them if there are not as many left: no number may
    /// come twice.
    pub(super) fn seal(&mut self, boxes: usize) -> Option<()> {
        self.last_sealed = self.last_sealed.checked_add(boxes as u64)?;
        Some(())
    }

    /// Whether a box of this length may be held. What is not longer than a command may be one.
    pub(super) fn admit(&self, head: &Head) -> Result<(), LinkError> {
        let inside = head.len.saturating_sub(OVERHEAD);
        if inside > MAX_COMMAND { self.check_size(inside) } else { Ok(()) }
    }

    /// Whether it is a box at all, and the one that is due.
    ///
    /// RFC 26 counts nonces up; peers do so by one. To insist on it means that nobody on the way can take
    /// boxes out and so put the frames of several messages together to another.
    pub(super) fn check(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let nonce = payload.strip_prefix(NAME).ok_or(Violation::NotEncrypted)?;
        let (nonce, sealed) = nonce.split_first_chunk().ok_or(Violation::Forged)?;
        if sealed.len() < TAG + FLAGS {
            return Err(Violation::Forged);
        }
        let nonce = u64::from_be_bytes(*nonce);
        if nonce != self.next_nonce {
            return Err(Violation::OutOfOrder);
        }
        // After the last nonce of all none is due any more, and zero never is.
        self.next_nonce = nonce.wrapping_add(1);
        Ok(())
    }

    /// Notes what was in a box of this length.
    pub(super) fn opened(&mut self, head: &Head, what: Opened) -> Result<(), LinkError> {
        let inside = head.len.saturating_sub(OVERHEAD);
        match what {
            Opened::Message { size, frames } => {
                (self.size, self.frames) = (0, 0);
                if size > self.max_size {
                    return Err(LinkError::TooLarge { size: size as u64, max: self.max_size });
                }
                check_frames(frames)
            }
            Opened::Command if inside > MAX_COMMAND => {
                Err(LinkError::TooLarge { size: inside as u64, max: MAX_COMMAND })
            }
            Opened::Command => Ok(()),
            Opened::Nothing if inside <= MAX_PONG && self.pongs_due > 0 => {
                self.pongs_due -= 1;
                Ok(())
            }
            Opened::Nothing => {
                self.frames += 1;
                check_frames(self.frames)?;
                if inside > MAX_PONG {
                    self.check_size(inside)?;
                    self.size += inside;
                }
                Ok(())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn last_sealed(&mut self) -> &mut u64 {
        &mut self.last_sealed
    }

    /// A PING was sent, so a PONG may come at any place.
    pub(super) fn pinged(&mut self) {
        self.pongs_due += 1;
    }

    fn check_size(&self, more: usize) -> Result<(), LinkError> {
        // Saturating: whoever is on the way may announce any 64-bit length, for heads are in the clear.
        let size = (self.size as u64).saturating_add(more as u64);
        if size > self.max_size as u64 {
            return Err(LinkError::TooLarge { size, max: self.max_size });
        }
        Ok(())
    }
}

fn check_frames(frames: usize) -> Result<(), LinkError> {
    if frames > MAX_FRAMES_READ {
        return Err(LinkError::TooManyFrames { max: MAX_FRAMES_READ });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(inside: usize) -> Head {
        Head::data(false, inside + OVERHEAD)
    }

    #[test]
    fn pongs_between_frames_are_not_part_of_the_message() {
        let mut boxes = Boxes::new(100, 2, true);
        boxes.opened(&head(95), Opened::Nothing).unwrap();
        boxes.pinged();
        boxes.opened(&head(5), Opened::Nothing).unwrap();
        boxes.opened(&head(5), Opened::Message { size: 100, frames: 2 }).unwrap();
        for _ in 0..MAX_FRAMES_READ + 1 {
            boxes.pinged();
            boxes.opened(&head(MAX_PONG), Opened::Nothing).unwrap();
        }
    }

    #[test]
    fn pongs_that_nobody_asked_for_are_bounded() {
        let mut boxes = Boxes::new(100, 2, true);
        for _ in 0..MAX_FRAMES_READ {
            boxes.opened(&head(5), Opened::Nothing).unwrap();
        }
        let result = boxes.opened(&head(5), Opened::Nothing);
        assert_eq!(result, Err(LinkError::TooManyFrames { max: MAX_FRAMES_READ }));
    }

    #[test]
    fn no_number_is_given_twice() {
        for server in [false, true] {
            let mut boxes = Boxes::new(100, 2, server);
            boxes.last_sealed = u64::MAX - 4;
            assert_eq!(boxes.seal(3), Some(()));
            assert_eq!(boxes.seal(2), None, "one is left");
            assert_eq!(boxes.seal(1), Some(()));
            assert_eq!(boxes.seal(1), None);
        }
    }

    #[test]
    fn nothing_follows_the_last_nonce() {
        let sealed = |nonce: u64| [NAME, &nonce.to_be_bytes(), &[0; TAG + FLAGS]].concat();
        let mut boxes = Boxes::new(100, u64::MAX - 2, true);
        boxes.check(&sealed(u64::MAX - 1)).unwrap();
        boxes.check(&sealed(u64::MAX)).unwrap();
        assert_eq!(boxes.check(&sealed(1)), Err(Violation::OutOfOrder));
        assert_eq!(boxes.check(&sealed(u64::MAX)), Err(Violation::OutOfOrder));
    }
}
