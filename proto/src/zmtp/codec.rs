//! `omq-proto`'s connection, made as late as can be.
//!
//! It allocates 64 KiB when it is made, which is too much for each of many peers that have said nothing yet.
//! What it would say until the peer's first command is known, so it is said without it.

use bytes::{Bytes, BytesMut};
use omq_proto::Error;
use omq_proto::proto::{
    Command, Connection, ConnectionConfig, Event, Greeting, MechanismName, PeerProperties, command,
};

use super::framing::Head;

/// What a connection needs to be made, and what was said for it.
pub(super) struct Asleep {
    config: ConnectionConfig,
    waits_for_command: bool,
    greeting: Bytes,
}

pub(super) enum Codec {
    Asleep(Box<Asleep>),
    Awake(Box<Connection>),
}

impl Codec {
    /// The codec, and the greeting to send.
    pub(super) fn new(config: ConnectionConfig, as_server: bool) -> (Self, Bytes) {
        let mechanism = config.mechanism_name();
        let mut greeting = BytesMut::new();
        Greeting::current(mechanism, as_server).encode(&mut greeting);
        // A client of CURVE speaks first, with a key that only the connection has.
        let waits_for_command = mechanism == MechanismName::NULL || as_server;
        (
            Self::Asleep(Box::new(Asleep { config, waits_for_command, greeting: Bytes::new() })),
            greeting.freeze(),
        )
    }

    /// Takes the peer's greeting; what to say at once.
    pub(super) fn greet(&mut self, theirs: Bytes) -> Result<Bytes, Error> {
        let Self::Asleep(asleep) = self else { return Ok(Bytes::new()) };
        asleep.greeting = theirs;
        if !asleep.waits_for_command {
            self.connection()?;
            return Ok(Bytes::new());
        }
        Ok(match asleep.config.mechanism_name() {
            MechanismName::NULL => ready(&asleep.config),
            _ => Bytes::new(),
        })
    }

    /// Gives it one frame.
    pub(super) fn take_frame(&mut self, head: &Head, payload: Bytes) -> Result<(), Error> {
        let connection = self.connection()?;
        connection.handle_input(Bytes::copy_from_slice(head.as_bytes()))?;
        connection.handle_input(payload)
    }

    /// The connection, made if it is not there yet.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, Error> {
        if let Self::Asleep(asleep) = self {
            *self = Self::Awake(asleep.wake()?);
        }
        self.awake().ok_or(Error::Closed)
    }

    pub(super) fn awake(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Asleep(_) => None,
            Self::Awake(connection) => Some(connection),
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.awake()?.poll_event()
    }

    pub(super) fn poll_message(&mut self) -> Option<omq_proto::Message> {
        self.awake()?.poll_message()
    }
}

impl Asleep {
    fn wake(&mut self) -> Result<Box<Connection>, Error> {
        let mut connection = Box::new(Connection::new(self.config.clone()));
        forget_output(&mut connection);
        connection.handle_input(std::mem::take(&mut self.greeting))?;
        if self.waits_for_command {
            forget_output(&mut connection);
        }
        Ok(connection)
    }
}

/// Drops what was said already.
fn forget_output(connection: &mut Connection) {
    connection.advance_transmit(connection.pending_transmit_size());
}

/// NULL's READY, to the byte as the connection would write it (RFC 23).
fn ready(config: &ConnectionConfig) -> Bytes {
    let mut properties = PeerProperties::default().with_socket_type(config.socket_type);
    if !config.identity.is_empty() {
        properties = properties.with_identity(config.identity.clone());
    }
    let mut payload = BytesMut::new();
    command::encode(&Command::Ready(properties), &mut payload);
    let mut frame = BytesMut::from(Head::command(payload.len()).as_bytes());
    frame.extend_from_slice(&payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use omq_proto::proto::Role;

    use super::*;

    fn config(identity: usize) -> ConnectionConfig {
        let identity = Bytes::from(vec![b'i'; identity]);
        ConnectionConfig::new(Role::Server, omq_proto::SocketType::Router).identity(identity)
    }

    #[test]
    fn what_is_said_asleep_is_what_the_connection_would_say() {
        for identity in [0, 1, 200, 255] {
            let (mut codec, greeting) = Codec::new(config(identity), false);
            let ready = codec.greet(greeting.clone()).unwrap();
            assert!(codec.awake().is_none(), "64 KiB for a peer that has said nothing");
            let mut connection = Connection::new(config(identity));
            connection.handle_input(greeting.clone()).unwrap();
            assert_eq!(connection.poll_transmit(), [greeting, ready.clone()].concat());
            assert!(!codec.connection().unwrap().has_pending_transmit(), "said twice");
        }
    }
}
