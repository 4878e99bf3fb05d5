//! Input and output of an established link: frames and the commands between them, in the clear or in CURVE
//! messages.
//!
//! Only this module knows whether the link is encrypted: [`Traffic`] turns frames into events, and messages
//! into frames in the output queue. Not responsible for splitting the input into frames, nor for the sizes of
//! messages.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::assembly::Assembly;
use super::command::{self, Command};
#[cfg(feature = "curve")]
use super::curve::{Cipher, MessageKind, OVERHEAD};
use super::framing::{Deframer, Head, Payload};
use super::liveness::{Due, Liveness};
use super::output::OutputQueue;
use super::{LinkError, LinkEvent, MAX_COMMAND, ZmtpViolation};
use crate::Multipart;
use crate::kept::QUIET;

/// Z-14: no TTL in our PING. With one, the peer could close a link because this end has nothing to send.
const TTL: [u8; 2] = [0, 0];

/// How frames are protected.
pub(super) enum Protection {
    None,
    #[cfg(feature = "curve")]
    Curve(Cipher),
}

/// An established link.
pub(super) struct Traffic {
    pub(super) protection: Protection,
    pub(super) assembly: Assembly,
    /// `None` if the peer gets no PINGs.
    pub(super) liveness: Option<Liveness>,
    /// When the last bytes of the peer were read.
    heard: Instant,
    /// Messages that were sent. Each PING has the number as its context, so its PONG says that the peer has read
    /// so many.
    sent: u64,
    /// How many of them the peer is known to have read.
    acknowledged: u64,
}

impl Traffic {
    pub(super) fn new(
        protection: Protection,
        max_message_size: usize,
        liveness: Option<Liveness>,
        now: Instant,
    ) -> Self {
        let assembly = Assembly::new(max_message_size);
        Self { protection, assembly, liveness, heard: now, sent: 0, acknowledged: 0 }
    }

    /// The peer has sent some bytes. Z-14: any byte counts as an answer to a PING.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        if let Some(liveness) = &mut self.liveness {
            liveness.heard(now);
        }
    }

    /// Whether nothing was read for so long that spare memory is freed.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= QUIET
    }

    /// Checks the size of a frame before any of it is buffered.
    pub(super) fn admit(&self, head: &Head) -> Result<(), LinkError> {
        match &self.protection {
            Protection::None if !head.command => self.assembly.admit(head.len),
            Protection::None => check_command(head.len),
            // The type is encrypted: up to the size of a command, the frame may be one.
            #[cfg(feature = "curve")]
            Protection::Curve(_) => match head.len.saturating_sub(OVERHEAD) {
                0..=MAX_COMMAND => Ok(()),
                inside => self.assembly.admit_size(inside),
            },
        }
    }

    /// Handles a frame that was admitted. The last frame of a message makes it an event.
    #[cfg_attr(not(feature = "curve"), expect(unused_mut, reason = "nothing is decrypted"))]
    pub(super) fn take_frame(
        &mut self,
        head: &Head,
        mut payload: Payload,
        deframer: &mut Deframer,
        output: &mut OutputQueue,
        events: &mut VecDeque<LinkEvent>,
    ) -> Result<(), LinkError> {
        match &mut self.protection {
            Protection::None if !head.command => {
                events.extend(self.assembly.push(head.more, deframer.freeze(payload, 0)));
            }
            Protection::None => self.take_command(&payload, output, events)?,
            #[cfg(feature = "curve")]
            Protection::Curve(cipher) => match cipher.open(&mut payload)? {
                // `more` is the flag inside. The one in the clear is ignored, since it is not authenticated.
                MessageKind::Frame { more } => {
                    self.assembly.admit(payload.len() - OVERHEAD)?;
                    events.extend(self.assembly.push(more, deframer.freeze(payload, OVERHEAD)));
                }
                MessageKind::Command => {
                    // Again, now that it is known to be a command: until here, it may have been a part of a
                    // message.
                    check_command(payload.len() - OVERHEAD)?;
                    self.take_command(&payload[OVERHEAD..], output, events)?;
                }
            },
        }
        Ok(())
    }

    fn take_command(
        &mut self,
        payload: &[u8],
        output: &mut OutputQueue,
        events: &mut VecDeque<LinkEvent>,
    ) -> Result<(), LinkError> {
        let too_late = |command: &'static str| Err(ZmtpViolation::TooLate { command }.into());
        match Command::parse(payload)? {
            Command::Ping { context } => {
                let pong = self.send_command(b"\x04PONG", context, output)?;
                // Z-15: counted, so that a peer that sends PINGs and reads no PONGs is no longer read from.
                output.mark_reply(pong);
                Ok(())
            }
            Command::Pong { context } => {
                events.extend(self.acknowledge(context));
                Ok(())
            }
            Command::Other => Ok(()),
            Command::Ready => too_late("READY"),
            Command::Error { reason } => match self.protection {
                Protection::None => Err(LinkError::refused(reason)),
                // Clients are refused in the handshake, so an ERROR is never in a CURVE message.
                #[cfg(feature = "curve")]
                Protection::Curve(_) => too_late("ERROR"),
            },
        }
    }

    /// What a PONG with this context says. Peers of old versions of ZMTP send no context, and others may invent
    /// one.
    fn acknowledge(&mut self, context: &[u8]) -> Option<LinkEvent> {
        let messages = u64::from_be_bytes(context.try_into().ok()?);
        // Z-14: known already, or invented: nobody can acknowledge what has not been sent.
        if messages <= self.acknowledged || messages > self.sent {
            return None;
        }
        self.acknowledged = messages;
        Some(LinkEvent::Acknowledged { messages })
    }

    /// Queues a command; returns the size of its frame.
    fn send_command(
        &mut self,
        name: &[u8],
        body: &[u8],
        output: &mut OutputQueue,
    ) -> Result<usize, LinkError> {
        Ok(match &mut self.protection {
            Protection::None => command::queue(output, name, &[body]),
            #[cfg(feature = "curve")]
            Protection::Curve(cipher) => {
                let number = cipher.reserve(1).ok_or(LinkError::Exhausted)?;
                seal(cipher, number, MessageKind::Command, [name, body], output)
            }
        })
    }

    /// Handles the heartbeat timer: sends a PING, or ends the link.
    pub(super) fn handle_timeout(&mut self, now: Instant, output: &mut OutputQueue) -> Result<(), LinkError> {
        let due = self.liveness.as_mut().map_or(Due::Nothing, |liveness| liveness.handle_timeout(now));
        match due {
            Due::Nothing => Ok(()),
            Due::Ping => {
                // The PING is queued behind all messages that its context counts, so its PONG acknowledges
                // them all.
                let mut body = [0; TTL.len() + size_of::<u64>()];
                body[..TTL.len()].copy_from_slice(&TTL);
                body[TTL.len()..].copy_from_slice(&self.sent.to_be_bytes());
                self.send_command(b"\x04PING", &body, output).map(drop)
            }
            Due::Dead => Err(LinkError::KeepaliveTimedOut),
        }
    }

    /// Queues a message as a whole, or fails.
    pub(super) fn send(&mut self, message: &Multipart, output: &mut OutputQueue) -> Result<(), LinkError> {
        let frames = message.frames();
        let parts = frames.iter().enumerate().map(|(index, frame)| {
            let more = index + 1 < frames.len();
            (more, frame, Some(message.tail()).filter(|tail| !more && !tail.is_empty()))
        });
        match &mut self.protection {
            Protection::None => {
                for (more, frame, tail) in parts {
                    let len = frame.len() + tail.map_or(0, Bytes::len);
                    output.copy(Head::data(more, len).as_bytes());
                    output.push(frame);
                    tail.into_iter().for_each(|tail| output.push(tail));
                }
            }
            #[cfg(feature = "curve")]
            Protection::Curve(cipher) => {
                // numbers for the whole message first, so that no part of it is sent if too few are
                // left.
                let first = cipher.reserve(frames.len()).ok_or(LinkError::Exhausted)?;
                for (number, (more, frame, tail)) in (first..=u64::MAX).zip(parts) {
                    let parts: [&[u8]; 2] = [frame, tail.map_or(&[], |tail| tail)];
                    seal(cipher, number, MessageKind::Frame { more }, parts, output);
                }
            }
        }
        // Only once it is queued as a whole. A PING that is queued from now on counts it.
        self.sent += 1;
        Ok(())
    }
}

fn check_command(len: usize) -> Result<(), LinkError> {
    if len > MAX_COMMAND {
        return Err(LinkError::TooLarge { size: len as u64, max: MAX_COMMAND });
    }
    Ok(())
}

/// Queues one CURVE message; returns the size of its frame.
#[cfg(feature = "curve")]
fn seal(
    cipher: &Cipher,
    number: u64,
    kind: MessageKind,
    parts: [&[u8]; 2],
    output: &mut OutputQueue,
) -> usize {
    // Like libzmq, set MORE in the clear, too, but COMMAND only inside.
    let more = kind == MessageKind::Frame { more: true };
    let head = Head::data(more, OVERHEAD + parts[0].len() + parts[1].len());
    let len = head.as_bytes().len() + head.len;
    output.write(len, |run| {
        run.extend_from_slice(head.as_bytes());
        cipher.seal(number, kind, parts, run);
    });
    len
}

#[cfg(all(test, feature = "curve"))]
mod tests;
