//! Totals of an endpoint's counters.

use callosum_runtime::{HandlerResult, Reconnect};
use serde_json::Value;

use crate::gate::Gate;
use crate::rig::{Rig, SOON};

/// What peers have done stays counted when they have gone, and whatever handles there are of them.
pub async fn totals_outlive_peers(rig: Rig) {
    let (binder, driver) =
        rig.serve(rig.builder().handle("double", |n: u64, _| async move { HandlerResult::Ok(2 * n) })).await;
    let gate = Gate::default();
    gate.guard(binder.handlers(), "hold");
    let mut bytes = 0;
    for round in 1..=3 {
        let echo = rig.builder().handle("back", |n: u64, _| async move { HandlerResult::Ok(n) });
        let (connector, running) = rig.connect(echo.reconnect(Reconnect::Never), &binder.endpoints()[0]);
        let peer = connector.peer().clone();
        for n in 0..10 {
            assert_eq!(peer.invoke::<_, u64>("double", &n).await.expect("it is answered"), 2 * n);
        }
        let back = rig.sole_peer(&binder).await;
        back.invoke::<_, u64>("back", &1).await.expect("it is answered");
        back.invoke::<_, u64>("unknown", &1).await.expect_err("there is no such method");
        // A request that loses its link.
        let held = rig.spawn(async move { peer.invoke::<_, Value>("hold", &1).await });
        let _held = gate.next().await;
        let during = binder.stats();
        assert_eq!((during.requests_running, during.requests_failed), (1, round - 1));
        assert_eq!((connector.stats().calls_done, connector.stats().calls_in_flight), (10, 1));
        back.disconnect();
        held.join().await.expect_err("its link is gone");
        let kept = (round == 2).then_some(back);
        running.join().await.expect_err("its link is gone");
        rig.peers(&binder, 0).await;
        rig.until(|| binder.stats().requests_running == 0).await;
        let after = binder.stats();
        assert_eq!((after.calls_done, after.calls_failed, after.calls_in_flight), (round, round, 0));
        assert_eq!((after.requests_done, after.requests_failed), (10 * round, round));
        assert!(after.bytes_received > bytes && after.bytes_sent > 0);
        bytes = after.bytes_received;
        drop(kept);
        assert_eq!(binder.stats(), after, "nothing is lost with the last handle");
    }
    binder.shutdown(SOON).await;
    driver.join().await.expect("it was shut down");
}
