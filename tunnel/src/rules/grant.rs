//! Grants: what the rules have allowed.

use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use super::rule::Permission;

/// A permission by the rules: to connect to a target, or to listen on an address.
///
/// Two grants are equal if the same rules, with the same targets and limits, allow the same. After the rules were read
/// again, ask the new ones what was asked before ([`Rules::connect`](super::Rules::connect) and [`Grant::at`], or
/// [`Rules::listen`](super::Rules::listen)): with no grant the connection is no longer allowed, with one that differs
/// its limits may be others. Clones share what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The first of the rules that allow it; its limits hold.
    first: Arc<Permission>,
    others: Vec<Arc<Permission>>,
    reach: Reach,
}

/// The addresses that a grant may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those of a name that is still to be resolved, as far as the rules admit them.
    Name,
    /// This one, which is not IPv4-mapped.
    Address(IpAddr),
    /// None, as it is a path.
    Path,
}

impl Grant {
    /// The grant of some rules, if there are any.
    pub(super) fn new<'a>(
        mut rules: impl Iterator<Item = &'a Arc<Permission>>,
        reach: Reach,
    ) -> Option<Self> {
        let first = Arc::clone(rules.next()?);
        Some(Self { first, others: rules.cloned().collect(), reach })
    }

    /// Whether this address may be connected to: one that the target's name was resolved to, or the target itself.
    ///
    /// Of what was allowed to listen, whether it is this address.
    pub fn admits(&self, address: IpAddr) -> bool {
        match self.reach {
            Reach::Name => self.rules().any(|rule| rule.scope.admits(address)),
            Reach::Address(own) => own == address.to_canonical(),
            Reach::Path => false,
        }
    }

    /// The grant for a connection to this address: that of the rules which admit it. `None` if no rule does.
    ///
    /// Ask this about the address that is connected to, and use the limits of what is returned: those of this grant
    /// may be of a rule that allows the name, but at another address.
    pub fn at(&self, address: IpAddr) -> Option<Self> {
        let reach = Reach::Address(address.to_canonical());
        match self.reach {
            Reach::Name => Self::new(self.rules().filter(|rule| rule.scope.admits(address)), reach),
            Reach::Address(_) | Reach::Path => self.admits(address).then(|| self.clone()),
        }
    }

    /// The name of the rule whose limits hold, which no other rule has. All connections of a rule, of whichever user, are
    /// counted together.
    pub fn rule(&self) -> &Arc<str> {
        &self.first.rule
    }

    /// How many connections there may be at a time under this [rule](Self::rule). `None`: any number.
    pub fn max_connections(&self) -> Option<NonZero<u32>> {
        self.first.max_connections
    }

    /// How long a connection may carry no byte in either direction before it is closed: at most a year. `None`: for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.first.idle_timeout
    }

    /// Whether the target gets a PROXY protocol header, version 2, before anything else.
    pub fn proxy_protocol(&self) -> bool {
        self.first.proxy_protocol
    }

    fn rules(&self) -> impl Iterator<Item = &Arc<Permission>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}
