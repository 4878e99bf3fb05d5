//! A CURVE peer written from RFC 26 alone, with primitives of its own, so that tests can check the link against a second
//! implementation, and can send anything with valid keys.

use salsabox::{SecretBox, hsalsa20};
use x25519_dalek::{PublicKey, StaticSecret};

use callosum_proto::zmtp::{CurveKeyPair, CurvePublicKey};

const COMMAND: u8 = 4;
const LONG: u8 = 2;
/// The flag inside a CURVE message: more frames follow.
pub const MORE: u8 = 1;
/// The flag inside a CURVE message: the payload is a command.
pub const SEALED_COMMAND: u8 = 2;
/// Bytes of a WELCOME's cookie.
pub const COOKIE: usize = 96;

/// A key pair, or a public key of low order, with which every shared secret is zero.
#[derive(Clone)]
pub struct Half {
    secret: StaticSecret,
    /// The public key as it is sent.
    pub public: [u8; 32],
    weak: bool,
}

impl Half {
    /// The key pair of this secret key.
    pub fn of(secret: [u8; 32]) -> Self {
        let secret = StaticSecret::from(secret);
        Self { public: PublicKey::from(&secret).to_bytes(), secret, weak: false }
    }

    /// A point of low order: its shared secret with any key is zero, so it needs no secret key.
    pub fn weak(point: [u8; 32]) -> Self {
        Self { secret: StaticSecret::from([1; 32]), public: point, weak: true }
    }

    /// The same key in a non-canonical encoding: X25519 ignores the topmost bit.
    pub fn noncanonical(mut self) -> Self {
        self.public[31] |= 0x80;
        self
    }

    /// Whether it is a point of low order.
    pub fn is_weak(&self) -> bool {
        self.weak
    }

    /// Whether an honest peer could have this key.
    pub fn is_good(&self) -> bool {
        !self.weak && self.public == PublicKey::from(&self.secret).to_bytes()
    }

    /// The shared secret with another key (NaCl's `crypto_box_beforenm`, which would refuse zero).
    fn shared_with(&self, other: &[u8; 32]) -> SecretBox {
        let other = if self.weak { self.public } else { *other };
        let shared = self.secret.diffie_hellman(&PublicKey::from(other));
        SecretBox::new(hsalsa20(shared.as_bytes(), &[0; 16]))
    }
}

/// A server or client. Its methods return whole frames to send, and take the payloads of received frames.
pub struct CurvePeer {
    server: bool,
    long: Half,
    ephemeral: Half,
    other_long: [u8; 32],
    other_ephemeral: [u8; 32],
    cookie: Vec<u8>,
    /// Shared secret of the two ephemeral keys, computed on first use.
    session: Option<SecretBox>,
    /// Nonce of the last command or CURVE message that it sent.
    pub nonce: u64,
    /// Nonce of the last one that it received.
    received: u64,
}

impl CurvePeer {
    /// A client of the server with this key.
    pub fn client(keys: &CurveKeyPair, server: CurvePublicKey, ephemeral: Half) -> Self {
        Self::new(false, keys, *server.as_bytes(), ephemeral)
    }

    /// A server.
    pub fn server(keys: &CurveKeyPair, ephemeral: Half) -> Self {
        Self::new(true, keys, [0; 32], ephemeral)
    }

    fn new(server: bool, keys: &CurveKeyPair, other_long: [u8; 32], ephemeral: Half) -> Self {
        let long = Half::of(*callosum_proto::internals::secret_bytes(keys));
        let (other_ephemeral, cookie, session) = ([0; 32], Vec::new(), None);
        Self { server, long, ephemeral, other_long, other_ephemeral, cookie, session, nonce: 0, received: 0 }
    }

    /// Shows another long-term key, whose secret key it need not have.
    pub fn pose_as(&mut self, long: Half) {
        self.long = long;
    }

    /// Whether it is a server.
    pub fn is_server(&self) -> bool {
        self.server
    }

    /// Takes another ephemeral key.
    pub fn change_ephemeral(&mut self, ephemeral: Half) {
        (self.ephemeral, self.session) = (ephemeral, None);
    }

    /// The long-term public key that it shows.
    pub fn public(&self) -> [u8; 32] {
        self.long.public
    }

    /// The ZMTP greeting.
    pub fn greeting(&self) -> Vec<u8> {
        let mut greeting = vec![0; 64];
        (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xFF, 0x7F, 3, 1);
        greeting[12..17].copy_from_slice(b"CURVE");
        greeting[32] = self.server.into();
        greeting
    }

    fn session(&mut self) -> &SecretBox {
        self.session.get_or_insert_with(|| self.ephemeral.shared_with(&self.other_ephemeral))
    }

    fn next_nonce(&mut self) -> [u8; 8] {
        self.nonce = self.nonce.wrapping_add(1);
        self.nonce.to_be_bytes()
    }

    /// The client's HELLO.
    pub fn hello(&mut self) -> Vec<u8> {
        let nonce = self.next_nonce();
        let proof =
            encrypt(&self.ephemeral.shared_with(&self.other_long), b"CurveZMQHELLO---", &nonce, &[0; 64]);
        command(&[b"\x05HELLO\x01\0", &[0; 72], &self.ephemeral.public, &nonce, &proof])
    }

    /// The server reads HELLO.
    pub fn take_hello(&mut self, payload: &[u8]) -> Option<()> {
        let (key, _) = payload.strip_prefix(b"\x05HELLO\x01\0")?.get(72..)?.split_first_chunk()?;
        (self.other_ephemeral, self.session) = (*key, None);
        Some(())
    }

    /// The server's WELCOME, with any cookie.
    pub fn welcome(&self, cookie: &[u8; COOKIE]) -> Vec<u8> {
        let inside = [&self.ephemeral.public[..], cookie].concat();
        let key = self.long.shared_with(&self.other_ephemeral);
        command(&[b"\x07WELCOME", &[7; 16], &encrypt(&key, b"WELCOME-", &[7; 16], &inside)])
    }

    /// The client reads WELCOME.
    pub fn take_welcome(&mut self, payload: &[u8]) -> Option<()> {
        let (nonce, sealed) = payload.strip_prefix(b"\x07WELCOME")?.split_first_chunk::<16>()?;
        let inside = decrypt(&self.ephemeral.shared_with(&self.other_long), b"WELCOME-", nonce, sealed)?;
        let (key, cookie) = inside.split_first_chunk()?;
        (self.other_ephemeral, self.session) = (*key, None);
        self.cookie = cookie.to_vec();
        Some(())
    }

    /// What an honest client vouches for with its long-term key: its ephemeral key, and the server's key.
    pub fn vouch(&self) -> [u8; 64] {
        let mut vouch = [0; 64];
        vouch[..32].copy_from_slice(&self.ephemeral.public);
        vouch[32..].copy_from_slice(&self.other_long);
        vouch
    }

    /// The client's INITIATE, with any vouch and metadata.
    pub fn initiate(&mut self, vouch: &[u8], metadata: &[u8]) -> Vec<u8> {
        let nonce = self.next_nonce();
        let vouch = encrypt(&self.long.shared_with(&self.other_ephemeral), b"VOUCH---", &[9; 16], vouch);
        let inside = [&self.long.public[..], &[9; 16], &vouch, metadata].concat();
        let key = self.session();
        let sealed = encrypt(key, b"CurveZMQINITIATE", &nonce, &inside);
        command(&[b"\x08INITIATE", &self.cookie, &nonce, &sealed])
    }

    /// The server reads INITIATE; returns the metadata.
    pub fn take_initiate(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) =
            payload.strip_prefix(b"\x08INITIATE")?.get(COOKIE..)?.split_first_chunk::<8>()?;
        self.received = u64::from_be_bytes(*nonce);
        let key = self.session();
        let inside = decrypt(key, b"CurveZMQINITIATE", nonce, sealed)?;
        self.other_long = *inside.first_chunk()?;
        inside.get(128..).map(<[u8]>::to_vec)
    }

    /// The server's READY, with any metadata.
    pub fn ready(&mut self, metadata: &[u8]) -> Vec<u8> {
        let nonce = self.next_nonce();
        let key = self.session();
        command(&[b"\x05READY", &nonce, &encrypt(key, b"CurveZMQREADY---", &nonce, metadata)])
    }

    /// The client reads READY; returns the metadata.
    pub fn take_ready(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = payload.strip_prefix(b"\x05READY")?.split_first_chunk::<8>()?;
        self.received = u64::from_be_bytes(*nonce);
        let key = self.session();
        decrypt(key, b"CurveZMQREADY---", nonce, sealed)
    }

    /// A CURVE message with the next nonce.
    pub fn seal(&mut self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let nonce = self.next_nonce();
        let (inside, prefix) = ([&[flags], payload].concat(), message_prefix(self.server));
        frame(0, &[b"\x07MESSAGE", &nonce, &encrypt(self.session(), prefix, &nonce, &inside)])
    }

    /// Decrypts a CURVE message, whose nonce must be the next; returns its flags and payload.
    pub fn open(&mut self, payload: &[u8]) -> Option<(u8, Vec<u8>)> {
        let (nonce, sealed) = payload.strip_prefix(b"\x07MESSAGE")?.split_first_chunk::<8>()?;
        let due = self.received.checked_add(1)?;
        if u64::from_be_bytes(*nonce) != due {
            return None;
        }
        self.received = due;
        let prefix = message_prefix(!self.server);
        let inside = decrypt(self.session(), prefix, nonce, sealed)?;
        let (flags, payload) = inside.split_first()?;
        Some((*flags, payload.to_vec()))
    }
}

fn message_prefix(server: bool) -> &'static [u8] {
    if server { b"CurveZMQMESSAGES" } else { b"CurveZMQMESSAGEC" }
}

/// The metadata of a peer with this socket type.
pub fn metadata(socket_type: &str) -> Vec<u8> {
    let len = u32::try_from(socket_type.len()).expect("a short name").to_be_bytes();
    [b"\x0bSocket-Type", &len[..], socket_type.as_bytes()].concat()
}

/// A command in the clear.
pub fn command(parts: &[&[u8]]) -> Vec<u8> {
    frame(COMMAND, parts)
}

/// A frame with these flags. The long flag is added where the length needs it.
pub fn frame(flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let mut frame = match u8::try_from(payload.len()) {
        Ok(len) => vec![flags, len],
        Err(_) => [&[flags | LONG][..], &(payload.len() as u64).to_be_bytes()].concat(),
    };
    frame.extend_from_slice(&payload);
    frame
}

/// Removes the first frame from the bytes if it is complete; returns its flags and payload.
pub fn next_frame(bytes: &mut &[u8]) -> Option<(u8, Vec<u8>)> {
    let (&flags, rest) = bytes.split_first()?;
    let (len, rest) = if flags & LONG == 0 {
        let (&len, rest) = rest.split_first()?;
        (usize::from(len), rest)
    } else {
        let (len, rest) = rest.split_first_chunk()?;
        (usize::try_from(u64::from_be_bytes(*len)).ok()?, rest)
    };
    let (payload, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    Some((flags, payload.to_vec()))
}

fn nonce(prefix: &[u8], nonce: &[u8]) -> [u8; 24] {
    let mut whole = [0; 24];
    whole[..prefix.len()].copy_from_slice(prefix);
    whole[prefix.len()..].copy_from_slice(nonce);
    whole
}

fn encrypt(key: &SecretBox, prefix: &[u8], short: &[u8], inside: &[u8]) -> Vec<u8> {
    let mut sealed = inside.to_vec();
    let tag = key.encrypt_detached(&nonce(prefix, short), &mut sealed);
    [&tag[..], &sealed].concat()
}

fn decrypt(key: &SecretBox, prefix: &[u8], short: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (tag, sealed) = sealed.split_first_chunk()?;
    let mut inside = sealed.to_vec();
    key.decrypt_detached(&nonce(prefix, short), &mut inside, tag).ok()?;
    Some(inside)
}
