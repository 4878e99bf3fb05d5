//! TCP and Unix connections through a Callosum connection.
#![forbid(unsafe_code)]

mod reason;
mod target;

pub use reason::Reason;
pub use target::{Host, ParseTargetError, Target};
