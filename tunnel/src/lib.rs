//! TCP and Unix connections through a Callosum connection.
#![forbid(unsafe_code)]

mod forward_spec;
#[allow(dead_code)] // Until forwards use it.
mod http_connect;
mod listen;
#[allow(dead_code)] // Until forwards use it.
mod proxy;
#[allow(dead_code)] // Until forwards use it.
mod proxy_protocol;
mod reason;
pub mod rules;
#[allow(dead_code)] // Until forwards use it.
mod socks5;
mod target;

pub use forward_spec::{ForwardSpec, ParseForwardError};
pub use listen::{ListenAddress, ParseListenAddressError};
pub use reason::Reason;
pub use rules::{Grant, Rules, RulesError, is_public};
pub use target::{Host, ParseTargetError, Target};

/// Bodies of this repository's fuzz targets. No part of the API.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::http_connect::fuzzing::http_connect;
    pub use crate::rules::fuzzing::rules;
    pub use crate::socks5::fuzzing::socks5;
}
