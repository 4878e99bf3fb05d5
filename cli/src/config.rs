//! The config file: servers by name.
//!
//! ```toml
//! [servers.prod]
//! endpoint = "tcp://callosum.example.org:5555"
//! curve_key = "alice"
//! server_key = "prod.pub"
//! ```
//!
//! It is read only where a command names one of its servers, so that a mistake in it does not affect other commands. Paths in
//! it are relative to the directory that it is in, and may begin with `~/`.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use callosum_runtime::Endpoint;
use callosum_runtime::auth::CurvePublicKey;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::target::{self, ENVIRONMENT};

/// Names another file.
const FILE: &str = "CALLOSUM_CONFIG";

/// Where the file is in the directory of configuration.
const USUAL: &str = "callosum/config.toml";

/// Why a server of the config file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(
        "`{0}` is not an endpoint, and there is no config file: neither $XDG_CONFIG_HOME nor $HOME is set"
    )]
    Nowhere(String),
    #[error("can't read {path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}:{position}: {problem}", path = path.display())]
    Invalid { path: PathBuf, position: Position, problem: String },
    #[error(
        "no server is named `{name}` in {path}, which {known}: add [servers.{name}] with its `endpoint`, or give an \
         endpoint such as tcp://HOST:PORT",
        path = path.display()
    )]
    UnknownServer { name: String, path: PathBuf, known: Known },
}

/// A place in a text, counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }
}

impl Display for Position {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The servers of a config file that lacks the requested one.
#[derive(Debug)]
pub(crate) enum Known {
    /// The file does not exist.
    NoFile,
    Servers(Vec<String>),
}

impl Display for Known {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("does not exist"),
            Self::Servers(names) if names.is_empty() => f.write_str("has none"),
            Self::Servers(names) => write!(f, "has {}", names.join(", ")),
        }
    }
}

/// A server: where it is, and the keys to use if the command line says none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    #[serde(deserialize_with = "endpoint")]
    pub(crate) endpoint: Endpoint,
    /// The file with the client's secret key.
    pub(crate) curve_key: Option<PathBuf>,
    /// The server's public key, or the file that holds it.
    pub(crate) server_key: Option<String>,
}

impl Profile {
    pub(crate) fn without_keys(endpoint: Endpoint) -> Self {
        Self { endpoint, curve_key: None, server_key: None }
    }

    /// The server named `name`.
    ///
    /// # Errors
    /// If the config file has none of this name, or can't be read.
    pub(crate) fn named(name: &str) -> Result<Self, ConfigError> {
        let own = env::var_os(FILE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let unknown = |path, known| ConfigError::UnknownServer { name: name.to_owned(), path, known };
        let is_own = own.is_some();
        let path = own.or_else(usual_file).ok_or_else(|| ConfigError::Nowhere(name.to_owned()))?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_own => {
                return Err(unknown(path, Known::NoFile));
            }
            Err(error) => return Err(ConfigError::Io { path, error }),
        };
        let mut servers = parse(&text, &path)?;
        match servers.remove(name) {
            Some(profile) => Ok(profile.relative_to(path.parent().unwrap_or(Path::new("")))),
            None => Err(unknown(path, Known::Servers(servers.into_keys().collect()))),
        }
    }

    fn relative_to(self, directory: &Path) -> Self {
        let path = |path: PathBuf| match (path.strip_prefix("~"), env::home_dir()) {
            (Ok(below), Some(home)) => home.join(below),
            _ => directory.join(path),
        };
        let server_key = self.server_key.map(|key| match key.parse::<CurvePublicKey>() {
            Ok(_) => key,
            Err(_) => path(PathBuf::from(key)).display().to_string(),
        });
        Self { curve_key: self.curve_key.map(path), server_key, ..self }
    }
}

/// `$XDG_CONFIG_HOME/callosum/config.toml`, where that is by default `~/.config`.
fn usual_file() -> Option<PathBuf> {
    // A relative path is to be ignored: XDG Base Directory Specification.
    let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.or_else(|| Some(env::home_dir()?.join(".config")));
    Some(config?.join(USUAL))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    servers: BTreeMap<Name, Profile>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)? {
            name if name == ENVIRONMENT => {
                Err(D::Error::custom("`env` is the server of the environment; use another name"))
            }
            name if target::is_name(&name) => Ok(Self(name)),
            name => Err(D::Error::custom(format!(
                "`{name}` can't be the name of a server: use letters, digits, `.`, `_` and `-`"
            ))),
        }
    }
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Endpoint, D::Error> {
    target::endpoint(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn parse(text: &str, path: &Path) -> Result<BTreeMap<String, Profile>, ConfigError> {
    let file: File = toml::from_str(text).map_err(|error| ConfigError::Invalid {
        path: path.to_owned(),
        position: Position::of(text, error.span().map_or(0, |span| span.start)),
        problem: error.message().to_owned(),
    })?;
    Ok(file.servers.into_iter().map(|(Name(name), profile)| (name, profile)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_an_endpoint_and_keys() {
        let text = "[servers.a]\nendpoint = \"ipc:///x\"\n[servers.\"b.c\"]\nendpoint = \"tcp://h:1\"\ncurve_key = \"k\"\n";
        let servers = parse(text, Path::new("/d/c.toml")).unwrap();
        assert_eq!(servers.keys().collect::<Vec<_>>(), ["a", "b.c"]);
        assert_eq!(servers["a"].endpoint, Endpoint::Ipc(PathBuf::from("/x")));
        assert_eq!(servers["b.c"].curve_key, Some(PathBuf::from("k")));
        assert!(parse("", Path::new("c.toml")).unwrap().is_empty());
    }

    #[test]
    fn paths_are_beside_the_file_and_keys_stay_keys() {
        let key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
        let profile = |server_key: &str| Profile {
            curve_key: Some(PathBuf::from("/keys/alice")),
            server_key: Some(server_key.to_owned()),
            ..Profile::without_keys(Endpoint::Ipc(PathBuf::from("/x")))
        };
        let file = profile("prod.pub").relative_to(Path::new("/etc/callosum"));
        assert_eq!(file.curve_key, Some(PathBuf::from("/keys/alice")));
        assert_eq!(file.server_key.as_deref(), Some("/etc/callosum/prod.pub"));
        assert_eq!(profile(key).relative_to(Path::new("/etc")).server_key.as_deref(), Some(key));
        let home = env::home_dir().unwrap().join("k").display().to_string();
        assert_eq!(profile("~/k").relative_to(Path::new("/etc")).server_key, Some(home));
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        let cases = [
            ("[servers.a]\nendpoint = \n", "2:12", "value"),
            ("[servers.a\n", "1:11", "]"),
            ("x = 1\n", "1:1", "unknown field `x`"),
            ("[servers.a]\n", "1:1", "missing field `endpoint`"),
            ("\n[servers.a]\nendpoint = \"h:1\"\n", "3:12", "must start with tcp://"),
            ("[servers.a]\nendpoint = \"inproc://x\"\n", "2:12", "can't be reached"),
            ("[servers.a]\nendpoint = 1\n", "2:12", "expected a string"),
            ("[servers.a]\nendpoint = \"ipc:///x\"\nkey = \"k\"\n", "3:1", "unknown field `key`"),
            ("[servers.\"ü\"]\nendpoint = \"ipc:///x\"\n", "1:10", "can't be the name"),
            ("[servers.\"a/b\"]\nendpoint = \"ipc:///x\"\n", "1:10", "can't be the name"),
            ("[servers.env]\nendpoint = \"ipc:///x\"\n", "1:10", "use another name"),
            ("servers = []\n", "1:11", "invalid type"),
        ];
        for (text, at, what) in cases {
            let error = parse(text, Path::new("/c.toml")).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("/c.toml:{at}: ")) && error.contains(what),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn columns_are_counted_in_characters() {
        let text = "a\nü = 1\n";
        assert_eq!(Position::of(text, text.find('=').unwrap()), Position { line: 2, column: 3 });
        assert_eq!(Position::of(text, text.len() + 9), Position { line: 3, column: 1 });
    }
}
