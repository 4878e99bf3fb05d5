#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/hosts.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Formatter};
use std::future::Future;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

#[cfg(feature = "async-std")]
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
    /// `callosum-async-std`, on async-std's global executor. Needs the feature `async-std`.
    #[cfg(feature = "async-std")]
    AsyncStd,
}

/// Calls a macro for each runtime of this build, with a name for a module and the variant of [`Host`]:
/// `then!(tokio, Tokio);` and so on. Tests make a module for each runtime with it.
#[macro_export]
macro_rules! for_each_host {
    ($then:ident) => {
        $then!(tokio, Tokio);
        $then!(smol, Smol);
        $crate::with_async_std! { $then!(async_std, AsyncStd); }
    };
}

/// Its tokens, if the feature `async-std` is on.
#[cfg(feature = "async-std")]
#[doc(hidden)]
#[macro_export]
macro_rules! with_async_std {
    ($($tokens:tt)*) => { $($tokens)* };
}

/// Its tokens, if the feature `async-std` is on.
#[cfg(not(feature = "async-std"))]
#[doc(hidden)]
#[macro_export]
macro_rules! with_async_std {
    ($($tokens:tt)*) => {};
}

impl Host {
    /// Each runtime of this build once.
    pub const ALL: &[Self] = &[
        Self::Tokio,
        Self::Smol,
        #[cfg(feature = "async-std")]
        Self::AsyncStd,
    ];

    /// The names of those whose feature is off; the feature has the same name.
    pub const LEFT_OUT: &[&str] = &[
        #[cfg(not(feature = "async-std"))]
        "async-std",
    ];

    /// The names of [`ALL`](Self::ALL), in the same order.
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
            #[cfg(feature = "async-std")]
            Self::AsyncStd => "async-std",
        }
    }

    /// The runtime of endpoints. For tokio, it is the one that is current when an endpoint's driver is first polled.
    pub fn runtime(self) -> Arc<dyn Runtime> {
        match self {
            Self::Tokio => Arc::new(TokioRuntime::default()),
            Self::Smol => Arc::new(SmolRuntime::global()),
            #[cfg(feature = "async-std")]
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
            #[cfg(feature = "async-std")]
            Self::AsyncStd => Started::AsyncStd,
        }))
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// This build has no runtime of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownHost {
    /// No build has.
    #[error("unknown runtime {0:?}; available are {names}", names = Host::NAMES.join(", "))]
    NoSuchRuntime(String),
    /// Its feature is off.
    #[error("this program was built without {0}: build it with the feature `{0}`, or use {names}", names = Host::NAMES.join(" or "))]
    LeftOut(&'static str),
}

impl FromStr for Host {
    type Err = UnknownHost;

    fn from_str(name: &str) -> Result<Self, UnknownHost> {
        if let Some(host) = Self::ALL.iter().find(|host| host.name() == name) {
            return Ok(*host);
        }
        Err(match Self::LEFT_OUT.iter().find(|left_out| **left_out == name) {
            Some(left_out) => UnknownHost::LeftOut(left_out),
            None => UnknownHost::NoSuchRuntime(name.to_owned()),
        })
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
    #[cfg(feature = "async-std")]
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
            #[cfg(feature = "async-std")]
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
            assert_eq!(host.to_string().parse(), Ok(*host));
        }
        let unknown = "monoio".parse::<Host>().unwrap_err();
        let names = Host::NAMES.join(", ");
        assert_eq!(unknown.to_string(), format!(r#"unknown runtime "monoio"; available are {names}"#));
    }

    #[test]
    fn a_host_is_there_or_says_which_feature_it_needs() {
        let found = "async-std".parse::<Host>();
        if cfg!(feature = "async-std") {
            assert_eq!(found.map(Host::name), Ok("async-std"));
        } else {
            assert_eq!(found, Err(UnknownHost::LeftOut("async-std")));
        }
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
