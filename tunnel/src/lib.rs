#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/tunnels.md\n")]
//! TCP and Unix connections through a Callosum connection, authorized by rules.
//!
//! The two sides share one Callosum connection, which also carries calls:
//!
//! - A [`TunnelServer`] opens the connections and listeners that its peers request, if an [`Authorizer`] allows them: a
//!   [`RuleSet`] from a file, or your own.
//! - A [`Tunnel`] requests forwards: [`local`](Tunnel::local) (listen here, connect there), [`remote`](Tunnel::remote)
//!   (listen there, connect here), [`dynamic`](Tunnel::dynamic) (SOCKS5 and HTTP CONNECT), [`pipe`](Tunnel::pipe) (one
//!   connection over stdin and stdout).
//!
//! Each has a [`TunnelDriver`], the future that accepts and relays. Dropping it ends everything under it. The [guide]
//! has a chapter on tunnels: rules, monitoring, limits.
//!
//! ```
//! use callosum_runtime::{BindError, Binder, Builder, Connector, Driver};
//! use callosum_tunnel::{Forward, ForwardError, RuleSet, ServerSettings, Tunnel, TunnelDriver, TunnelServer, TunnelSettings};
//!
//! async fn serve(builder: Builder, rules: RuleSet) -> Result<(Binder, Driver, TunnelDriver), BindError> {
//!     let (server, tunnels) = TunnelServer::new(builder.runtime(), rules, ServerSettings::default());
//!     let (binder, driver) = server.add_to(builder).bind("tcp://0.0.0.0:7000").await?;
//!     Ok((binder, driver, tunnels))
//! }
//!
//! async fn forward(connector: &Connector) -> Result<(Forward, TunnelDriver), Box<dyn std::error::Error>> {
//!     let (tunnel, driver) = Tunnel::new(connector.peer(), connector.handlers(), TunnelSettings::default());
//!     let forward = tunnel.local("127.0.0.1:5432".parse()?, "db.internal:5432".parse()?).await?;
//!     println!("forwarding {}", forward.name());
//!     Ok((forward, driver))
//! }
//! ```
//!
//! # One connection, one stream
//! A tunnelled connection is a call whose argument and result are streams. So each has flow control of its own: a
//! reader that stalls delays no other connection. Half-close, reset and the reason of a failure are passed on, as
//! `PROTOCOL.md` defines.
//!
//! # Limits
//! [`ServerSettings::max_connections`], [`TunnelSettings::max_connections`], the limits of a rule, and the limit on a
//! peer's calls ([`callosum_runtime::Limits`]). A stalled connection holds at most
//! [`stream_buffer`](callosum_runtime::Limits::stream_buffer) bytes and one read of 64 KiB on the side that reads its
//! socket, and [`stream_window`](callosum_runtime::Limits::stream_window) bytes and 128 KiB that wait for the socket on
//! the side that writes; an idle one has no buffer.
//!
//! # Feature flags
//! - `metrics`: counters through the facade of the crate `metrics`. Off by default.
#![forbid(unsafe_code)]

mod accepting;
mod authorize;
mod connecting;
mod connection;
mod dial;
mod driver;
mod end;
mod events;
mod forward_spec;
mod http_connect;
mod hub;
mod listen;
mod live;
mod measure;
mod proxy;
mod proxy_protocol;
mod read;
mod reason;
mod relay;
mod resolve;
mod rule_set;
pub mod rules;
mod server;
mod socks5;
mod stop;
mod target;
mod time;
mod timed;
mod totals;
mod tunnel;
mod wire;

pub use authorize::{Authorizer, Permission, Requester};
pub use connection::{ConnectionInfo, ConnectionState, Side};
pub use driver::TunnelDriver;
pub use end::End;
pub use events::{HandshakeError, Summary, TunnelEvent, TunnelEvents};
pub use forward_spec::{ForwardSpec, ParseForwardError};
pub use listen::{ListenAddress, ParseListenAddressError};
pub use reason::Reason;
pub use resolve::{Resolver, SystemResolver};
pub use rule_set::{RuleSet, RulesFileError};
pub use rules::{Grant, Rules, RulesError, is_public};
pub use server::{ServerSettings, TunnelServer};
pub use target::{Host, ParseTargetError, Target};
pub use totals::Totals;
pub use tunnel::{Forward, ForwardError, Tunnel, TunnelSettings};

/// The blocks of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Bodies of this repository's fuzz targets. No part of the API.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::http_connect::fuzzing::http_connect;
    pub use crate::rules::fuzzing::rules;
    pub use crate::socks5::fuzzing::socks5;
}
