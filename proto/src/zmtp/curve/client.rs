//! The client of the CURVE handshake: sends HELLO and INITIATE, checks WELCOME and READY.

use x25519_dalek::{PublicKey, StaticSecret};

use super::crypto::{Seed, SharedKey, numbered_nonce, random_nonce};
use super::messages::Side;
use super::{
    COOKIE, Cipher, CurveKeyPair, CurvePublicKey, HELLO_PADDING, HELLO_ZEROS, NONCE_HELLO, NONCE_INITIATE,
    NONCE_READY, NONCE_VOUCH, NONCE_WELCOME, VERSION, agree, sealed,
};
use crate::zmtp::ZmtpViolation;
use crate::zmtp::command::{self, Properties};
use crate::zmtp::output::OutputQueue;

const HELLO_NUMBER: u64 = 1;
const INITIATE_NUMBER: u64 = 2;

/// A client, by the message that it waits for.
pub(in crate::zmtp) enum Client {
    /// The server's greeting.
    Greeting { keys: CurveKeyPair, server: CurvePublicKey, seed: Seed },
    Welcome {
        keys: CurveKeyPair,
        server: CurvePublicKey,
        seed: Seed,
        ephemeral: StaticSecret,
        /// Shared by the client's ephemeral key and the server's long-term key.
        greeting_key: SharedKey,
    },
    Ready {
        server: CurvePublicKey,
        /// Shared by the two ephemeral keys.
        session: SharedKey,
    },
}

impl Client {
    pub(in crate::zmtp) fn new(keys: CurveKeyPair, server: CurvePublicKey, seed: [u8; 32]) -> Self {
        Self::Greeting { keys, server, seed: Seed::new(seed) }
    }

    /// The name of the next command.
    pub(in crate::zmtp) fn expected(&self) -> &'static str {
        match self {
            Self::Greeting { .. } | Self::Welcome { .. } => "WELCOME",
            Self::Ready { .. } => "READY",
        }
    }

    /// Sends HELLO, after the server's greeting.
    pub(in crate::zmtp) fn begin(self, output: &mut OutputQueue) -> Result<Self, ZmtpViolation> {
        let Self::Greeting { keys, server, seed } = self else { return Ok(self) };
        let ephemeral = StaticSecret::from(*seed.derive(b"client ephemeral"));
        // Can't fail: no `CurvePublicKey` has a low order or another form than the canonical one.
        let greeting_key = agree(&ephemeral, server.as_bytes(), "the configuration")?;
        let nonce = numbered_nonce(NONCE_HELLO, HELLO_NUMBER);
        // Shows the server that the client knows its public key; others get no answer.
        let proof = sealed(&greeting_key, &nonce, &[&HELLO_ZEROS]);
        let public = PublicKey::from(&ephemeral);
        let body: [&[u8]; 5] =
            [&VERSION, &[0; HELLO_PADDING], public.as_bytes(), &HELLO_NUMBER.to_be_bytes(), &proof];
        command::queue(output, b"\x05HELLO", &body);
        Ok(Self::Welcome { keys, server, seed, ephemeral, greeting_key })
    }

    /// Handles a WELCOME, and answers with an INITIATE that contains `ours`.
    pub(in crate::zmtp) fn welcomed(
        self,
        body: &mut [u8],
        ours: &Properties,
        output: &mut OutputQueue,
    ) -> Result<Self, ZmtpViolation> {
        const COMMAND: &str = "WELCOME";
        let Self::Welcome { keys, server, seed, ephemeral, greeting_key } = self else {
            return Err(ZmtpViolation::Unexpected { expected: self.expected() });
        };
        let malformed = ZmtpViolation::Malformed { command: COMMAND };
        let (nonce, welcome) = body.split_first_chunk_mut().ok_or(malformed)?;
        // Besides this end, only the owner of the server's long-term key can have made it: this authenticates
        // the server.
        let inside = greeting_key.open(&random_nonce(NONCE_WELCOME, nonce), welcome);
        let inside = inside.ok_or(ZmtpViolation::Sealed { command: COMMAND })?;
        let (server_ephemeral, cookie) = inside.split_first_chunk::<32>().ok_or(malformed)?;
        if cookie.len() != COOKIE {
            return Err(malformed);
        }

        // Forward secrecy: from here on, everything is encrypted with ephemeral keys.
        let session = agree(&ephemeral, server_ephemeral, COMMAND)?;
        let vouch_key = agree(&keys.exchange_key(), server_ephemeral, COMMAND)?;
        let derived = seed.derive(b"client vouch-ID\0");
        let (vouch_nonce, _) = derived.split_first_chunk().expect("16 of 32 bytes");
        let public = PublicKey::from(&ephemeral);
        // Binds the long-term key to this connection and this server, so that the vouch can't be replayed.
        let vouched: [&[u8]; 2] = [public.as_bytes(), server.as_bytes()];
        let vouch = sealed(&vouch_key, &random_nonce(NONCE_VOUCH, vouch_nonce), &vouched);
        let nonce = numbered_nonce(NONCE_INITIATE, INITIATE_NUMBER);
        let long_term = keys.public();
        let parts: [&[u8]; 4] = [long_term.as_bytes(), vouch_nonce, &vouch, &ours.encode()];
        let initiate = sealed(&session, &nonce, &parts);
        command::queue(output, b"\x08INITIATE", &[cookie, &INITIATE_NUMBER.to_be_bytes(), &initiate]);
        Ok(Self::Ready { server, session })
    }

    /// Handles a READY. Returns the server's key, its metadata, and the cipher of the connection.
    pub(in crate::zmtp) fn ready(
        self,
        body: &mut [u8],
    ) -> Result<(CurvePublicKey, &[u8], Cipher), ZmtpViolation> {
        const COMMAND: &str = "READY";
        let Self::Ready { server, session } = self else {
            return Err(ZmtpViolation::Unexpected { expected: self.expected() });
        };
        let malformed = ZmtpViolation::Malformed { command: COMMAND };
        let (number, ready) = body.split_first_chunk_mut().ok_or(malformed)?;
        // Any number: the server counts on from it.
        let number = u64::from_be_bytes(*number);
        let metadata = session.open(&numbered_nonce(NONCE_READY, number), ready);
        let metadata = metadata.ok_or(ZmtpViolation::Sealed { command: COMMAND })?;
        Ok((server, metadata, Cipher::new(&session, Side::Client, INITIATE_NUMBER, number)))
    }
}
