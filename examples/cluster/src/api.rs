//! What the programs say to each other: two typed services, and the error of both.

use std::time::Duration;

use bytes::Bytes;
use callosum_tokio::service::ServiceError;
use callosum_tokio::{Context, service};
use futures_util::Stream;
use serde::{Deserialize, Serialize};

/// How often an agent tells the manager that it is there.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);

/// Containers. An agent runs them; the manager, where names begin with that of a node, as in `node-1/web`, passes calls on.
#[service]
pub(crate) trait Containers {
    /// Starts a container. The key keeps calls for one container in order; those for others run meanwhile.
    #[method(key = container)]
    async fn start(&self, context: &Context, container: String, image: String) -> Result<(), ClusterError>;

    /// Stops a container.
    #[method(key = container)]
    async fn stop(&self, container: String) -> Result<(), ClusterError>;

    /// Deletes a container that was stopped.
    #[method(key = container)]
    async fn delete(&self, container: String) -> Result<(), ClusterError>;

    /// What a container prints, from the beginning until it is stopped.
    async fn logs(
        &self,
        context: &Context,
        container: String,
    ) -> Result<impl Stream<Item = Result<String, ClusterError>>, ClusterError>;
}

/// What the manager serves besides: the first three methods to agents, the others to operators.
#[service]
pub(crate) trait Fleet {
    /// The caller takes calls from now on.
    async fn register(&self, context: &Context) -> Result<(), ClusterError>;

    /// The caller, which has registered, is alive.
    async fn heartbeat(&self, context: &Context) -> Result<(), ClusterError>;

    /// An image that was uploaded.
    async fn pull(&self, image: String) -> Result<String, ClusterError>;

    /// The agents that are connected and alive.
    async fn nodes(&self) -> Result<Vec<String>, ClusterError>;

    /// Stores an image, which is a text; returns its size in bytes.
    async fn upload(&self, image: String, data: impl Stream<Item = Bytes>) -> Result<u64, ClusterError>;

    /// Opens a tunnel to a service behind an agent, as far as that agent's rules allow, in place of the one before. Returns where the
    /// manager listens for it.
    #[method(key = node)]
    async fn forward(&self, node: String, target: String) -> Result<String, ClusterError>;
}

/// An error is data: a caller in Rust has the value again, and one in Python an `RPCUserError` with the variant's name.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("only an {0} may call this")]
    Forbidden(String),
    #[error("register first")]
    NotRegistered,
    #[error("there is no image {0}")]
    NoSuchImage(String),
    #[error("there is no {0}")]
    NotFound(String),
    #[error("the container {0} already exists")]
    Exists(String),
    #[error("{0} still runs: stop it first")]
    Running(String),
    #[error("{0}")]
    Failed(String),
}

impl ClusterError {
    pub(crate) fn failed(error: impl ToString) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What the other side has failed with is passed on as it is.
impl From<ServiceError<ClusterError>> for ClusterError {
    fn from(error: ServiceError<ClusterError>) -> Self {
        match error {
            ServiceError::Failed(error) => error,
            ServiceError::Call(error) => Self::failed(error),
        }
    }
}
