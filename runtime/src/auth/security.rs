//! The authenticator of an endpoint, and how it is called.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use callosum_proto::Role;
use callosum_proto::zmtp::Mechanism;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::BoxStream;

use super::{
    Admission, AuthenticationError, Authenticator, ClientIdentity, Credential, CurvePublicKey, ServerIdentity,
};
use crate::rt::Runtime;

/// The parts of an authenticator that an endpoint uses.
pub(crate) struct Security {
    authenticator: Option<Arc<dyn Authenticator>>,
    server: Option<ServerIdentity>,
    client: Option<ClientIdentity>,
    pub(crate) allow_plaintext: bool,
    /// How often clients had to be asked about again.
    pub(super) round: AtomicU64,
}

impl Security {
    pub(crate) fn new(authenticator: Option<Arc<dyn Authenticator>>, allow_plaintext: bool) -> Self {
        Self {
            server: authenticator.as_ref().and_then(|authenticator| authenticator.server_identity()),
            client: authenticator.as_ref().and_then(|authenticator| authenticator.client_identity()),
            authenticator,
            allow_plaintext,
            round: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_plaintext(&self) -> bool {
        self.authenticator.is_none()
    }

    /// The mechanism of this side. NULL only if no authenticator was configured.
    pub(crate) fn mechanism(&self, role: Role) -> Result<Mechanism, AuthenticationError> {
        if self.is_plaintext() {
            return Ok(Mechanism::Null);
        }
        let mechanism = match role {
            Role::Binder => {
                self.server.as_ref().map(|server| Mechanism::CurveServer { keys: server.keys.clone() })
            }
            Role::Connector => self.client.as_ref().map(|client| Mechanism::CurveClient {
                keys: client.keys.clone(),
                server: client.server_key,
            }),
        };
        mechanism.ok_or(AuthenticationError::NoIdentity)
    }

    /// The application's answer; a panic is one too. Its code runs when this is polled, not before.
    pub(super) fn check(&self, public_key: CurvePublicKey, address: &str) -> BoxFuture<'static, Answer> {
        let (Some(authenticator), Some(server)) = (&self.authenticator, &self.server) else {
            return future::ready(Ok(Admission::Refuse)).boxed();
        };
        let credential =
            Credential { domain: server.domain.clone(), public_key, address: address.to_owned() };
        let authenticator = authenticator.clone();
        let asking = async move { authenticator.check_client(credential).await };
        AssertUnwindSafe(asking).catch_unwind().map(|answer| answer.map_err(|_| Panicked)).boxed()
    }

    pub(super) fn changes(&self, runtime: &Arc<dyn Runtime>) -> Option<BoxStream<'static, ()>> {
        self.server.as_ref()?;
        self.authenticator.as_ref()?.changes(runtime)
    }
}

pub(super) struct Panicked;

pub(super) type Answer = Result<Admission, Panicked>;
