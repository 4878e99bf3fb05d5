//! The containers of an agent: they are pretended, and print the lines of their image.

use std::collections::BTreeMap;

use callosum_tokio::Context;
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::api::{ClusterError, Containers, FleetClient};

/// All containers of an agent, by name.
#[derive(Default)]
pub(crate) struct Local(Mutex<BTreeMap<String, Container>>);

struct Container {
    /// What it has printed so far. Closed once it has ended.
    log: watch::Receiver<Vec<String>>,
    /// What it prints to. `None` once it was stopped.
    running: Option<watch::Sender<Vec<String>>>,
}

impl Local {
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Container) -> T) -> Result<T, ClusterError> {
        let mut containers = self.0.lock();
        containers.get_mut(name).map(work).ok_or_else(|| ClusterError::NotFound(format!("container {name}")))
    }
}

impl Containers for Local {
    async fn start(&self, context: &Context, container: String, image: String) -> Result<(), ClusterError> {
        // A call back while this one is answered. It needs no other connection, and blocks nothing.
        let text = FleetClient::new(context.peer().clone()).pull(image).await?;
        let mut containers = self.0.lock();
        if containers.contains_key(&container) {
            return Err(ClusterError::Exists(container));
        }
        let (running, log) = watch::channel(text.lines().map(str::to_owned).collect());
        containers.insert(container, Container { log, running: Some(running) });
        Ok(())
    }

    async fn stop(&self, container: String) -> Result<(), ClusterError> {
        self.with(&container, |container| container.running = None)
    }

    async fn delete(&self, container: String) -> Result<(), ClusterError> {
        match self.with(&container, |container| container.running.is_none())? {
            true => drop(self.0.lock().remove(&container)),
            false => return Err(ClusterError::Running(container)),
        }
        Ok(())
    }

    async fn logs(
        &self,
        context: &Context,
        container: String,
    ) -> Result<impl Stream<Item = Result<String, ClusterError>>, ClusterError> {
        // It may last for days, and mostly waits: it is not to keep others from being served.
        context.release_slot();
        let log = self.with(&container, |container| container.log.clone())?;
        Ok(stream::unfold((log, 0), |(mut log, next)| async move {
            let line = log.wait_for(|lines| lines.len() > next).await.ok()?[next].clone();
            Some((Ok(line), (log, next + 1)))
        }))
    }
}
