//! The cost of a step does not depend on the waiting requests of others. The tests use sizes at which a step
//! that looked at all of them would take 10^9 steps or more in all. Tables are not audited after each step
//! here, because that looks at all of them.

use super::*;
use crate::kept::kept_capacity;

/// An endpoint with high limits.
fn roomy(mode: OrderingMode) -> Endpoint {
    let mut config = EndpointConfig::default();
    config.ordering.mode = mode;
    (config.ordering.max_running, config.ordering.max_share_per_connection) = (1 << 20, 100);
    config.ordering.max_waiting_per_connection = 1 << 20;
    config.ordering.max_waiting_bytes_per_connection = usize::MAX;
    config.ordering.max_requests_per_connection = 1 << 20;
    config.max_held_reply_bytes = usize::MAX;
    Endpoint::new(config)
}

fn arrive(endpoint: &mut Endpoint, request: RequestId, key: &str, ready: bool) {
    let key = if key.is_empty() { OrderingKey::none() } else { OrderingKey::text(key) };
    endpoint.handle_event(EndpointEvent::Arrived(Arrival { request, key, bytes: 0, ready }));
}

/// Polls; returns the requests that start.
fn poll(endpoint: &mut Endpoint) -> Vec<RequestId> {
    let events = std::iter::from_fn(|| endpoint.poll_event());
    events
        .filter_map(|(_, event)| if let ConnectionEvent::Start(id) = event { Some(id) } else { None })
        .collect()
}

/// One hundred thousand calls of another connection take as many steps as alone, and not 10^10.
#[test]
fn what_waits_behind_a_stuck_key_costs_others_nothing() {
    const STUCK: u64 = 100_000;
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut endpoint = roomy(mode);
        let (a, b) = (endpoint.open(), endpoint.open());
        for number in 0..STUCK {
            let request = RequestId::new(a, number);
            arrive(&mut endpoint, request, "stuck", number % 5 != 4);
            for started in poll(&mut endpoint) {
                // If replies are ordered, streamed results wait for the first one, and others are held.
                match number % 3 {
                    _ if number == 0 => {}
                    0 => endpoint.finish(started, Some(Reply::result("done"))),
                    _ => drop(endpoint.begin_reply(started)),
                }
            }
        }
        assert_eq!(endpoint.open_requests_of(a), STUCK as usize);
        for number in 0..STUCK {
            let request = RequestId::new(b, number);
            let key = ["", "own", "stuck"][number as usize % 3];
            arrive(&mut endpoint, request, key, true);
            let starts = mode == OrderingMode::ExitOrdered || key != "stuck";
            assert_eq!(poll(&mut endpoint), if starts { vec![request] } else { vec![] });
            match number % 4 {
                0 => endpoint.suspend(request),
                1 => drop(endpoint.begin_reply(request)),
                2 => [EndpointEvent::Paused(b), EndpointEvent::Resumed(b)]
                    .into_iter()
                    .for_each(|event| endpoint.handle_event(event)),
                _ => {}
            }
            if key == "stuck" {
                let (reason, reply) = (StopReason::Cancelled, Reply::Cancelled);
                endpoint.handle_event(EndpointEvent::Withdrawn { request, reason, reply });
            }
            endpoint.finish(request, Some(Reply::result("done")));
            assert_eq!((poll(&mut endpoint), endpoint.open_requests_of(b)), (vec![], 0));
        }
        endpoint.audit();
    }
}

/// Closing 8,000 connections with 10 requests each would take 6.4 * 10^8 steps if each looked at all
/// requests.
#[test]
fn a_mass_disconnect_takes_as_many_steps_as_there_are_requests() {
    const CONNECTIONS: u64 = 8_000;
    for mode in MODES {
        let mut endpoint = roomy(mode);
        let connections: Vec<_> = (0..CONNECTIONS).map(|_| endpoint.open()).collect();
        for number in 0..10 {
            for (at, connection) in connections.iter().enumerate() {
                let request = RequestId::new(*connection, number);
                let key = ["", "shared", "of these two"][number as usize % 3];
                arrive(&mut endpoint, request, key, at % 7 > 0);
                let stream = request.into();
                endpoint.handle_event(EndpointEvent::ReassemblyWanted {
                    connection: *connection,
                    stream,
                    bytes: 1 << 20,
                });
                if number % 4 == 1 {
                    endpoint.handle_event(EndpointEvent::Paused(*connection));
                }
            }
            for (at, started) in poll(&mut endpoint).into_iter().enumerate() {
                match at % 4 {
                    0 => endpoint.finish(started, Some(Reply::result("done"))),
                    1 => drop(endpoint.begin_reply(started)),
                    2 => endpoint.suspend(started),
                    _ => {}
                }
            }
        }
        assert!(endpoint.waiting() > 0 && endpoint.running() > 0);
        for connection in &connections {
            endpoint.handle_event(EndpointEvent::Closed(*connection));
        }
        assert_eq!((endpoint.connections(), endpoint.waiting(), poll(&mut endpoint)), (0, 0, vec![]));
        for connection in &connections {
            (0..10).for_each(|number| endpoint.finish(RequestId::new(*connection, number), None));
        }
        assert!(poll(&mut endpoint).is_empty() && endpoint.audit_empty(), "{mode:?}: {endpoint:?}");
    }
}

/// Refusals, and then handlers that all end before the next poll.
#[test]
fn a_burst_leaves_no_memory_behind() {
    let mut endpoint = Tested::new(|config| {
        config.ordering = config.ordering.clone().max_running(8_000).max_share_per_connection(100);
        config.ordering.mode = OrderingMode::Unordered;
        config.ordering.max_requests_per_connection = 8_000;
        config.ordering.max_waiting_per_connection = 0;
    });
    let arrival = |number| Arrival { request: a(number), key: OrderingKey::none(), bytes: 0, ready: true };
    for number in 0..16_000 {
        endpoint.0.handle_event(EndpointEvent::Arrived(arrival(number)));
    }
    let starts = poll(&mut endpoint.0);
    assert_eq!(starts.len(), 8_000);
    starts.into_iter().rev().for_each(|request| endpoint.0.finish(request, None));
    assert!(poll(&mut endpoint.0).is_empty());
    endpoint.assert_empty();
    assert!(endpoint.0.events.capacity() <= kept_capacity::<(ConnectionId, ConnectionEvent)>());
    assert!(endpoint.0.finished.capacity() <= kept_capacity::<RequestId>());
}

/// Only requests with complete arguments take slots: 119 incomplete ones take none of the 100.
#[test]
fn arguments_that_are_not_complete_take_no_slot_from_others() {
    for mode in MODES {
        let mut endpoint = Tested::mode(mode);
        let connections: Vec<_> = (0..17).map(|_| endpoint.0.open()).collect();
        for number in 0..7 {
            for connection in &connections {
                let request = RequestId::new(*connection, number);
                endpoint.offer(request, ["", "k"][number as usize % 2], 0, false);
                let (connection, stream) = (*connection, request.into());
                endpoint.tell(EndpointEvent::ReassemblyWanted { connection, stream, bytes: 9_000_000 });
            }
        }
        assert!(endpoint.poll().iter().all(|told| matches!(told, Reassemble(..))));
        // As many as may run for one connection.
        (0..80).for_each(|number| endpoint.arrive(a(number), ""));
        assert_eq!(endpoint.poll(), (0..80).map(|number| Start(a(number))).collect::<Vec<_>>());
        (0..20).for_each(|number| endpoint.arrive(b(number), ""));
        assert_eq!(endpoint.poll().len(), 20, "{mode:?}: the rest is for others");
    }
}
