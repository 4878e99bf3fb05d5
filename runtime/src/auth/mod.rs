//! Authentication: who a peer is, and whether it is admitted.
//!
//! An [`Authenticator`], given to [`Builder::authenticator`](crate::Builder::authenticator), turns CURVE (RFC 26) on:
//! an endpoint with an authenticator refuses every other mechanism. The side that binds has a key pair and admits
//! clients by their public keys; the side that connects has a key pair of its own, and knows the server's public key.
//!
//! Ready-made are:
//! - [`KeySet`]: admits a set of keys that changes while the endpoint runs;
//! - [`AllowList`]: admits the keys in a file or a directory, which is read again when it changes;
//! - [`FnAuthenticator`]: asks a closure;
//! - [`CurveClient`]: the side that connects.
//!
//! Keys come from [`generate_keys`], and live in files with [`save_keys`] and [`load_keys`].
//!
//! ```
//! use callosum_runtime::auth::{CurveClient, KeySet, generate_keys};
//! use callosum_runtime::{BindError, Binder, Builder, Connector, Driver};
//!
//! async fn endpoints(server: Builder, client: Builder) -> Result<(), Box<dyn std::error::Error>> {
//!     let (server_keys, client_keys) = (generate_keys(), generate_keys());
//!     let server_key = server_keys.public();
//!
//!     let allowed = KeySet::new(server_keys);
//!     allowed.admit(client_keys.public(), "alice");
//!     let (binder, driver) = server.authenticator(allowed.clone()).bind("tcp://*:5555").await?;
//!
//!     let client = client.authenticator(CurveClient::new(client_keys, server_key));
//!     let (connector, driver) = client.connect("tcp://server:5555")?;
//!     Ok(())
//! }
//! ```
//!
//! # What is promised
//! - No message passes from or to a client before it is admitted. Its identity is bound to its connection: it is in
//!   [`PeerInfo`](crate::PeerInfo) and in every handler's [`Context`](crate::Context), and the routing id that the peer
//!   chose has no influence on it.
//! - A check may take up to [`Limits::handshake_timeout`](crate::Limits::handshake_timeout) (10 s), and other
//!   handshakes go on meanwhile. If it takes longer, or panics, the client is rejected.
//! - A rejected client gets an ERROR command, and reports an [`AuthenticationError`] at once.

mod admission;
mod allow_list;
mod error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod key_file;
mod key_set;
mod ready_made;
#[cfg(test)]
pub(crate) mod scratch;
mod security;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::rt::Runtime;

pub(crate) use admission::{Admitting, Verdict, watch_changes};
pub use allow_list::{AllowList, AllowListError};
pub use callosum_proto::zmtp::{CurveKeyPair, CurvePublicKey, KeyError, RefusalStatus};
pub use error::AuthenticationError;
pub use key_file::{KeyFileError, generate_keys, load_keys, load_public_key, save_keys};
pub use key_set::KeySet;
pub use ready_made::{CurveClient, FnAuthenticator};
pub(crate) use security::Security;

/// The keys of an endpoint, and the clients that it admits.
///
/// One type may serve both sides: binding uses [`server_identity`](Self::server_identity) and
/// [`check_client`](Self::check_client), connecting uses [`client_identity`](Self::client_identity). A method that is
/// not implemented refuses: an endpoint without the identity of its side speaks with no peer, and one without a check
/// admits no client.
pub trait Authenticator: Send + Sync + 'static {
    /// The identity of this endpoint when it binds. Called once, when the endpoint is built.
    fn server_identity(&self) -> Option<ServerIdentity> {
        None
    }

    /// The identity of this endpoint when it connects. Called once, when the endpoint is built.
    fn client_identity(&self) -> Option<ClientIdentity> {
        None
    }

    /// Decides whether to admit a client that has proved to own a key.
    ///
    /// The future runs on the task of the client's connection, and after [`changes`](Self::changes) on the binder's
    /// driver: it must not block. It is dropped when the connection ends, or after
    /// [`Limits::handshake_timeout`](crate::Limits::handshake_timeout). The timeout and a panic reject the client.
    fn check_client(&self, credential: Credential) -> BoxFuture<'static, Admission> {
        drop(credential);
        std::future::ready(Admission::Refuse).boxed()
    }

    /// Whenever this stream yields, the binder calls [`check_client`](Self::check_client) again for each connected
    /// client, and closes the connections of the clients that it now refuses. An answer that admits a client replaces
    /// the client's identity; if the stream has yielded meanwhile, the binder asks again. It asks about 64 clients at a
    /// time, each for up to [`Limits::handshake_timeout`](crate::Limits::handshake_timeout), so slow checks of many
    /// clients take correspondingly longer.
    ///
    /// Called once by each binder, whose driver polls the stream. With `None`, the default, clients are not checked
    /// again. A stream that panics ends the driver, and with it the binder.
    fn changes(&self, runtime: &Arc<dyn Runtime>) -> Option<BoxStream<'static, ()>> {
        let _ = runtime;
        None
    }
}

impl<T: Authenticator + ?Sized> Authenticator for Arc<T> {
    fn server_identity(&self) -> Option<ServerIdentity> {
        (**self).server_identity()
    }

    fn client_identity(&self) -> Option<ClientIdentity> {
        (**self).client_identity()
    }

    fn check_client(&self, credential: Credential) -> BoxFuture<'static, Admission> {
        (**self).check_client(credential)
    }

    fn changes(&self, runtime: &Arc<dyn Runtime>) -> Option<BoxStream<'static, ()>> {
        (**self).changes(runtime)
    }
}

/// The identity of a binder.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// Passed to [`Authenticator::check_client`], for a check that serves several endpoints (RFC 27). It is not sent to
    /// peers.
    pub domain: String,
    /// Clients must know the public key.
    pub keys: CurveKeyPair,
}

impl From<CurveKeyPair> for ServerIdentity {
    /// An identity with an empty domain.
    fn from(keys: CurveKeyPair) -> Self {
        Self { domain: String::new(), keys }
    }
}

/// The identity of a connector, and the server that it connects to.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The server must admit the public key.
    pub keys: CurveKeyPair,
    /// The public key that the server must own.
    pub server_key: CurvePublicKey,
}

/// A client that asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credential {
    /// [`ServerIdentity::domain`] of the endpoint that it has connected to.
    pub domain: String,
    /// The key that it has proved to own.
    pub public_key: CurvePublicKey,
    /// Its address, for people to read.
    pub address: String,
}

/// The answer to [`Authenticator::check_client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Admit the client, as this user.
    Admit(Identity),
    /// Reject the client.
    Refuse,
}

/// The user that a client was admitted as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The application's name for it.
    pub user_id: String,
    /// Further data of the application, for its handlers.
    pub metadata: BTreeMap<String, String>,
}

impl Identity {
    /// An identity without metadata.
    pub fn new(user_id: impl Into<String>) -> Self {
        Self { user_id: user_id.into(), metadata: BTreeMap::new() }
    }
}

impl From<&str> for Identity {
    fn from(user_id: &str) -> Self {
        Self::new(user_id)
    }
}

impl From<String> for Identity {
    fn from(user_id: String) -> Self {
        Self::new(user_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let scratch = scratch::Scratch::new();
        let (keys, file) = (generate_keys(), scratch.write("allowed", ""));
        let server_key = generate_keys().public();
        let check = FnAuthenticator::new(keys.clone(), |_| async { Admission::Refuse });
        let list = AllowList::open(keys.clone(), file).unwrap();
        let client = CurveClient::new(keys.clone(), server_key);
        let text = format!("{keys:?} {check:?} {list:?} {client:?} {:#?}", KeySet::new(keys.clone()));
        assert!(text.contains(&keys.public().to_string()));
        assert!(!text.contains(&*keys.secret_z85()), "{text}");
    }
}
