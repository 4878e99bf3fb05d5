//! What drives a session over a transport: byte streams with ZMTP, or message links.

pub(crate) mod pump;
pub(crate) mod stream;
