//! The manager: knows the agents that are connected, keeps images, and passes what operators ask for on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callosum_tokio::auth::AllowList;
use callosum_tokio::layer::{HandlerNext, IncomingCall};
use callosum_tokio::service::failure_reply;
use callosum_tokio::{
    Binder, BodyReader, Context, Driver, Handlers, Limits, OrderingMode, Peer, Reply, builder,
};
use callosum_tunnel::{Tunnel, TunnelSettings};
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::Failure;
use crate::api::{ClusterError, Containers, ContainersClient, Fleet};

/// How long an agent may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Without a heartbeat for so long, an agent is away.
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes of an image.
const MAX_IMAGE: usize = 1 << 20;

struct Manager {
    /// By the names that they were admitted as.
    agents: Mutex<BTreeMap<String, Arc<Agent>>>,
    images: Mutex<BTreeMap<String, String>>,
    handlers: Handlers,
}

/// An agent since it has registered.
struct Agent {
    peer: Peer,
    heartbeat: Mutex<Instant>,
    /// What moves the bytes of its tunnel.
    tunnel: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// Binds the manager. Its list of keys says who may come in, and as whom: `agent/NAME` or `operator/NAME`.
pub(crate) async fn bind(at: &str, allowed: AllowList) -> Result<(Binder, Driver), Failure> {
    let builder = builder()
        .authenticator(allowed)
        .call_timeout(TIMEOUT)
        .ordering(OrderingMode::KeySerialized)
        .limits(Limits::default().max_body(MAX_IMAGE))
        .layer(check_role)
        .describe_services();
    let (binder, driver) = builder.bind(at).await?;
    // Nobody comes in before the driver runs: there is time to add handlers.
    let handlers = binder.handlers();
    let (agents, images) = (Mutex::default(), Mutex::default());
    let manager = Arc::new(Manager { agents, images, handlers: handlers.clone() });
    handlers.serve(Fleet::into_service(manager.clone()))?;
    handlers.serve(Containers::into_service(manager))?;
    Ok((binder, driver))
}

/// A layer around all handlers: agents register and pull images, and everything else is for operators.
async fn check_role(call: IncomingCall, next: HandlerNext) -> Reply {
    let role = match call.context().method() {
        "Fleet.register" | "Fleet.heartbeat" | "Fleet.pull" => "agent",
        _ => "operator",
    };
    match name(call.context(), role) {
        Ok(_) => next.run(call).await,
        Err(error) => failure_reply(error, call.context()),
    }
}

/// The caller's name without its role, if that is `role`. It has proved to own the key of that name.
fn name(context: &Context, role: &str) -> Result<String, ClusterError> {
    let user = context.identity().map(|identity| identity.user_id.clone()).unwrap_or_default();
    let name = user.strip_prefix(role).and_then(|rest| rest.strip_prefix('/'));
    name.map(str::to_owned).ok_or_else(|| ClusterError::Forbidden(role.into()))
}

impl Manager {
    fn agent(&self, name: &str) -> Result<Arc<Agent>, ClusterError> {
        let agent = self.agents.lock().get(name).cloned();
        agent.ok_or_else(|| ClusterError::NotFound(format!("node {name}")))
    }

    /// `node-1/web` is what the agent `node-1` calls `web`.
    fn split(&self, container: &str) -> Result<(ContainersClient, String), ClusterError> {
        let (node, name) = container.split_once('/').unwrap_or((container, ""));
        // A call back, over the connection that the agent has made.
        Ok((ContainersClient::new(self.agent(node)?.peer.clone()), name.into()))
    }
}

impl Fleet for Manager {
    async fn register(&self, context: &Context) -> Result<(), ClusterError> {
        let (name, peer) = (name(context, "agent")?, context.peer().clone());
        let mut agents = self.agents.lock();
        // Those that are gone take their tunnels with them.
        agents.retain(|_, agent| agent.peer.is_connected());
        let (heartbeat, tunnel) = (Mutex::new(Instant::now()), Mutex::default());
        agents.insert(name, Arc::new(Agent { peer, heartbeat, tunnel }));
        Ok(())
    }

    async fn heartbeat(&self, context: &Context) -> Result<(), ClusterError> {
        match self.agent(&name(context, "agent")?) {
            Ok(agent) if agent.peer == *context.peer() => *agent.heartbeat.lock() = Instant::now(),
            // Not at all, or over another connection.
            _ => return Err(ClusterError::NotRegistered),
        }
        Ok(())
    }

    async fn pull(&self, image: String) -> Result<String, ClusterError> {
        self.images.lock().get(&image).cloned().ok_or(ClusterError::NoSuchImage(image))
    }

    async fn nodes(&self) -> Result<Vec<String>, ClusterError> {
        let agents = self.agents.lock();
        let alive = |agent: &Agent| agent.peer.is_connected() && agent.heartbeat.lock().elapsed() < SILENCE;
        Ok(agents.iter().filter(|(_, agent)| alive(agent)).map(|(name, _)| name.clone()).collect())
    }

    async fn upload(&self, image: String, data: BodyReader) -> Result<u64, ClusterError> {
        // An error is an upload that has broken off, or is larger than `Limits::max_body`.
        let bytes = data.collect().await.map_err(ClusterError::failed)?;
        let text = String::from_utf8(bytes.into()).map_err(ClusterError::failed)?;
        let size = text.len() as u64;
        let mut images = self.images.lock();
        if images.len() == 100 && !images.contains_key(&image) {
            return Err(ClusterError::failed("at most 100 images are kept"));
        }
        images.insert(image, text);
        Ok(size)
    }

    async fn forward(&self, node: String, target: String) -> Result<String, ClusterError> {
        let (agent, target) = (self.agent(&node)?, target.parse().map_err(ClusterError::failed)?);
        let (tunnel, driver) = Tunnel::new(&agent.peer, &self.handlers, TunnelSettings::default());
        // The tunnel before ends with what has moved its bytes.
        *agent.tunnel.lock() = Some(AbortOnDropHandle::new(tokio::spawn(driver)));
        let listen = "127.0.0.1:0".parse().map_err(ClusterError::failed)?;
        let forward = tunnel.local(listen, target).await.map_err(ClusterError::failed)?;
        Ok(forward.address().to_string())
    }
}

impl Containers for Manager {
    async fn start(&self, _: &Context, container: String, image: String) -> Result<(), ClusterError> {
        let (agent, name) = self.split(&container)?;
        Ok(agent.start(name, image).await?)
    }

    async fn stop(&self, container: String) -> Result<(), ClusterError> {
        let (agent, name) = self.split(&container)?;
        Ok(agent.stop(name).await?)
    }

    async fn delete(&self, container: String) -> Result<(), ClusterError> {
        let (agent, name) = self.split(&container)?;
        Ok(agent.delete(name).await?)
    }

    async fn logs(
        &self,
        context: &Context,
        container: String,
    ) -> Result<impl Stream<Item = Result<String, ClusterError>>, ClusterError> {
        context.release_slot();
        let (agent, name) = self.split(&container)?;
        // Line by line, and no faster than the operator reads.
        let lines = agent.logs(name).no_timeout().await?;
        Ok(lines.map(|line| line.map_err(ClusterError::from).flatten()))
    }
}
