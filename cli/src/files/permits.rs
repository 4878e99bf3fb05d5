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
    use super::*;

    #[test]
    fn each_connection_has_its_own() {
        let permits = Permits::new(2);
        let one = [(); 2].map(|()| permits.take(PeerId(1)).unwrap());
        permits.take(PeerId(1)).unwrap_err();
        let other = permits.take(PeerId(2)).unwrap();
        drop(one);
        permits.take(PeerId(1)).unwrap();
        drop(other);
        assert!(permits.taken.lock().unwrap().is_empty());
    }
}
