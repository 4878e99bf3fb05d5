//! Forwards as `ssh` writes them: `-L` and `-R` take a [`ForwardSpec`], `-D` a [`ListenAddress`], `-W` a [`Target`].

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::listen::{ListenAddress, ParseListenAddressError};
use crate::target::{ParseTargetError, Target};

/// Connections accepted at one place go to another: `[BIND:]PORT:HOST:PORT`, as `ssh -L` and `ssh -R` take it.
///
/// Either end may be the absolute path of a Unix socket, with or without `unix:` before it: `8080:/run/app.sock`,
/// `/run/local.sock:db.internal:5432`. Write IPv6 addresses in brackets: `[::1]:8080:[fd00::1]:80`. A path with a colon
/// in it can't be written. [`ListenAddress`] says what `BIND` may be; [`Display`] writes what [`FromStr`] reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ForwardSpec {
    /// Where connections are accepted.
    pub listen: ListenAddress,
    /// Where they go.
    pub target: Target,
}

/// A text that is no [`ForwardSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseForwardError {
    /// It has more or fewer parts than any form of a forward.
    #[error(
        "{0:?} is not a forward: write [BIND:]PORT:HOST:PORT, with IPv6 addresses in brackets, or an absolute path without \
         colons for a Unix socket in place of [BIND:]PORT or HOST:PORT"
    )]
    Shape(String),
    /// The part before the target is no address to listen on.
    #[error(transparent)]
    Listen(#[from] ParseListenAddressError),
    /// The last part is no target.
    #[error(transparent)]
    Target(#[from] ParseTargetError),
}

impl ForwardSpec {
    /// A forward from one place to another.
    pub fn new(listen: ListenAddress, target: Target) -> Self {
        Self { listen, target }
    }
}

impl FromStr for ForwardSpec {
    type Err = ParseForwardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || ParseForwardError::Shape(text.to_owned());
        let parts = split(text).ok_or_else(shape)?;
        let is_path = |part: &str| part.starts_with('/');
        let (listen, target) = match parts[..] {
            [from, to] if is_path(to) => (from.parse()?, unix(to)?),
            [bind, port, to] if is_path(to) && !is_path(bind) && !is_path(port) => {
                (tcp(bind, port)?, unix(to)?)
            }
            [from, host, port] if !is_path(port) => (from.parse()?, format!("{host}:{port}").parse()?),
            [bind, port, host, to] if !is_path(bind) => (tcp(bind, port)?, format!("{host}:{to}").parse()?),
            _ => return Err(shape()),
        };
        Ok(Self { listen, target })
    }
}

fn tcp(bind: &str, port: &str) -> Result<ListenAddress, ParseListenAddressError> {
    format!("{bind}:{port}").parse()
}

fn unix(path: &str) -> Result<Target, ParseTargetError> {
    format!("unix:{path}").parse()
}

/// The parts between colons that are not in brackets, without a `unix` before a path. `None` if a bracket is left open.
fn split(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let inside = if text.starts_with('[') { text.find(']')? } else { 0 };
        let end = text[inside..].find(':').map(|colon| inside + colon);
        let part = &text[..end.unwrap_or(text.len())];
        rest = end.map(|colon| &text[colon + 1..]);
        if part != "unix" || !rest.is_some_and(|rest| rest.starts_with('/')) {
            parts.push(part);
        }
    }
    Some(parts)
}

impl Display for ForwardSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.listen, self.target)
    }
}

#[cfg(test)]
mod tests;
