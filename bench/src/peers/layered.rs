//! What the layers above Callosum's calls have in common: a service and its client, on a connection like that of the raw calls.

use std::{marker::PhantomData, net::SocketAddr};

use anyhow::Result;
use callosum_tokio::{Builder, Peer};

use super::{
    callosum::{self, DialectTwo},
    stack::Stack,
};
use crate::{executor::Tokio, load};

/// A layer above calls, in which the echo is a method of a service.
pub trait Layer: Send + Sync + 'static {
    /// The name of the peer.
    const NAME: &'static str;
    /// The client of the service.
    type Client: load::Client;

    /// Adds the service.
    fn serve(builder: Builder) -> Builder;

    /// Calls a peer that has it.
    fn client(peer: Peer) -> Self::Client;
}

/// A layer over TCP.
#[derive(Debug)]
pub struct Layered<L>(PhantomData<L>);

impl<L: Layer> Stack for Layered<L> {
    const NAME: &'static str = L::NAME;
    type Runtime = Tokio;
    type Client = L::Client;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        callosum::serve(L::serve(callosum::builder::<Tokio, DialectTwo>()), ready).await
    }

    async fn connect(server: SocketAddr) -> Result<L::Client> {
        let builder = callosum::builder::<Tokio, DialectTwo>();
        Ok(L::client(callosum::connect::<Tokio, DialectTwo>(builder, server).await?.peer()))
    }
}
