//! The CURVE handshake of a link with a [`CurvePeer`], which follows a [`Plan`] and may be dishonest.

use std::io::IoSlice;
use std::time::Instant;

use crate::curve_peer::{COOKIE, CurvePeer, Half, metadata, next_frame};
use crate::fuzz::{byte, bytes};
use callosum_proto::zmtp::{CurvePublicKey, Link, LinkError, LinkEvent};

/// The values of the peer's handshake.
pub struct Plan<'a> {
    /// For a client: shown instead of its own long-term key.
    pub long: Option<Half>,
    /// Its ephemeral key.
    pub ephemeral: Half,
    /// An offset in the client's vouch, or in the server's cookie, and what the byte there is XORed with.
    pub change: (u8, u8),
    /// The metadata of INITIATE or READY.
    pub metadata: Vec<u8>,
    /// Bytes that the peer sends in the clear before its last command.
    pub early: &'a [u8],
}

impl<'a> Plan<'a> {
    /// The plan of an honest server or client.
    pub fn honest(server: bool) -> Self {
        let metadata = metadata(if server { "ROUTER" } else { "DEALER" });
        Self { long: None, ephemeral: Half::of([5; 32]), change: (0, 0), metadata, early: &[] }
    }

    /// Reads a plan from the input.
    pub(super) fn read(input: &mut &'a [u8], server: bool) -> Option<Self> {
        let mut plan = Self::honest(server);
        plan.long = half(input)?;
        plan.ephemeral = half(input)?.unwrap_or(plan.ephemeral);
        plan.change = (byte(input)?, byte(input)?);
        if byte(input)? & 1 != 0 {
            plan.metadata.clear();
        }
        plan.metadata.extend_from_slice(bytes(input)?);
        plan.early = bytes(input)?;
        Some(plan)
    }

    /// Whether the handshake proves that the peer has the secret keys of what it shows.
    fn proves(&self, server: bool) -> bool {
        let client = self.long.as_ref().is_none_or(Half::is_good) && self.change.1 == 0;
        !self.ephemeral.is_weak() && (server || client)
    }
}

/// A key instead of the expected one, if any.
fn half(input: &mut &[u8]) -> Option<Option<Half>> {
    let one = std::array::from_fn(|at| u8::from(at == 0));
    Some(Some(match byte(input)? % 7 {
        0 | 1 => return Some(None),
        2 => Half::weak([0; 32]),
        3 => Half::weak(one),
        4 => Half::weak(FIELD),
        5 => Half::of([byte(input)?; 32]).noncanonical(),
        _ => Half::of([byte(input)?; 32]),
    }))
}

/// The field's prime, which is a non-canonical encoding of zero.
pub const FIELD: [u8; 32] = {
    let mut prime = [0xFF; 32];
    (prime[0], prime[31]) = (0xED, 0x7F);
    prime
};

/// Runs the handshake according to the plan, and admits the peer if the link asks. Returns whether the link is established;
/// what the link has written since is still in its output.
///
/// # Errors
/// The link's error, if it has closed.
///
/// # Panics
/// If the link accepts a peer without a proof, or reports an event before it is established.
pub fn shake_hands(
    link: &mut Link,
    peer: &mut CurvePeer,
    plan: &Plan<'_>,
    now: Instant,
) -> Result<bool, LinkError> {
    peer.change_ephemeral(plan.ephemeral.clone());
    if let Some(long) = plan.long.clone().filter(|_| !peer.is_server()) {
        peer.pose_as(long);
    }
    let result = Handshake { link, peer, plan, now }.run();
    if !link.is_established() {
        assert_eq!(link.poll_event(), None, "an event of an unauthenticated peer");
        return result.map(|()| false);
    }
    assert!(plan.proves(peer.is_server()), "established without a proof");
    assert!(matches!(link.poll_event(), Some(LinkEvent::Established { .. })));
    result.map(|()| true)
}

struct Handshake<'h, 'p> {
    link: &'h mut Link,
    peer: &'h mut CurvePeer,
    plan: &'h Plan<'p>,
    now: Instant,
}

impl Handshake<'_, '_> {
    fn run(&mut self) -> Result<(), LinkError> {
        let greeting = self.peer.greeting();
        self.send(&greeting)?;
        if self.peer.is_server() { self.be_server() } else { self.be_client() }
    }

    fn be_client(&mut self) -> Result<(), LinkError> {
        let hello = self.peer.hello();
        self.send(&hello)?;
        // After the greeting.
        let welcome = self.receive(64).expect("a WELCOME");
        if self.peer.take_welcome(&welcome).is_none() {
            // The WELCOME is for the owner of a secret key that this peer doesn't have.
            return Ok(());
        }
        let mut vouch = self.peer.vouch();
        let (at, by) = self.plan.change;
        vouch[usize::from(at) % vouch.len()] ^= by;
        let initiate = self.peer.initiate(&vouch, &self.plan.metadata);
        self.send(self.plan.early)?;
        self.send(&initiate)?;
        let Some(LinkEvent::AuthenticationRequested { public_key }) = self.link.poll_event() else {
            return Ok(());
        };
        assert!(self.plan.proves(false), "authentication without a proof");
        assert_eq!(CurvePublicKey::from_bytes(self.peer.public()), Ok(public_key));
        self.link.admit(self.now);
        self.link.handle_timeout(self.now)?;
        let ready = self.receive(0).expect("a READY");
        self.peer.take_ready(&ready).expect("a READY for this peer");
        Ok(())
    }

    fn be_server(&mut self) -> Result<(), LinkError> {
        let hello = self.receive(64).expect("a HELLO");
        self.peer.take_hello(&hello).expect("a HELLO");
        let mut cookie = [3; COOKIE];
        let (at, by) = self.plan.change;
        cookie[usize::from(at) % COOKIE] ^= by;
        let welcome = self.peer.welcome(&cookie);
        self.send(&welcome)?;
        let initiate = self.receive(0).expect("an INITIATE");
        self.peer.take_initiate(&initiate).expect("an INITIATE for this peer");
        let ready = self.peer.ready(&self.plan.metadata);
        self.send(self.plan.early)?;
        self.send(&ready)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.link.handle_input(self.now, bytes)
    }

    /// The payload of the only frame in the link's output, after this many bytes.
    fn receive(&mut self, behind: usize) -> Option<Vec<u8>> {
        let output = written(self.link);
        let mut rest = output.get(behind..)?;
        let (_, payload) = next_frame(&mut rest)?;
        assert!(rest.is_empty(), "one command at a time");
        Some(payload)
    }
}

/// Takes the link's whole output.
pub fn written(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while link.pending_output() > 0 {
        let before = bytes.len();
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = link.output(&mut slices);
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
        link.advance_output(bytes.len() - before);
    }
    bytes
}
