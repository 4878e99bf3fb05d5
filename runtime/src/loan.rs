//! Lending a handler's slot while the handler waits for calls that it has made.

use std::sync::Arc;

use callosum_proto::RequestId;

use crate::core::Core;

/// A running request whose slot can be lent while its handler waits.
#[derive(Clone, Copy)]
pub(crate) struct Lender(pub(crate) RequestId);

impl Lender {
    pub(crate) fn lend(self, core: &Arc<Core>) -> Loan {
        core.dispatcher.suspend(self.0);
        Loan { core: core.clone(), request: self.0 }
    }
}

/// A slot that is lent until this is dropped.
pub(crate) struct Loan {
    core: Arc<Core>,
    request: RequestId,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.core.dispatcher.resume(self.request);
    }
}
