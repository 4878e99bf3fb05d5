//! The manager: knows the agents that are connected, keeps images, and passes what operators ask for on.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_tokio::auth::AllowList;
use callosum_tokio::layer::{HandlerNext, IncomingCall};
use callosum_tokio::service::failure_reply;
use callosum_tokio::{
    Binder, BodyReader, Context, Driver, Handlers, Limits, OrderingMode, Peer, Reply, builder,
};
use callosum_tunnel::{Forward, Tunnel, TunnelSettings};
use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{ClusterError, Containers, ContainersClient, Fleet};

/// How long an agent may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Without one for so long, an agent is away.
const SILENCE: Duration = Duration::from_secs(5);
/// Images, and bytes of each.
const MAX_IMAGES: usize = 100;
const MAX_IMAGE: usize = 1 << 20;

pub(crate) struct Manager {
    /// By the names that they were admitted as.
    agents: Mutex<BTreeMap<String, Arc<Agent>>>,
    images: Mutex<BTreeMap<String, Bytes>>,
    handlers: Handlers,
}

/// An agent since it has registered.
struct Agent {
    peer: Peer,
    containers: ContainersClient,
    heartbeat: Mutex<Option<Instant>>,
    tunnel: Tunnel,
    forward: Mutex<Option<Forward>>,
    _tunnel_driver: AbortOnDropHandle<()>,
}

impl Agent {
    fn is_alive(&self) -> bool {
        self.peer.is_connected() && self.heartbeat.lock().is_some_and(|last| last.elapsed() < SILENCE)
    }
}

/// Binds the manager. Its list of keys says who may come in, and as whom: `agent/NAME` or `operator/NAME`.
pub(crate) async fn bind(
    at: &str,
    allowed: AllowList,
) -> Result<(Binder, Driver), Box<dyn Error + Send + Sync>> {
    let limits = Limits::default().max_body(MAX_IMAGE);
    let builder = builder().authenticator(allowed).ordering(OrderingMode::KeySerialized).limits(limits);
    let (binder, driver) = builder.layer(check_role).describe_services().bind(at).await?;
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
        self.agents.lock().get(name).cloned().ok_or_else(|| ClusterError::NoSuchNode(name.into()))
    }

    /// `node-1/web` is what the agent `node-1` calls `web`.
    fn split(&self, container: &str) -> Result<(ContainersClient, String), ClusterError> {
        let (node, name) = container
            .split_once('/')
            .filter(|(_, name)| !name.is_empty())
            .ok_or_else(|| ClusterError::NoSuchContainer(container.into()))?;
        Ok((self.agent(node)?.containers.clone(), name.into()))
    }
}

impl Fleet for Manager {
    async fn register(&self, context: &Context) -> Result<u64, ClusterError> {
        let peer = context.peer().clone();
        let (tunnel, driver) = Tunnel::new(&peer, &self.handlers, TunnelSettings::default());
        let agent = Agent {
            // A call back, over the connection that the agent has made.
            containers: ContainersClient::new(peer.clone()),
            peer,
            heartbeat: Mutex::default(),
            tunnel,
            forward: Mutex::default(),
            _tunnel_driver: AbortOnDropHandle::new(tokio::spawn(driver)),
        };
        let name = name(context, "agent")?;
        let mut agents = self.agents.lock();
        // Those that are gone take their forwards with them.
        agents.retain(|_, agent| agent.peer.is_connected());
        agents.insert(name, Arc::new(agent));
        Ok(HEARTBEAT.as_millis() as u64)
    }

    async fn heartbeat(&self, context: &Context) -> Result<(), ClusterError> {
        let name = name(context, "agent")?;
        let agent = self.agent(&name)?;
        // Over another connection than the one that it has registered on, it has to do so again.
        if agent.peer != *context.peer() {
            return Err(ClusterError::NoSuchNode(name));
        }
        *agent.heartbeat.lock() = Some(Instant::now());
        Ok(())
    }

    async fn pull(&self, image: String) -> Result<impl Stream<Item = Bytes>, ClusterError> {
        let bytes = self.images.lock().get(&image).cloned();
        Ok(stream::iter([bytes.ok_or(ClusterError::NoSuchImage(image))?]))
    }

    async fn nodes(&self) -> Result<Vec<String>, ClusterError> {
        let agents = self.agents.lock();
        Ok(agents.iter().filter(|(_, agent)| agent.is_alive()).map(|(name, _)| name.clone()).collect())
    }

    async fn upload(&self, image: String, data: BodyReader) -> Result<u64, ClusterError> {
        // An error is an upload that has broken off, or is larger than `Limits::max_body`.
        let bytes = data.collect().await.map_err(ClusterError::failed)?;
        let size = bytes.len() as u64;
        let mut images = self.images.lock();
        if images.len() == MAX_IMAGES && !images.contains_key(&image) {
            return Err(ClusterError::NoRoom(image));
        }
        images.insert(image, bytes);
        Ok(size)
    }

    async fn forward(&self, node: String, target: String) -> Result<String, ClusterError> {
        let agent = self.agent(&node)?;
        let listen = "127.0.0.1:0".parse().map_err(ClusterError::failed)?;
        let target = target.parse().map_err(ClusterError::failed)?;
        let forward = agent.tunnel.local(listen, target).await.map_err(ClusterError::failed)?;
        let address = forward.address().to_string();
        if let Some(before) = agent.forward.lock().replace(forward) {
            before.close();
        }
        Ok(address)
    }
}

impl Containers for Manager {
    async fn start(&self, _: &Context, container: String, image: String) -> Result<(), ClusterError> {
        let (agent, name) = self.split(&container)?;
        Ok(agent.start(name, image).timeout(TIMEOUT).await?)
    }

    async fn stop(&self, container: String) -> Result<(), ClusterError> {
        let (agent, name) = self.split(&container)?;
        Ok(agent.stop(name).timeout(TIMEOUT).await?)
    }

    async fn delete(&self, container: String) -> Result<(), ClusterError> {
        let (agent, name) = self.split(&container)?;
        Ok(agent.delete(name).timeout(TIMEOUT).await?)
    }

    async fn logs(
        &self,
        context: &Context,
        container: String,
    ) -> Result<impl Stream<Item = Result<String, ClusterError>>, ClusterError> {
        context.release_slot();
        let (agent, name) = self.split(&container)?;
        // Line by line, and no faster than the operator reads.
        let lines = agent.logs(name).await?;
        Ok(lines.map(|line| line.map_err(ClusterError::from).flatten()))
    }
}
