//! The 64 bytes with which a peer starts (RFC 23, section "Greeting").

use bytes::{Buf, Bytes};
use omq_proto::proto::{MechanismName, ZMTP_MAJOR, greeting};

use super::LinkError;

const MECHANISM: std::ops::Range<usize> = 12..32;
const MAJOR: usize = 10;
const AS_SERVER: usize = 32;

/// Collects a greeting and judges it as soon as enough of it is there: peers of another protocol may wait for
/// us in the middle of it.
#[derive(Default)]
pub(super) struct GreetingBuffer {
    bytes: Vec<u8>,
}

impl GreetingBuffer {
    /// Takes from `data` what is missing; the greeting once it is complete.
    ///
    /// `server`: whether this end is the mechanism's server.
    pub(super) fn fill(
        &mut self,
        data: &mut Bytes,
        ours: MechanismName,
        server: bool,
    ) -> Result<Option<Bytes>, LinkError> {
        let take = data.len().min(greeting::GREETING_LEN - self.bytes.len());
        self.bytes.extend_from_slice(&data[..take]);
        data.advance(take);
        self.check_version()?;
        if self.bytes.len() < greeting::GREETING_LEN {
            return Ok(None);
        }
        self.check_mechanism(ours)?;
        self.check_server(ours, server)?;
        Ok(Some(Bytes::from(std::mem::take(&mut self.bytes))))
    }

    fn check_version(&self) -> Result<(), LinkError> {
        // RFC 23: the eight bytes between these two don't matter.
        let wrong = |at: usize, wanted: u8| self.bytes.get(at).is_some_and(|byte| *byte != wanted);
        if wrong(0, 0xFF) || wrong(9, 0x7F) {
            return Err(LinkError::NotZmtp);
        }
        match self.bytes.get(MAJOR) {
            Some(&major) if major < ZMTP_MAJOR => Err(LinkError::UnsupportedVersion { major }),
            _ => Ok(()),
        }
    }

    fn check_mechanism(&self, ours: MechanismName) -> Result<(), LinkError> {
        let theirs = &self.bytes[MECHANISM];
        if theirs == ours.as_padded() {
            return Ok(());
        }
        let name = theirs.split(|byte| *byte == 0).next().unwrap_or_default();
        let ours = match ours {
            MechanismName::CURVE => "CURVE",
            _ => "NULL",
        };
        Err(LinkError::MechanismMismatch { ours, theirs: name.escape_ascii().to_string() })
    }

    /// NULL has no server, other mechanisms have one. libzmq's server does not say that it is.
    fn check_server(&self, ours: MechanismName, server: bool) -> Result<(), LinkError> {
        let expected = match self.bytes[AS_SERVER] {
            0 => true,
            1 => ours != MechanismName::NULL && !server,
            _ => false,
        };
        if expected {
            return Ok(());
        }
        Err(LinkError::Handshake { detail: "the peer claims to be the mechanism's server".to_owned() })
    }
}
