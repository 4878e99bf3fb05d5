//! The layers that come with the runtime, on virtual time.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::layer::MethodTimeouts;
use callosum_runtime::{Builder, CallError, Connector, Context, HandlerResult, Refusal};
use callosum_testkit::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// A binder and a connector that is connected; the binder goes on until the world ends.
async fn connected(
    world: &World,
    serve: impl FnOnce(Builder) -> Builder,
    call: impl FnOnce(Builder) -> Builder,
) -> Connector {
    let (server, client) = (world.host("server"), world.host("client"));
    let (binder, driver) = serve(server.builder()).bind("tcp://server:1").await.expect("the port is free");
    server.spawn(async move {
        let _binder = binder;
        drop(driver.await);
    });
    let (connector, driver) = call(client.builder()).connect("tcp://server:1").expect("it is an endpoint");
    client.spawn(async { drop(driver.await) });
    connector.peer().ready().await.expect("the binder answers");
    connector
}

async fn hang(_: Bytes, _: Context) -> HandlerResult<Bytes> {
    pending().await
}

#[test]
fn timeouts_of_calls_only_shorten() {
    let world = World::new(1);
    world.run(async {
        let timeouts = MethodTimeouts::default().method("slow", 10 * SECOND).others(2 * SECOND);
        let serve = |builder: Builder| builder.handle_raw("slow", hang).handle_raw("fast", hang);
        let connector = connected(&world, serve, |builder| builder.call_layer(timeouts)).await;
        for (method, own, expected) in [
            ("slow", None, 10 * SECOND),
            ("fast", None, 2 * SECOND),
            ("fast", Some(SECOND), SECOND),
            ("fast", Some(20 * SECOND), 2 * SECOND),
        ] {
            let begun = world.elapsed();
            let mut call = connector.peer().invoke_raw(method, "");
            if let Some(own) = own {
                call = call.timeout(own);
            }
            let error = call.await.expect_err("nothing answers");
            assert!(matches!(error, CallError::TimedOut { sent: true }), "{error:?}");
            assert_eq!((world.elapsed() - begun).as_secs(), expected.as_secs(), "{method} {own:?}");
        }
    });
}

#[test]
fn timeouts_of_handlers_stop_them() {
    let world = World::new(2);
    world.run(async {
        let timeouts = MethodTimeouts::default().method("slow", 10 * SECOND);
        let deadline = |_: Bytes, context: Context| async move {
            HandlerResult::Ok(Bytes::from(context.deadline().is_some().to_string()))
        };
        let serve =
            |builder: Builder| builder.layer(timeouts).handle_raw("slow", hang).handle_raw("fast", deadline);
        let connector = connected(&world, serve, |builder| builder).await;
        let begun = world.elapsed();
        let error = connector.peer().invoke_raw("slow", "").await.expect_err("it is stopped");
        assert_eq!(error.refusal(), Some(Refusal::ExecutionTimedOut));
        assert_eq!((world.elapsed() - begun).as_secs(), 10);
        assert_eq!(connector.peer().invoke_raw("fast", "").await.expect("it answers"), "false");
    });
}
