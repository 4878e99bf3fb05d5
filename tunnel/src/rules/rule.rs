//! One rule of the file: its users, and what it allows.
//!
//! Not responsible for how it is written (`parse`), nor for how many use it (`grant`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::network;
use super::pattern::{HostPattern, PathPattern};
use crate::listen::ListenAddress;
use crate::target::{Host, Target};

/// A permission, and its users.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The users of the rule itself, then those of its groups.
    pub(super) members: Vec<Arc<BTreeSet<String>>>,
    pub(super) everyone: bool,
    pub(super) permission: Arc<Permission>,
}

/// What a rule allows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Permission {
    /// The rule's name, which no other has.
    pub(super) rule: Arc<str>,
    pub(super) scope: Scope,
    pub(super) max_connections: Option<NonZero<u32>>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) proxy_protocol: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Connect {
        hosts: Vec<HostPattern>,
        networks: Vec<IpNet>,
        ports: Vec<RangeInclusive<u16>>,
        paths: Vec<PathPattern>,
    },
    Listen {
        addresses: Vec<IpAddr>,
        ports: Vec<RangeInclusive<u16>>,
        paths: Vec<PathPattern>,
    },
}

impl Scope {
    /// Whether the target is one of these, as far as can be told before its name is resolved.
    pub(super) fn names(&self, target: &Target) -> bool {
        let Self::Connect { hosts, ports, paths, .. } = self else { return false };
        match target {
            Target::Tcp { host, port } => {
                let named = hosts.iter().any(|pattern| pattern.matches(host));
                let named = match host {
                    Host::Name(_) => named,
                    Host::Ip(address) => (named || hosts.is_empty()) && self.admits(*address),
                };
                named && contains(ports, *port)
            }
            Target::Unix(path) => matches(paths, path),
        }
    }

    /// Whether a name of these may be at this address.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        match self {
            // A rule that has only paths.
            Self::Connect { hosts, networks, .. } if hosts.is_empty() && networks.is_empty() => false,
            Self::Connect { networks, .. } => network::admits(networks, address),
            Self::Listen { .. } => false,
        }
    }

    /// Whether it is one of these to listen on.
    pub(super) fn covers(&self, address: &ListenAddress) -> bool {
        let Self::Listen { addresses, ports, paths } = self else { return false };
        match address {
            ListenAddress::Tcp(address) => {
                addresses.contains(&address.ip().to_canonical()) && contains(ports, address.port())
            }
            ListenAddress::Unix(path) => matches(paths, path),
        }
    }
}

fn contains(ports: &[RangeInclusive<u16>], port: u16) -> bool {
    ports.iter().any(|range| range.contains(&port))
}

fn matches(paths: &[PathPattern], path: &Path) -> bool {
    paths.iter().any(|pattern| pattern.matches(path))
}
