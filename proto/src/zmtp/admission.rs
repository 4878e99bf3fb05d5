//! Admission: a client of CURVE that waits while the application decides about it. Its input is buffered, within
//! the limits of the handshake.

use bytes::{Buf, Bytes};

use super::LinkError;
use super::curve::Proved;
use super::framing::grow;
use super::handshake::Progress;

/// A client that waits for the decision, and its input in that time.
pub(super) struct Deciding {
    pub(super) progress: Progress,
    pub(super) minor: u8,
    pub(super) client: Proved,
    pub(super) identity: Bytes,
    pub(super) held: Vec<u8>,
}

impl Deciding {
    pub(super) fn new(progress: Progress, minor: u8, client: Proved, identity: Bytes) -> Self {
        Self { progress, minor, client, identity, held: Vec::new() }
    }

    /// Buffers input until the decision.
    pub(super) fn hold(&mut self, data: &mut &[u8]) -> Result<(), LinkError> {
        // Z-16: the client is not admitted yet, so its bytes count like those of the handshake. They stay
        // unparsed, because no message may take effect before the decision.
        let most = self.held.len() + self.progress.left();
        self.progress.count(data.len())?;
        grow(&mut self.held, data.len(), 0, most);
        self.held.extend_from_slice(data);
        data.advance(data.len());
        Ok(())
    }
}
