use std::fmt;
use std::future::Future;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::ServerIdentity;
use super::{Admission, Authenticator, ClientIdentity, Credential, CurveKeyPair, CurvePublicKey};

/// The side that connects: a key pair, and the server's public key.
#[derive(Clone, Debug)]
pub struct CurveClient(ClientIdentity);

impl CurveClient {
    /// Connects only to the server that owns this key.
    pub fn new(keys: CurveKeyPair, server_key: CurvePublicKey) -> Self {
        Self(ClientIdentity { keys, server_key })
    }
}

impl Authenticator for CurveClient {
    fn client_identity(&self) -> Option<ClientIdentity> {
        Some(self.0.clone())
    }
}

/// The side that binds: asks a closure once for each connection whether to admit the client. A client whose right is
/// withdrawn later stays connected until [`Peer::disconnect`](crate::Peer::disconnect); to check clients again,
/// implement [`Authenticator::changes`].
///
/// ```
/// use callosum_runtime::auth::{Admission, FnAuthenticator, Identity, generate_keys};
///
/// # async fn user_of(key: String) -> Option<String> { None }
/// let authenticator = FnAuthenticator::new(generate_keys(), |client| async move {
///     match user_of(client.public_key.to_string()).await {
///         Some(user) => Admission::Admit(Identity::new(user)),
///         None => Admission::Refuse,
///     }
/// });
/// ```
pub struct FnAuthenticator<F> {
    identity: ServerIdentity,
    check: F,
}

impl<F, Fut> FnAuthenticator<F>
where
    F: Fn(Credential) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Admission> + Send + 'static,
{
    /// The closure is [`Authenticator::check_client`].
    pub fn new(identity: impl Into<ServerIdentity>, check: F) -> Self {
        Self { identity: identity.into(), check }
    }
}

impl<F, Fut> Authenticator for FnAuthenticator<F>
where
    F: Fn(Credential) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Admission> + Send + 'static,
{
    fn server_identity(&self) -> Option<ServerIdentity> {
        Some(self.identity.clone())
    }

    fn check_client(&self, credential: Credential) -> BoxFuture<'static, Admission> {
        (self.check)(credential).boxed()
    }
}

impl<F> fmt::Debug for FnAuthenticator<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnAuthenticator").field("identity", &self.identity).finish_non_exhaustive()
    }
}
