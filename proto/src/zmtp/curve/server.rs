//! The server of the CURVE handshake: checks HELLO and INITIATE, sends WELCOME and READY. Whether a client is
//! admitted is up to the application.

use x25519_dalek::{PublicKey, StaticSecret};

use super::crypto::{Seed, SharedKey, numbered_nonce, random_nonce};
use super::messages::Side;
use super::{
    COOKIE, Cipher, CurveKeyPair, CurvePublicKey, HELLO, HELLO_PADDING, HELLO_ZEROS, NONCE_HELLO,
    NONCE_INITIATE, NONCE_READY, NONCE_VOUCH, NONCE_WELCOME, VERSION, VOUCH, agree, sealed,
};
use crate::zmtp::ZmtpViolation;
use crate::zmtp::command::{self, Properties};
use crate::zmtp::output::OutputQueue;

const READY_NUMBER: u64 = 1;
/// The ZAP status for a client that is not admitted (RFC 27).
const REFUSED: &str = "400";

/// A server, by the command that it waits for.
pub(in crate::zmtp) enum Server {
    Hello {
        keys: CurveKeyPair,
        seed: Seed,
    },
    Initiate {
        server: CurvePublicKey,
        client_ephemeral: [u8; 32],
        ephemeral: StaticSecret,
        cookie: [u8; COOKIE],
    },
}

/// A client that has proved to own its long-term key, and waits for the application's decision.
pub(in crate::zmtp) struct Proved {
    pub(in crate::zmtp) public_key: CurvePublicKey,
    /// Shared by the two ephemeral keys.
    session: SharedKey,
    /// The number in the client's INITIATE.
    number: u64,
}

impl Server {
    pub(in crate::zmtp) fn new(keys: CurveKeyPair, seed: [u8; 32]) -> Self {
        Self::Hello { keys, seed: Seed::new(seed) }
    }

    /// The name of the next command.
    pub(in crate::zmtp) fn expected(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "HELLO",
            Self::Initiate { .. } => "INITIATE",
        }
    }

    /// Handles a HELLO, and answers with a WELCOME.
    pub(in crate::zmtp) fn hello(
        self,
        body: &mut [u8],
        output: &mut OutputQueue,
    ) -> Result<Self, ZmtpViolation> {
        const COMMAND: &str = "HELLO";
        let Self::Hello { keys, seed } = self else {
            return Err(ZmtpViolation::Unexpected { expected: self.expected() });
        };
        let malformed = ZmtpViolation::Malformed { command: COMMAND };
        if body.len() != HELLO || !body.starts_with(&VERSION) {
            return Err(malformed);
        }
        // The padding prevents amplification by its length, so its bytes are not checked.
        let body = &mut body[VERSION.len() + HELLO_PADDING..];
        let (&mut client_ephemeral, rest) = body.split_first_chunk_mut().ok_or(malformed)?;
        let (number, proof) = rest.split_first_chunk_mut().ok_or(malformed)?;
        let key = agree(&keys.exchange_key(), &client_ephemeral, COMMAND)?;
        let nonce = numbered_nonce(NONCE_HELLO, u64::from_be_bytes(*number));
        // A client that does not know our public key gets no answer to its HELLO, not even an ERROR.
        if key.open(&nonce, proof).is_none_or(|zeros| *zeros != HELLO_ZEROS) {
            return Err(ZmtpViolation::Sealed { command: COMMAND });
        }

        let ephemeral = StaticSecret::from(*seed.derive(b"server ephemeral"));
        let mut cookie = [0; COOKIE];
        let labels = [b"server cookie #1", b"server cookie #2", b"server cookie #3"];
        for (part, label) in cookie.as_chunks_mut().0.iter_mut().zip(labels) {
            *part = *seed.derive(label);
        }
        let derived = seed.derive(b"server welcome\0\0");
        let (nonce, _) = derived.split_first_chunk().expect("16 of 32 bytes");
        let public = PublicKey::from(&ephemeral);
        let parts: [&[u8]; 2] = [public.as_bytes(), &cookie];
        let welcome = sealed(&key, &random_nonce(NONCE_WELCOME, nonce), &parts);
        command::queue(output, b"\x07WELCOME", &[nonce, &welcome]);
        Ok(Self::Initiate { server: keys.public(), client_ephemeral, ephemeral, cookie })
    }

    /// Handles an INITIATE. Returns the client and its metadata.
    pub(in crate::zmtp) fn initiate<'a>(
        self,
        body: &'a mut [u8],
        output: &mut OutputQueue,
    ) -> Result<(Proved, &'a [u8]), ZmtpViolation> {
        const COMMAND: &str = "INITIATE";
        let Self::Initiate { server, client_ephemeral, ephemeral, cookie } = self else {
            return Err(ZmtpViolation::Unexpected { expected: self.expected() });
        };
        let malformed = ZmtpViolation::Malformed { command: COMMAND };
        let forged = ZmtpViolation::Sealed { command: COMMAND };
        let (theirs, rest) = body.split_first_chunk_mut::<COOKIE>().ok_or(malformed)?;
        // The cheapest check first: the others take two scalar multiplications. It need not take constant
        // time: a wrong cookie ends the link, so nobody can guess it byte by byte.
        if *theirs != cookie {
            return Err(ZmtpViolation::Cookie);
        }
        let (number, initiate) = rest.split_first_chunk_mut().ok_or(malformed)?;
        let number = u64::from_be_bytes(*number);
        // Can't fail: HELLO was refused unless this key is canonical, and has no low order.
        let session = agree(&ephemeral, &client_ephemeral, COMMAND)?;
        let inside = session.open(&numbered_nonce(NONCE_INITIATE, number), initiate).ok_or(forged)?;

        let (&mut client, rest) = inside.split_first_chunk_mut().ok_or(malformed)?;
        let (&mut vouch_nonce, rest) = rest.split_first_chunk_mut().ok_or(malformed)?;
        let (vouch, metadata) = rest.split_first_chunk_mut::<VOUCH>().ok_or(malformed)?;
        let key = agree(&ephemeral, &client, COMMAND).inspect_err(|error| {
            if matches!(error, ZmtpViolation::NotCanonical { .. }) {
                // never admitted, so refuse it without asking the application.
                command::queue_error(output, REFUSED);
            }
        })?;
        let vouched = key.open(&random_nonce(NONCE_VOUCH, &vouch_nonce), vouch).ok_or(forged)?;
        // Rejects a vouch that was replayed from another connection, or from one to another server.
        if vouched[..32] != client_ephemeral || vouched[32..] != *server.as_bytes() {
            return Err(ZmtpViolation::Vouch);
        }
        // The key agreement above has checked the key like `CurvePublicKey::from_bytes`.
        Ok((Proved { public_key: CurvePublicKey::from_proved(client), session, number }, metadata))
    }
}

impl Proved {
    /// Completes the handshake with a READY. Returns the cipher of the connection.
    pub(in crate::zmtp) fn admit(self, ours: &Properties, output: &mut OutputQueue) -> Cipher {
        let nonce = numbered_nonce(NONCE_READY, READY_NUMBER);
        let ready = sealed(&self.session, &nonce, &[&ours.encode()]);
        command::queue(output, b"\x05READY", &[&READY_NUMBER.to_be_bytes(), &ready]);
        Cipher::new(&self.session, Side::Server, READY_NUMBER, self.number)
    }

    /// Sends the client an ERROR: it is not admitted.
    pub(in crate::zmtp) fn refuse(&self, output: &mut OutputQueue) {
        command::queue_error(output, REFUSED);
    }
}
