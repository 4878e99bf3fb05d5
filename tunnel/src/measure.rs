//! Metrics through the `metrics` facade, with the feature `metrics`; nothing without.
//!
//! Their labels are those of the totals, which have a bound: users may name any number of targets.

use std::time::Duration;

use crate::live::{Live, Outcome};

#[cfg(not(feature = "metrics"))]
mod recording {
    use super::*;

    pub(crate) fn begin(_: &Live) {}

    pub(crate) fn end(_: &Live, _: Outcome, _: [u64; 2], _: Duration) {}
}

#[cfg(feature = "metrics")]
mod recording {
    use metrics::{Label, counter, gauge, histogram};

    use super::*;
    use crate::{End, Reason, Side};

    fn labels(live: &Live) -> Vec<Label> {
        let side = match live.info.side {
            Side::Accepting => "accepting",
            Side::Connecting => "connecting",
        };
        let counted = &live.totals;
        vec![
            Label::new("side", side),
            Label::new("user", counted.user.clone().unwrap_or_default()),
            Label::new("forward", counted.forward.clone()),
        ]
    }

    pub(crate) fn begin(live: &Live) {
        gauge!("callosum_tunnel_connections", labels(live).iter()).increment(1.0);
    }

    pub(crate) fn end(live: &Live, outcome: Outcome, [to, from]: [u64; 2], duration: Duration) {
        let mut labels = labels(live);
        gauge!("callosum_tunnel_connections", labels.iter()).decrement(1.0);
        for (direction, bytes) in [("to_target", to), ("from_target", from)] {
            labels.push(Label::new("direction", direction));
            counter!("callosum_tunnel_bytes_total", labels.iter()).increment(bytes);
            labels.pop();
        }
        labels.push(Label::new("outcome", name(outcome)));
        counter!("callosum_tunnel_connections_total", labels.iter()).increment(1);
        histogram!("callosum_tunnel_connection_duration_seconds", labels).record(duration);
    }

    fn name(outcome: Outcome) -> &'static str {
        match outcome {
            Ok(End::Closed) => "closed",
            Ok(End::ResetHere | End::ResetThere) => "reset",
            Ok(End::LinkLost) => "link_lost",
            Ok(End::Idle) => "idle",
            Ok(End::Revoked) => "revoked",
            Ok(End::TimeLimit) => "time_limit",
            Ok(End::ShutDown | End::Dropped) => "shut_down",
            Err(Reason::Forbidden) => "forbidden",
            Err(Reason::Refused) => "refused",
            Err(Reason::Unreachable) => "unreachable",
            Err(Reason::TimedOut) => "timed_out",
            Err(Reason::UnknownHost) => "unknown_host",
            Err(Reason::Busy) => "busy",
            Err(Reason::NotConnected) => "not_connected",
            Err(Reason::NotOffered) => "not_offered",
            Err(_) => "failed",
        }
    }
}

pub(crate) use recording::{begin, end};
