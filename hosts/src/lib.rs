#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/hosts.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Formatter};
use std::future::Future;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use callosum_async_std::AsyncStdRuntime;
use callosum_runtime::Builder;
use callosum_runtime::rt::Runtime;
use callosum_smol::SmolRuntime;
use callosum_tokio::TokioRuntime;

/// A runtime that has an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Host {
    /// `callosum-tokio`, on tokio's runtime with several threads.
    Tokio,
    /// `callosum-smol`, on smol's global executor.
    Smol,
    /// `callosum-async-std`, on async-std's global executor.
    AsyncStd,
}

/// Calls a macro for each runtime, with a name for a module and the variant of [`Host`]: `then!(tokio, Tokio);` and so
/// on. Tests make a module for each runtime with it.
#[macro_export]
macro_rules! for_each_host {
    ($then:ident) => {
        $then!(tokio, Tokio);
        $then!(smol, Smol);
        $then!(async_std, AsyncStd);
    };
}

impl Host {
    /// Each runtime once.
    pub const ALL: [Self; 3] = [Self::Tokio, Self::Smol, Self::AsyncStd];

    /// Their names, in the same order.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut n = 0;
        while n < names.len() {
            names[n] = Self::ALL[n].name();
            n += 1;
        }
        names
    };

    /// Its name: `tokio`, `smol` or `async-std`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::AsyncStd => "async-std",
        }
    }

    /// What endpoints run on: of tokio, the runtime that is current when an endpoint's driver first runs.
    pub fn runtime(self) -> Arc<dyn Runtime> {
        match self {
            Self::Tokio => Arc::new(TokioRuntime::default()),
            Self::Smol => Arc::new(SmolRuntime::global()),
            Self::AsyncStd => Arc::new(AsyncStdRuntime),
        }
    }

    /// Starts to build an endpoint.
    pub fn builder(self) -> Builder {
        Builder::new(self.runtime())
    }

    /// Starts the runtime's threads, unless they are global and start by themselves.
    ///
    /// # Errors
    /// If the system refuses the threads.
    pub fn start(self) -> io::Result<Executor> {
        Ok(Executor(match self {
            Self::Tokio => {
                Started::Tokio(Some(tokio::runtime::Builder::new_multi_thread().enable_all().build()?))
            }
            Self::Smol => Started::Smol,
            Self::AsyncStd => Started::AsyncStd,
        }))
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No runtime has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no runtime {0:?}; there are {names}", names = Host::NAMES.join(", "))]
pub struct UnknownHost(String);

impl FromStr for Host {
    type Err = UnknownHost;

    fn from_str(name: &str) -> Result<Self, UnknownHost> {
        Self::ALL.into_iter().find(|host| host.name() == name).ok_or_else(|| UnknownHost(name.to_owned()))
    }
}

/// A runtime that has been started. Dropping it ends tokio's tasks, without waiting for blocking work such as the
/// resolution of a name; the global executors of smol and async-std go on.
#[derive(Debug)]
pub struct Executor(Started);

#[derive(Debug)]
enum Started {
    /// `None` once it is dropped.
    Tokio(Option<tokio::runtime::Runtime>),
    Smol,
    AsyncStd,
}

impl Executor {
    /// Runs a future to its end on this thread, and the tasks that it spawns on those of the runtime.
    ///
    /// # Panics
    /// On tokio, within another tokio runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        match &self.0 {
            Started::Tokio(runtime) => runtime.as_ref().expect("it is not dropped").block_on(future),
            Started::Smol => smol::block_on(future),
            Started::AsyncStd => async_std::task::block_on(future),
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Started::Tokio(runtime) = &mut self.0
            && let Some(runtime) = runtime.take()
        {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_found_by_its_name() {
        for host in Host::ALL {
            assert_eq!(host.to_string().parse(), Ok(host));
        }
        let unknown = "monoio".parse::<Host>().unwrap_err();
        assert_eq!(unknown.to_string(), r#"there is no runtime "monoio"; there are tokio, smol, async-std"#);
    }

    #[test]
    fn the_macro_knows_every_host() {
        let mut known = Vec::new();
        macro_rules! note {
            ($module:ident, $host:ident) => {
                known.push((stringify!($module).replace('_', "-"), Host::$host));
            };
        }
        for_each_host!(note);
        let all: Vec<_> = Host::ALL.iter().map(|host| (String::from(host.name()), *host)).collect();
        assert_eq!(known, all);
    }
}
