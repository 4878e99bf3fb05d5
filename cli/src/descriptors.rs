//! The limit of open file descriptors: each connection takes one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as the system allows without privileges: shells usually start programs with 1,024.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        // macOS allows no more, whatever the maximum is.
        limit.current = Some(10_240);
        // If it can't be raised, fewer connections are accepted, with a warning for those that are not.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
