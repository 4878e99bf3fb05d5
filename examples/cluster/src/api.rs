//! What the programs say to each other: two typed services, and the error of both.

use std::fmt::Display;

use bytes::Bytes;
use callosum_tokio::service::ServiceError;
use callosum_tokio::{Context, service};
use futures_util::Stream;
use serde::{Deserialize, Serialize};

/// Containers. An agent runs them; the manager, where names begin with that of a node, as in `node-1/web`, passes calls on.
#[service]
pub(crate) trait Containers {
    /// Starts a container. The key keeps calls for one container in order; those for others run meanwhile.
    #[method(key = container)]
    async fn start(&self, context: &Context, container: String, image: String) -> Result<(), ClusterError>;

    /// Stops a container, and waits until it has ended.
    #[method(key = container)]
    async fn stop(&self, container: String) -> Result<(), ClusterError>;

    /// Deletes a container that has ended.
    #[method(key = container)]
    async fn delete(&self, container: String) -> Result<(), ClusterError>;

    /// What a container prints, from the beginning until it ends.
    async fn logs(
        &self,
        context: &Context,
        container: String,
    ) -> Result<impl Stream<Item = Result<String, ClusterError>>, ClusterError>;
}

/// What the manager serves besides: the first three methods to agents, the others to operators.
#[service]
pub(crate) trait Fleet {
    /// The caller takes calls from now on. Returns how often it is to send a heartbeat, in milliseconds.
    async fn register(&self, context: &Context) -> Result<u64, ClusterError>;

    /// The caller is alive.
    async fn heartbeat(&self, context: &Context) -> Result<(), ClusterError>;

    /// An image that was uploaded.
    async fn pull(&self, image: String) -> Result<impl Stream<Item = Bytes>, ClusterError>;

    /// The agents that are connected and have sent a heartbeat.
    async fn nodes(&self) -> Result<Vec<String>, ClusterError>;

    /// Stores an image; returns its size in bytes.
    async fn upload(&self, image: String, data: impl Stream<Item = Bytes>) -> Result<u64, ClusterError>;

    /// Opens a tunnel to a service behind an agent, as far as that agent's rules allow, in place of the one before. Returns where the
    /// manager listens for it.
    #[method(key = node)]
    async fn forward(&self, node: String, target: String) -> Result<String, ClusterError>;
}

/// An error is data: a caller in Rust has the value again, and one in Python an `RPCUserError` with the variant's name.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("that takes an {0}")]
    Forbidden(String),
    #[error("there is no node {0}")]
    NoSuchNode(String),
    #[error("there is no image {0}")]
    NoSuchImage(String),
    #[error("there is no container {0}")]
    NoSuchContainer(String),
    #[error("there is a container {0} already")]
    Exists(String),
    #[error("{0} still runs: stop it first")]
    Running(String),
    #[error("there is no room for {0}")]
    NoRoom(String),
    #[error("{0}")]
    Failed(String),
}

impl ClusterError {
    pub(crate) fn failed(error: impl Display) -> Self {
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
