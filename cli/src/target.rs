//! How a server is named on the command line and in the config file.

use callosum_runtime::Endpoint;

/// The name of the server that the environment describes.
pub(crate) const ENVIRONMENT: &str = "env";

/// A server, as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Endpoint(Endpoint),
    /// The server in the environment.
    Environment,
    /// A server of the config file.
    Named(String),
}

impl Target {
    /// # Errors
    /// If it is neither an endpoint nor a name that a server can have.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            ENVIRONMENT => Ok(Self::Environment),
            _ if text.contains("://") => endpoint(text).map(Self::Endpoint),
            _ if is_name(text) => Ok(Self::Named(text.to_owned())),
            _ => Err(String::from(
                "an endpoint begins with tcp:// or ipc://, and the name of a server has letters, digits, `.`, `_` and `-`",
            )),
        }
    }
}

/// Whether a server of the config file may have this name: not one that could be taken for an endpoint or an option.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.bytes().all(plain) && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// An endpoint that other processes can reach.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    match text.parse().map_err(|error| format!("{error}"))? {
        Endpoint::Inproc(_) => Err("inproc:// can't be reached from other processes".into()),
        endpoint => Ok(endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_endpoints_names_or_the_environment() {
        assert_eq!(Target::parse("env"), Ok(Target::Environment));
        assert_eq!(Target::parse("prod-1.eu"), Ok(Target::Named(String::from("prod-1.eu"))));
        let endpoint = Target::parse("tcp://[::1]:5").unwrap();
        assert!(matches!(endpoint, Target::Endpoint(Endpoint::Tcp { port: 5, .. })), "{endpoint:?}");
        for text in ["", "-", "127.0.0.1:1", "a b", "../x", "inproc://x", "tcp://x", "prod/"] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
    }
}
