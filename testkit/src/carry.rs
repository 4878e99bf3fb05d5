//! The smallest host: one connection, its endpoint, and the events between them, passed at once.

use std::collections::BTreeSet;
use std::time::Instant;

use callosum_proto::{Connection, ConnectionEvent, Endpoint, EndpointEvent, RequestId, internals};

/// A carried event, for a model to record.
pub(crate) enum Carried<'a> {
    /// From the connection to the endpoint.
    Report(&'a EndpointEvent),
    /// From the endpoint to the connection.
    Decision(&'a ConnectionEvent),
}

/// Carries what the connection and its endpoint have to tell each other, until neither has anything left.
///
/// # Panics
/// If a table of one of the two contradicts itself.
pub(crate) fn carry(
    connection: &mut Connection,
    endpoint: &mut Endpoint,
    now: Instant,
    mut note: impl FnMut(Carried<'_>),
) {
    loop {
        while let Some(event) = connection.poll_endpoint_event() {
            note(Carried::Report(&event));
            endpoint.handle_event(event);
        }
        let Some((id, event)) = endpoint.poll_event() else { break };
        assert_eq!(id, connection.id(), "an event for another connection");
        note(Carried::Decision(&event));
        connection.handle_event(now, event);
    }
    internals::audit(connection);
    internals::audit_endpoint(endpoint);
}

/// Keeps a set of the requests that have arrived and were not answered.
pub(crate) fn note_open(open: &mut BTreeSet<RequestId>, carried: Carried<'_>) {
    match carried {
        Carried::Report(EndpointEvent::Arrived(arrival)) => {
            assert!(open.insert(arrival.request), "{} arrives twice", arrival.request);
        }
        Carried::Report(EndpointEvent::Closed(_)) => open.clear(),
        Carried::Decision(
            ConnectionEvent::Reply { request, .. } | ConnectionEvent::Refuse { request, .. },
        ) => {
            assert!(open.remove(request), "{request} is answered twice");
        }
        _ => {}
    }
}
