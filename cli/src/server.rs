//! Which server a command calls, and with which keys: what the command line says, completed from the config file and
//! the environment.
//!
//! Settings of one command override stored ones: an option comes before the server's entry in the config
//! file, and that before the environment. So a variable that is set for one server is not used for another that has keys
//! of its own.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use callosum_runtime::auth::{CurveClient, CurvePublicKey, KeyFileError, load_keys, load_public_key};
use callosum_runtime::{Builder, Endpoint};

use crate::args::CurveArgs;
use crate::config::Profile;
use crate::exit::Failure;
use crate::target::{ENVIRONMENT, Target, endpoint};

const ENDPOINT: &str = "CALLOSUM_ENDPOINT";
const CURVE_KEY: &str = "CALLOSUM_CURVE_KEY";
const SERVER_KEY: &str = "CALLOSUM_SERVER_KEY";

/// A server to connect to.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    /// With which CURVE is spoken; without them, plaintext.
    keys: Option<Keys>,
}

#[derive(Debug)]
struct Keys {
    /// The file with the client's secret key.
    curve_key: PathBuf,
    /// The server's public key, or the file that holds it.
    server_key: String,
}

impl Server {
    /// Where to connect, and with which keys.
    ///
    /// # Errors
    /// If the server is not known, or only one of the two keys is.
    pub(crate) fn of(target: &Target, args: &CurveArgs) -> Result<Self, Failure> {
        let Profile { endpoint, curve_key, server_key } = match target {
            Target::Endpoint(endpoint) => Profile::without_keys(endpoint.clone()),
            Target::Environment => Profile::without_keys(endpoint_of_the_environment()?),
            Target::Named(name) => Profile::named(name)?,
        };
        let curve_key =
            args.curve_key.clone().or(curve_key).or_else(|| variable(CURVE_KEY).map(PathBuf::from));
        let server_key = match args.server_key.clone().or(server_key) {
            Some(key) => Some(key),
            None => text(SERVER_KEY)?,
        };
        let keys = match (curve_key, server_key) {
            (Some(curve_key), Some(server_key)) => Some(Keys { curve_key, server_key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(usage("a secret key needs the server's public key too: --server-key Z85|FILE"));
            }
            (None, Some(_)) => {
                return Err(usage("a server's key needs a secret key of your own too: --curve-key FILE"));
            }
        };
        Ok(Self { endpoint, keys })
    }

    /// Whether CURVE is spoken with it.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Configures the builder's authentication for the server.
    pub(crate) fn secure(&self, builder: Builder) -> Result<Builder, KeyFileError> {
        let Some(Keys { curve_key, server_key }) = &self.keys else { return Ok(builder) };
        let server_key = match server_key.parse::<CurvePublicKey>() {
            Ok(key) => key,
            Err(not_a_key) => load_public_key(server_key).map_err(|error| match error {
                // The text may be meant as either.
                KeyFileError::Io { path, error: io } => KeyFileError::Io {
                    path,
                    error: io::Error::new(
                        io.kind(),
                        format!("not a public key ({not_a_key}), nor a file: {io}"),
                    ),
                },
                error => error,
            })?,
        };
        Ok(builder.authenticator(CurveClient::new(load_keys(curve_key)?, server_key)))
    }
}

fn endpoint_of_the_environment() -> Result<Endpoint, Failure> {
    let Some(text) = text(ENDPOINT)? else {
        return Err(usage(&format!("the server `{ENVIRONMENT}` stands for ${ENDPOINT}, which is not set")));
    };
    endpoint(&text).map_err(|error| usage(&format!("${ENDPOINT}: {error}")))
}

/// A variable of the environment; one that is empty is not set.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn text(name: &str) -> Result<Option<String>, Failure> {
    let value = variable(name).map(OsString::into_string).transpose();
    value.map_err(|_| usage(&format!("${name} is not UTF-8")))
}

fn usage(problem: &str) -> Failure {
    Failure::Usage(problem.to_owned())
}
