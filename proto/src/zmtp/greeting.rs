//! The greeting: the first 64 bytes of each side (RFC 23, section "Greeting").
//!
//! The peer's greeting is checked as soon as enough of it has arrived, since a peer of another protocol may
//! wait for an answer before it has sent 64 bytes.

use bytes::Buf;

use super::{LinkError, ZmtpViolation};

const LEN: usize = 64;
const MAJOR: usize = 10;
const MINOR: usize = 11;
const MECHANISM: std::ops::Range<usize> = 12..32;
const AS_SERVER: usize = 32;
/// The version of this end.
const VERSION: (u8, u8) = (3, 1);

/// The fields of a greeting that depend on the mechanism.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) mechanism: &'static str,
    /// Whether this end is the server of the mechanism.
    pub(super) is_server: bool,
}

impl Terms {
    /// The greeting of this end.
    pub(super) fn encode(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        // Bytes 1 to 8 stay zero, as RFC 23 asks of a peer that does not speak versions before 3.0.
        (bytes[0], bytes[9], bytes[MAJOR], bytes[MINOR]) = (0xFF, 0x7F, VERSION.0, VERSION.1);
        bytes[MECHANISM][..self.mechanism.len()].copy_from_slice(self.mechanism.as_bytes());
        bytes[AS_SERVER] = self.is_server.into();
        bytes
    }
}

/// The peer's greeting, as far as it has arrived.
pub(super) struct Greeting {
    bytes: [u8; LEN],
    filled: usize,
}

impl Greeting {
    /// Bytes of a complete greeting.
    pub(super) const LEN: usize = LEN;

    pub(super) fn new() -> Self {
        Self { bytes: [0; LEN], filled: 0 }
    }

    /// Takes missing bytes from `data`. Returns the minor version of ZMTP 3 to speak once the greeting is
    /// complete.
    pub(super) fn fill(&mut self, data: &mut &[u8], ours: Terms) -> Result<Option<u8>, LinkError> {
        let take = data.len().min(LEN - self.filled);
        self.bytes[self.filled..self.filled + take].copy_from_slice(&data[..take]);
        self.filled += take;
        data.advance(take);
        self.check_version()?;
        if self.filled < LEN {
            return Ok(None);
        }
        self.check_mechanism(ours)?;
        // Z-3: a peer of a later major version also speaks this one.
        let minor = if self.bytes[MAJOR] > VERSION.0 { VERSION.1 } else { self.bytes[MINOR].min(VERSION.1) };
        Ok(Some(minor))
    }

    fn check_version(&self) -> Result<(), LinkError> {
        let bytes = &self.bytes[..self.filled];
        // RFC 23: the eight bytes between these two are ignored.
        let wrong = |at: usize, wanted: u8| bytes.get(at).is_some_and(|byte| *byte != wanted);
        if wrong(0, 0xFF) || wrong(9, 0x7F) {
            return Err(LinkError::NotZmtp);
        }
        match bytes.get(MAJOR) {
            Some(&major) if major < VERSION.0 => Err(LinkError::UnsupportedVersion { major }),
            _ => Ok(()),
        }
    }

    fn check_mechanism(&self, ours: Terms) -> Result<(), LinkError> {
        let theirs = &self.bytes[MECHANISM];
        let padding = theirs.strip_prefix(ours.mechanism.as_bytes());
        if !padding.is_some_and(|padding| padding.iter().all(|byte| *byte == 0)) {
            let name = theirs.split(|byte| *byte == 0).next().unwrap_or_default();
            let theirs = name.escape_ascii().to_string();
            return Err(LinkError::MechanismMismatch { ours: ours.mechanism, theirs });
        }
        // Z-2: NULL has no server. libzmq's CURVE server does not set as-server.
        match self.bytes[AS_SERVER] {
            0 => Ok(()),
            1 if ours.mechanism != "NULL" && !ours.is_server => Ok(()),
            _ => Err(ZmtpViolation::PeerIsServer.into()),
        }
    }
}
