//! Binders that are shut down while they begin to listen.

use std::io;
use std::sync::Arc;

use callosum_runtime::rt::{Listener, Runtime};
use callosum_runtime::{BindError, Endpoint, SocketOptions};
use callosum_testkit::wrapped::{Wrap, Wrapped};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::gate::Gate;
use crate::rig::{Rig, SOON};

/// An executor whose system takes as long to bind as the test wants.
#[derive(Debug)]
struct SlowToBind {
    inner: Arc<dyn Runtime>,
    bound: async_channel::Sender<Endpoint>,
    go_on: async_channel::Receiver<()>,
}

impl Wrap for SlowToBind {
    fn inner(&self) -> &dyn Runtime {
        &*self.inner
    }

    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = self.inner.bind(endpoint, options).await?;
            self.bound.send(listener.endpoint()?).await.expect("the test listens");
            self.go_on.recv().await.expect("the test lets it go on");
            Ok(listener)
        })
    }
}

/// A binder that is shut down while it begins to listen does not listen, and says so.
pub async fn shut_down_while_binding(rig: Rig) {
    let (bound, has_bound) = async_channel::unbounded();
    let (go, go_on) = async_channel::unbounded();
    let slow = rig.with_runtime(Arc::new(Wrapped(SlowToBind { inner: rig.runtime().clone(), bound, go_on })));
    let gate = Gate::default();
    go.try_send(()).expect("it is unbounded");
    let (binder, driver) = slow.serve(slow.builder()).await;
    let first = has_bound.recv().await.expect("it has bound");
    gate.guard(binder.handlers(), "hold");
    let (connector, connector_driver) = rig.connect(rig.builder(), &first);
    let peer = connector.peer().clone();
    let call = rig.spawn(async move { peer.invoke::<_, u32>("hold", &1).await });
    // While this is held, the binder drains.
    let held = gate.next().await;

    let another = Endpoint::Tcp { host: "127.0.0.1".into(), port: 0 };
    let listening = {
        let binder = binder.clone();
        rig.spawn(async move { binder.listen(another).await })
    };
    let second = has_bound.recv().await.expect("it has bound");
    let mut shutdown = Box::pin(binder.shutdown(SOON));
    assert!((&mut shutdown).now_or_never().is_none());
    go.try_send(()).expect("it is unbounded");
    let error = listening.join().await.expect_err("nobody would accept");
    assert!(matches!(error, BindError::Shutdown), "{error}");
    assert_eq!(binder.endpoints(), [first]);
    rig.runtime().bind(&second, SocketOptions::default()).await.expect("nobody listens there");

    held.release(1);
    assert_eq!(call.join().await.expect("it was taken before"), 1);
    shutdown.await;
    driver.join().await.expect("it ends well");
    connector_driver.cut().await;
}

/// What a binder was to listen on is free when its driver is gone, though a handle is left, and though it never ran.
pub async fn driver_that_never_ran(rig: Rig) {
    let (binder, driver) = rig.builder().bind(rig.endpoint()).await.expect("it is free");
    drop(driver);
    rig.runtime().bind(&binder.endpoints()[0], SocketOptions::default()).await.expect("nobody listens there");
    let error = binder.listen(&*rig.endpoint()).await.expect_err("it is over");
    assert!(matches!(error, BindError::Shutdown), "{error}");
}
