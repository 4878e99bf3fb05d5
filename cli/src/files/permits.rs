//! Limits the transfers of each connection.
//!
//! All handlers of a method share its limit. One connection may only have a part of it, so that a client which opens
//! transfers and lets them lie leaves the rest to others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use callosum_runtime::{HandlerError, PeerId};

/// Transfers of one kind.
#[derive(Debug)]
pub(super) struct Permits {
    /// For each connection.
    limit: usize,
    /// How many each has that has any.
    taken: Mutex<BTreeMap<PeerId, usize>>,
}

/// One transfer, until this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    peer: PeerId,
}

impl Permits {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// # Errors
    /// `Busy`, if this connection has as many as it may have.
    pub(super) fn take(self: &Arc<Self>, peer: PeerId) -> Result<Permit, HandlerError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(peer).or_default();
        if *count >= self.limit {
            let problem =
                format!("{count} transfers of this connection are in progress; wait until one ends");
            return Err(HandlerError::new("Busy", &problem));
        }
        *count += 1;
        Ok(Permit { permits: self.clone(), peer })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use callosum_runtime::{Context, HandlerResult};
    use callosum_tokio::builder;

    use super::*;

    /// The ids of two peers of one endpoint.
    async fn peers() -> [PeerId; 2] {
        let (found, ids) = async_channel::unbounded();
        let note = move |(): (), context: Context| {
            let _ = found.try_send(context.peer().id());
            async { HandlerResult::Ok(()) }
        };
        let (binder, driver) = builder().handle("note", note).bind("inproc://permits").await.unwrap();
        tokio::spawn(driver);
        for _ in 0..2 {
            let (connector, driver) = builder().connect(&binder.endpoints()[0]).unwrap();
            tokio::spawn(driver);
            connector.peer().invoke::<_, ()>("note", &()).await.unwrap();
        }
        [ids.recv().await.unwrap(), ids.recv().await.unwrap()]
    }

    #[test]
    fn each_connection_has_its_own() {
        let [a, b] = tokio::runtime::Runtime::new().unwrap().block_on(peers());
        let permits = Permits::new(2);
        let one = [(); 2].map(|()| permits.take(a).unwrap());
        permits.take(a).unwrap_err();
        let other = permits.take(b).unwrap();
        drop(one);
        permits.take(a).unwrap();
        drop(other);
        assert!(permits.taken.lock().unwrap().is_empty());
    }
}
