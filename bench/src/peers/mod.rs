//! The stacks that are measured.

mod callosum;
mod entry;
mod layered;
mod protobuf;
mod raw_copy;
mod raw_pair;
mod raw_tcp;
mod stack;
mod tarpc;
mod thrift;
mod tonic;
mod typed;
mod zeromq;

use self::entry::Entry;
pub(crate) use self::{
    callosum::{Adapter, address, admitted, admitting, client_of},
    entry::{announce, end_with_stdin},
};
pub use self::{
    callosum::{Callosum, CallosumCurve, DialectOne},
    layered::{Layer, Layered},
    protobuf::Protobuf,
    raw_copy::RawCopy,
    raw_pair::RawPair,
    raw_tcp::RawTcp,
    stack::{Kind, Load, LoadBeside, Orders, Peer, Roles, ServeIn, Stack, Way},
    tarpc::Tarpc,
    thrift::Thrift,
    tonic::{Tonic, TonicWindows},
    typed::{Typed, TypedMsgPack},
    zeromq::Zeromq,
};
use crate::{
    executor::{AsyncStd, Tokio},
    upload::LARGEST_PIECE,
};

/// Every peer, in the order in which they take turns.
pub const ALL: &[Peer] = &[
    Entry::<RawTcp>::new().calls().idle().peer(),
    Entry::<RawCopy<Tokio>>::new().uploads().peer(),
    Entry::<RawCopy<AsyncStd>>::new().uploads().peer(),
    Entry::<RawCopy<Tokio, LARGEST_PIECE>>::new().uploads().peer(),
    Entry::<RawCopy<AsyncStd, LARGEST_PIECE>>::new().uploads().peer(),
    Entry::<RawPair>::new().beside().peer(),
    Entry::<Tarpc>::new().calls().layer().idle().peer(),
    Entry::<Tonic>::new().calls().layer().uploads().beside().peer(),
    Entry::<TonicWindows>::new().uploads().beside().peer(),
    Entry::<Zeromq>::new().calls().peer(),
    Peer { name: "libzmq", runtime: "C", encrypted: false, kind: Kind::C },
    Entry::<Callosum<Tokio>>::new().calls().layer().orders().uploads().beside().idle().peer(),
    Entry::<Layered<Typed>>::new().layer().peer(),
    Entry::<Layered<TypedMsgPack>>::new().layer().peer(),
    Entry::<Layered<Thrift>>::new().layer().peer(),
    Entry::<Layered<Protobuf>>::new().layer().peer(),
    Entry::<Callosum<AsyncStd>>::new().calls().orders().uploads().beside().idle().peer(),
    Entry::<Callosum<Tokio, DialectOne>>::new().calls().orders().peer(),
    Entry::<Callosum<AsyncStd, DialectOne>>::new().calls().orders().peer(),
    Peer { name: "python-callosum", runtime: "asyncio", encrypted: false, kind: Kind::Python },
    Entry::<CallosumCurve<Tokio>>::new().calls().uploads().beside().idle().peer(),
    Entry::<CallosumCurve<AsyncStd>>::new().calls().uploads().beside().idle().peer(),
    Entry::<CallosumCurve<Tokio, DialectOne>>::new().calls().peer(),
    Entry::<CallosumCurve<AsyncStd, DialectOne>>::new().calls().peer(),
    Peer { name: "libzmq-curve", runtime: "C", encrypted: true, kind: Kind::C },
    Peer { name: "tcp-relay", runtime: "tokio", encrypted: false, kind: Kind::Tunnel(Way::Relay) },
    Peer { name: "ssh", runtime: "C", encrypted: true, kind: Kind::Tunnel(Way::OpenSsh) },
    Peer {
        name: "rathole",
        runtime: "tokio",
        encrypted: false,
        kind: Kind::Tunnel(Way::Rathole { noise: false }),
    },
    Peer {
        name: "rathole-noise",
        runtime: "tokio",
        encrypted: true,
        kind: Kind::Tunnel(Way::Rathole { noise: true }),
    },
    Peer {
        name: "callosum-tunnel",
        runtime: "tokio",
        encrypted: false,
        kind: Kind::Tunnel(Way::Callosum { curve: false }),
    },
    Peer {
        name: "callosum-tunnel-curve",
        runtime: "tokio",
        encrypted: true,
        kind: Kind::Tunnel(Way::Callosum { curve: true }),
    },
];

impl Peer {
    /// The entry with this [`Peer::id`].
    pub fn find(id: &str) -> Option<Self> {
        ALL.iter().find(|peer| peer.id() == id).copied()
    }
}
