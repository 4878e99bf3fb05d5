//! Entries of the list of peers, built from what an implementation can do.

use std::{
    io::{self, Write as _},
    marker::PhantomData,
    net::SocketAddr,
    thread,
};

use anyhow::Result;

use super::stack::{Kind, Orders, Peer, Roles, Stack};
use crate::{
    cases::{Case, Order},
    executor::Executor,
    hold,
    load::{self, Keyed, Sample, Timing},
    upload::{self, Beside, Length, Upload},
};

/// The entry of an implementation in Rust, to which each method adds something that is measured.
pub(super) struct Entry<S> {
    roles: Roles,
    stack: PhantomData<S>,
}

impl<S: Stack> Entry<S> {
    pub(super) const fn new() -> Self {
        let roles = Roles {
            serve: serve::<S>,
            load: None,
            upload: None,
            beside: None,
            ordered: None,
            layer: None,
            hold: None,
        };
        Self { roles, stack: PhantomData }
    }

    const fn with(roles: Roles) -> Self {
        Self { roles, stack: PhantomData }
    }

    pub(super) const fn peer(&self) -> Peer {
        Peer {
            name: S::NAME,
            runtime: S::Runtime::NAME,
            encrypted: S::ENCRYPTED,
            kind: Kind::Rust(self.roles),
        }
    }
}

impl<S: Stack> Entry<S>
where
    S::Client: load::Client,
{
    pub(super) const fn calls(&self) -> Self {
        Self::with(Roles { load: Some(connect_and_load::<S>), ..self.roles })
    }

    /// A layer above calls, or what those are compared with.
    pub(super) const fn layer(&self) -> Self {
        Self::with(Roles { layer: Some(connect_and_load::<S>), ..self.roles })
    }

    pub(super) const fn idle(&self) -> Self {
        Self::with(Roles { hold: Some(connect_and_hold::<S>), ..self.roles })
    }
}

impl<S: Orders> Entry<S>
where
    S::Client: load::KeyedClient,
{
    pub(super) const fn orders(&self) -> Self {
        Self::with(Roles { ordered: Some((serve_in::<S>, connect_and_load_keyed::<S>)), ..self.roles })
    }
}

impl<S: Stack> Entry<S>
where
    S::Client: upload::Client,
{
    pub(super) const fn uploads(&self) -> Self {
        Self::with(Roles { upload: Some(connect_and_upload::<S>), ..self.roles })
    }
}

impl<S: Stack> Entry<S>
where
    S::Client: load::Client + upload::Client,
{
    /// Calls beside an upload.
    pub(super) const fn beside(&self) -> Self {
        Self::with(Roles { beside: Some(connect_and_do_both::<S>), ..self.roles })
    }
}

/// Ends this process when the one that started it closes the other end of stdin, or ends.
pub(crate) fn end_with_stdin() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}

/// Says where this process listens.
pub(crate) fn announce(address: SocketAddr) {
    println!("{}", address.port());
    io::stdout().flush().expect("the process that started this one reads its output");
}

fn serve<S: Stack>() -> Result<()> {
    end_with_stdin();
    S::Runtime::block_on(S::serve(announce))
}

fn serve_in<S: Orders>(order: Order) -> Result<()> {
    end_with_stdin();
    S::Runtime::block_on(S::serve_in(order, announce))
}

async fn connect_all<S: Stack>(server: SocketAddr, connections: usize) -> Result<Vec<S::Client>> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(S::connect(server).await?);
    }
    Ok(clients)
}

fn connect_and_load<S: Stack>(server: SocketAddr, case: Case, timing: Timing) -> Result<Sample>
where
    S::Client: load::Client,
{
    S::Runtime::block_on(async move {
        let clients = connect_all::<S>(server, case.connections).await?;
        load::run::<S::Runtime>(&clients, case, timing).await
    })
}

fn connect_and_load_keyed<S: Stack>(server: SocketAddr, case: Case, timing: Timing) -> Result<Sample>
where
    S::Client: load::KeyedClient,
{
    S::Runtime::block_on(async move {
        let clients = Keyed::all(connect_all::<S>(server, case.connections).await?);
        load::run::<S::Runtime>(&clients, case, timing).await
    })
}

fn connect_and_hold<S: Stack>(server: SocketAddr) -> Result<()>
where
    S::Client: load::Client,
{
    S::Runtime::block_on(hold::hold::<S::Runtime, _, _>(move || S::connect(server)))
}

fn connect_and_upload<S: Stack>(server: SocketAddr, length: Length) -> Result<Upload>
where
    S::Client: upload::Client,
{
    S::Runtime::block_on(async move {
        let client = S::connect(server).await?;
        upload::run(client, length).await
    })
}

fn connect_and_do_both<S: Stack>(
    server: SocketAddr,
    body_bytes: usize,
    length: Length,
    timing: Timing,
) -> Result<Beside>
where
    S::Client: load::Client + upload::Client,
{
    S::Runtime::block_on(async move {
        let client = S::connect(server).await?;
        upload::run_beside::<S::Runtime>(client, body_bytes, length, timing).await
    })
}
