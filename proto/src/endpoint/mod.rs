//! Temporary.
mod event;
pub use event::{Arrival, ConnectionEvent, EndpointEvent};
