//! What both programs are made of.

callosum_thrift::include_thrift!("simple");

/// The name under which the service is called.
pub const ALIAS: &str = "simple";

/// Where the server listens, if it is not told.
pub const ENDPOINT: &str = "tcp://127.0.0.1:5030";
