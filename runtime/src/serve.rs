//! Runs the handlers of requests: on the spot as far as they get there, then as tasks of their own.
//!
//! Responsible for a handler from the request that the engine hands out to the reply that the dispatcher is given, and for the slot
//! in between, which is freed whatever the handler does. Which request starts when is the [dispatcher](crate::dispatch)'s part.

mod running;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use callosum_proto::{Reply, Request, RequestId};

use self::running::{Begun, Running, Started};
use crate::cancel::Cancellable;
use crate::core::Core;
use crate::dispatch::{Handling, NotBegun};
use crate::handler::Context;
use crate::loan::Lender;
use crate::node::Node;
use crate::pace::Spent;
use crate::peer::PeerShared;
use crate::tasks::TaskGuard;

/// Runs the handler of a request of this peer, whose handlers with tasks are in `handling`. Gives back its reply if it has ended.
///
/// Unless the budget is spent or the method is slow, the handler is polled once here, which is all that many need, before it gets a
/// task. Never from within a handler, or they would pile up on one stack.
pub(crate) fn run(
    node: &Node,
    peer: &Arc<PeerShared>,
    handling: &Arc<Handling>,
    request: Request,
    spent: &mut Spent,
) -> Option<(RequestId, Option<Reply>)> {
    let Request { id, method, key, body, metadata, deadline, .. } = request;
    let started = StartedRequest { core: &node.core, request: Some(id) };
    let peer = node.handle(peer, Some(Lender(id)));
    let cancellation = Arc::default();
    let context = Context { method, key, peer, deadline, metadata, request: id, cancellation };
    let begun = (Started { request: id, body, context }).begin(node, spent);
    started.has_begun();
    match begun {
        Begun::Ended(reply) => Some((id, Some(reply))),
        Begun::Goes(running) => {
            spent.pause();
            detach(&node.core, handling, id, running).err().map(|Unwanted| (id, None))
        }
    }
}

/// A handler whose connection is over, or whose endpoint is.
struct Unwanted;

/// Moves a handler to a task of its own.
fn detach(
    core: &Arc<Core>,
    handling: &Arc<Handling>,
    request: RequestId,
    running: Running,
) -> Result<(), Unwanted> {
    // Before the handler is registered, so that a driver that waits for its last task waits for this one, too.
    let task = core.tasks.guard();
    let cancellation = running.cancellation.clone();
    if let Err(NotBegun(reason)) = handling.begin(request, &cancellation) {
        let lingers = core.dispatcher.linger(handling, request, &cancellation);
        cancellation.cancel(reason);
        if !lingers {
            drop(running);
            return Err(Unwanted);
        }
    }
    let runtime = core.runtime.clone();
    let running = Cancellable { handling: running, cancellation, runtime, grace: None };
    let (core, handling) = (core.clone(), handling.clone());
    let end = End { core: core.clone(), handling, request, reply: None, _task: task };
    // The executor may drop the task at once: then the call is cancelled.
    core.runtime.spawn(Box::pin(async move {
        // `end` is dropped after the handler, so that the slot is freed only once the handler has ended.
        let mut end = end;
        end.reply = running.await;
    }));
    Ok(())
}

/// A request that has been started. If something of the user's panics before its handler has begun, such as a subscriber of `tracing`,
/// its slot is freed all the same.
struct StartedRequest<'a> {
    core: &'a Core,
    request: Option<RequestId>,
}

impl StartedRequest<'_> {
    fn has_begun(mut self) {
        self.request = None;
    }
}

impl Drop for StartedRequest<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.core.dispatcher.finish(request, None);
        }
    }
}

/// Frees a handler's slot when it has ended, in whatever way.
struct End {
    core: Arc<Core>,
    handling: Arc<Handling>,
    request: RequestId,
    reply: Option<Reply>,
    _task: TaskGuard,
}

impl Drop for End {
    fn drop(&mut self) {
        self.core.dispatcher.end_task(&self.handling, self.request, self.reply.take());
    }
}
