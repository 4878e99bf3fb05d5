//! Finds the async API among the dependencies of the crate that uses the macro.
//!
//! `callosum-runtime` has it, and every adapter re-exports it. The idea: no list of adapters, which are many and not all of this
//! repository. A dependency is taken for an adapter if its package is called `callosum-NAME` and is none of [`OTHERS`].

use std::env;
use std::fs;
use std::path::Path;

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Error, Ident, Result};

const API: &str = "callosum-runtime";

/// The packages of this repository that do not re-export the async API. `docs/tests` compares them with the workspace.
const OTHERS: [&str; 11] = [
    "callosum-cli",
    "callosum-hosts",
    "callosum-macros",
    "callosum-proto",
    "callosum-protobuf",
    "callosum-protobuf-build",
    "callosum-testkit",
    "callosum-thrift",
    "callosum-thrift-build",
    "callosum-thrift-idl",
    "callosum-tunnel",
];

/// The path of the crate that has the async API, by the name that it has among the caller's dependencies.
pub(crate) fn find() -> Result<TokenStream> {
    let manifests = manifests();
    let caller = env::var("CARGO_PKG_NAME").unwrap_or_default();
    let adapters = packages(&manifests).filter(|package| *package != caller && !OTHERS.contains(package));
    for package in std::iter::once(API).chain(adapters) {
        let name = match crate_name(package) {
            // Examples, tests and doctests of the async API.
            Ok(FoundCrate::Itself) => package.replace('-', "_"),
            Ok(FoundCrate::Name(name)) => name,
            // Only mentioned.
            Err(_) => continue,
        };
        let ident = Ident::new(&name, Span::call_site());
        return Ok(quote!(::#ident));
    }
    Err(Error::new(
        Span::call_site(),
        "no adapter of Callosum is among the dependencies: add `callosum-tokio`, or name its path with `#[service(crate = path)]`",
    ))
}

/// The manifest of the crate that is compiled and those of the folders above it: one of them is the workspace's, which may rename
/// packages.
fn manifests() -> String {
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let manifests =
        Path::new(&folder).ancestors().filter_map(|it| fs::read_to_string(it.join("Cargo.toml")).ok());
    manifests.collect::<Vec<_>>().join("\n")
}

/// What may be the names of Callosum's packages in a manifest, in its order.
fn packages(manifest: &str) -> impl Iterator<Item = &str> {
    let words = manifest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    words.filter(|word| word.starts_with("callosum-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_however_a_dependency_is_written() {
        let manifest = r#"
            [dependencies]
            callosum-a = "1"
            callosum-b.workspace = true
            c = { package = "callosum-c-std", version = "1" }
            callosum_d = "1"
            [target.'cfg(unix)'.dependencies.callosum-e]
            path = "../callosum"
        "#;
        let found: Vec<_> = packages(manifest).collect();
        assert_eq!(found, ["callosum-a", "callosum-b", "callosum-c-std", "callosum-e"]);
    }
}
