//! TCP and Unix connections through a Callosum connection.
#![forbid(unsafe_code)]

mod listen_address;
mod reason;
mod target;

pub use listen_address::{ListenAddress, ParseListenAddressError};
pub use reason::Reason;
pub use target::{Host, ParseTargetError, Target};
