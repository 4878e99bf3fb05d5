//! A peer that speaks ZMTP, dialect 1 and dialect 2 by hand, and so can break every rule.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Instant;

use bytes::Bytes;
use callosum_proto::internals::wire::dialect2::{MAX_PACKET, Options, PacketWriter, Piece, Record, records};
use callosum_proto::internals::wire::{CallName, Message, Payload};
use callosum_proto::internals::wire::{
    Credit, Encoder, Header, Hello, NONCE_LEN, PING, PONG, UPPER, decode_body, decode_header,
};
use callosum_proto::zmtp::{CurveKeyPair, CurvePublicKey, Link, LinkConfig, LinkEvent, Mechanism};
use callosum_proto::{Multipart, OrderingKey, Role, Text};
use callosum_runtime::rt::ByteStream;
use futures_util::{AsyncReadExt, AsyncWriteExt};

/// Largest message that it takes, in bytes.
const LIMIT: usize = 64 << 20;

/// The flag of a frame whose length takes eight bytes.
const LONG: u8 = 2;

/// A connector that sends and hears raw messages, without the engine.
pub struct RawPeer<S> {
    link: Link,
    stream: S,
    encoder: Encoder,
    writer: PacketWriter,
    heard: VecDeque<Record>,
}

impl<S: ByteStream> RawPeer<S> {
    /// Completes ZMTP's handshake and Python's: a PING with empty frames, and its PONG.
    ///
    /// # Panics
    /// If the other side closes the connection or breaks ZMTP, like all methods.
    pub async fn connect(stream: S) -> Self {
        Self::mute(stream).await.greeted().await
    }

    /// The same under CURVE, as a client with these keys.
    pub async fn connect_curve(stream: S, keys: CurveKeyPair, server: CurvePublicKey) -> Self {
        Self::over(stream, Mechanism::CurveClient { keys, server }).await.greeted().await
    }

    async fn greeted(mut self) -> Self {
        self.send(Multipart::new(PING, Bytes::new(), Bytes::new())).await;
        while self.receive().await.frames()[0] != "PONG" {}
        self
    }

    /// Completes ZMTP's handshake and Callosum's, in dialect 2; gives so much credit to each stream, and to all.
    pub async fn connect_2(stream: S, (stream_credit, link): (u64, u64)) -> Self {
        let mut peer = Self::mute(stream).await;
        let credit = Some(Credit { stream: stream_credit, link });
        let hello = Hello { dialects: 0b11, nonce: [9; NONCE_LEN], max_body: LIMIT as u64, credit };
        peer.send(Multipart::new(PING, hello.encode(), Bytes::new())).await;
        let answer = peer.receive().await;
        assert_eq!(answer.frames()[0], PONG);
        let theirs = Hello::decode(&answer.frames()[1]).expect("the other side says hello too");
        assert_eq!(theirs.dialects & 0b10, 0b10, "the other side speaks dialect 2");
        peer
    }

    /// Completes ZMTP's handshake and says nothing more.
    pub async fn mute(stream: S) -> Self {
        Self::over(stream, Mechanism::Null).await
    }

    async fn over(stream: S, mechanism: Mechanism) -> Self {
        let mut config = LinkConfig::new(Role::Connector);
        config.max_message_size = LIMIT;
        config.keepalive = None;
        config.mechanism = mechanism;
        let link = Link::new(&config, [9; 32], Instant::now());
        let (writer, heard) = (PacketWriter::default(), VecDeque::new());
        let mut peer = Self { link, stream, encoder: Encoder::default(), writer, heard };
        while !matches!(peer.event().await, LinkEvent::Established { .. }) {}
        peer
    }

    /// Only the stream, so that nothing more is held of this side.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Adds a message to what the next [`flush`](Self::flush) sends.
    pub fn queue(&mut self, message: Multipart) {
        self.link.send(message).expect("the handshake is complete");
    }

    /// Sends what was queued.
    pub async fn flush(&mut self) {
        self.try_flush().await.expect("the other side reads");
    }

    /// Sends what was queued, to a side that may have closed the connection.
    pub async fn try_flush(&mut self) -> io::Result<()> {
        while self.link.pending_output() > 0 {
            let mut slices = [IoSlice::new(&[]); 16];
            let used = self.link.output(&mut slices);
            let written = self.stream.write_vectored(&slices[..used]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.link.advance_output(written);
        }
        self.stream.flush().await
    }

    /// The frames in which a message would travel, which are not sent: under CURVE, a box each.
    pub fn frames_of(&mut self, message: Multipart) -> Vec<Vec<u8>> {
        assert_eq!(self.link.pending_output(), 0, "everything before it has left");
        self.queue(message);
        let mut bytes = Vec::new();
        while self.link.pending_output() > 0 {
            let mut slices = [IoSlice::new(&[]); 16];
            let used = self.link.output(&mut slices);
            let before = bytes.len();
            slices[..used].iter().for_each(|slice| bytes.extend_from_slice(slice));
            self.link.advance_output(bytes.len() - before);
        }
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes[0] & LONG, 0, "the message is short");
            let rest = bytes.split_off(2 + usize::from(bytes[1]));
            frames.push(std::mem::replace(&mut bytes, rest));
        }
        frames
    }

    async fn event(&mut self) -> LinkEvent {
        loop {
            self.flush().await;
            if let Some(event) = self.link.poll_event() {
                return event;
            }
            let mut buffer = vec![0; 64 * 1024];
            let read = self.stream.read(&mut buffer).await.expect("the other side writes");
            assert_ne!(read, 0, "the other side closed the connection");
            buffer.truncate(read);
            self.link.handle_input(Instant::now(), &buffer).expect("the other side keeps to ZMTP");
        }
    }

    /// Sends a message of any kind.
    pub async fn send(&mut self, message: Multipart) {
        self.queue(message);
        self.flush().await;
    }

    /// The next message of any kind.
    pub async fn receive(&mut self) -> Multipart {
        loop {
            if let LinkEvent::Message(message) = self.event().await {
                return message;
            }
        }
    }

    /// Calls a method without a key.
    pub async fn call(&mut self, seq: u32, method: &str, body: impl Into<Bytes>) {
        self.say(seq, method, Payload::Function(body.into()), false).await;
    }

    /// Sends a message of dialect 1.
    pub async fn say(&mut self, seq: u32, method: &str, payload: Payload, compressed: bool) {
        let message = self.message(seq, (method, OrderingKey::none()), payload, compressed);
        self.send(message).await;
    }

    /// A message of dialect 1, for a method with a key.
    pub fn message(
        &mut self,
        seq: u32,
        (method, key): (&str, OrderingKey),
        payload: Payload,
        compressed: bool,
    ) -> Multipart {
        let id = CallName { seq, method: Text::from(method), key };
        self.encoder.encode(&Message { id, payload, compressed })
    }

    /// The next message of dialect 1.
    pub async fn hear(&mut self) -> (Header, Payload) {
        loop {
            let frames: Vec<Bytes> = self.receive().await.into_frames().collect();
            if frames[0] == UPPER {
                let header = decode_header(&frames[1]).expect("the other side keeps to dialect 1");
                let payload = decode_body(&header, frames[2].clone(), LIMIT).expect("and its bodies too");
                return (header, payload);
            }
        }
    }

    /// Adds records to what the next [`flush`](Self::flush) sends, in as few packets as can be.
    pub fn queue_records(&mut self, records: &[Record]) {
        for record in records {
            self.writer.write(record);
            if self.writer.is_closed() || self.writer.len() > MAX_PACKET / 4 {
                let packet = self.writer.take();
                self.queue(packet);
            }
        }
        if !self.writer.is_empty() {
            let packet = self.writer.take();
            self.queue(packet);
        }
    }

    /// Sends records of dialect 2.
    pub async fn say_records(&mut self, records: &[Record]) {
        self.queue_records(records);
        self.flush().await;
    }

    /// The next record of dialect 2.
    pub async fn hear_record(&mut self) -> Record {
        loop {
            if let Some(record) = self.heard.pop_front() {
                return record;
            }
            if let Some(packet) = self.receive().await.into_one() {
                let read = records(&packet).expect("the other side keeps to dialect 2");
                self.heard.extend(read.map(|record| record.expect("in every record")));
            }
        }
    }

    /// The next record that answers a call: the beginning of its result, or its failure. Others are passed over.
    pub async fn hear_answer(&mut self) -> (u64, Record) {
        loop {
            let record = self.hear_record().await;
            if let Record::Result { call, .. } | Record::Fail { call, .. } = record {
                return (call, record);
            }
        }
    }

    /// Bytes as they are, after everything that was sent.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).await.expect("the other side reads");
    }

    /// Bytes as they are, to a side that may have closed the connection.
    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads at most so many bytes, and does nothing with them; returns how many there were.
    pub async fn read_away(&mut self, most: usize) -> io::Result<usize> {
        let mut scratch = vec![0; most];
        self.stream.read(&mut scratch).await
    }

    /// Reads on until the other side closes the connection.
    pub async fn until_closed(mut self) {
        let mut scratch = vec![0; 64 * 1024];
        while matches!(self.stream.read(&mut scratch).await, Ok(1..)) {}
    }
}

/// An OPEN of a method without a key.
pub fn open(call: u64, method: &str, piece: Piece) -> Record {
    let (method, key) = (Text::from(method), OrderingKey::none());
    Record::Open { call, method, key, options: Options::default(), piece }
}

/// A stream that is complete with these bytes.
pub fn whole(bytes: impl Into<Bytes>) -> Piece {
    Piece { fin: true, item: true, ..part(bytes) }
}

/// A piece of a stream that goes on.
pub fn part(bytes: impl Into<Bytes>) -> Piece {
    Piece { bytes: bytes.into(), ..Piece::default() }
}

impl<S> std::fmt::Debug for RawPeer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawPeer").finish_non_exhaustive()
    }
}
