//! The containers of an agent: tasks in memory, each of which logs the lines of its image, and then waits to be stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use callosum_tokio::Context;
use futures_util::{Stream, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{ClusterError, Containers, FleetClient};

/// Containers of an agent.
const MAX_CONTAINERS: usize = 100;
/// How long the manager may take to send an image.
const TIMEOUT: Duration = Duration::from_secs(10);

/// All containers of an agent, by name.
#[derive(Default)]
pub(crate) struct Local(Mutex<BTreeMap<String, Container>>);

struct Container {
    /// What it has printed so far. Closed once it has ended.
    log: watch::Receiver<Vec<String>>,
    /// `None` once it was stopped.
    task: Option<AbortOnDropHandle<()>>,
}

impl Local {
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Container) -> T) -> Result<T, ClusterError> {
        let mut containers = self.0.lock();
        containers.get_mut(name).map(work).ok_or_else(|| ClusterError::NoSuchContainer(name.into()))
    }
}

impl Containers for Local {
    async fn start(&self, context: &Context, container: String, image: String) -> Result<(), ClusterError> {
        // A call back while this one is answered. It needs no other connection, and blocks nothing.
        let manager = FleetClient::new(context.peer().clone());
        let bytes: Vec<_> = manager.pull(image).timeout(TIMEOUT).await?.try_collect().await?;
        let text = String::from_utf8_lossy(&bytes.concat()).into_owned();
        let mut containers = self.0.lock();
        if containers.contains_key(&container) {
            return Err(ClusterError::Exists(container));
        }
        if containers.len() == MAX_CONTAINERS {
            return Err(ClusterError::NoRoom(container));
        }
        let (print, log) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            for line in text.lines() {
                print.send_modify(|lines| lines.push(line.to_owned()));
                tokio::task::yield_now().await;
            }
            std::future::pending().await
        });
        containers.insert(container, Container { log, task: Some(AbortOnDropHandle::new(task)) });
        Ok(())
    }

    async fn stop(&self, container: String) -> Result<(), ClusterError> {
        let mut log = self.with(&container, |container| {
            container.task = None;
            container.log.clone()
        })?;
        while log.changed().await.is_ok() {}
        Ok(())
    }

    async fn delete(&self, container: String) -> Result<(), ClusterError> {
        match self.with(&container, |container| container.log.has_changed().is_err())? {
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
