//! Mistakes in rules files, with their positions.

use std::ops::Range;

/// The first mistake in a rules file, and its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {mistake}")]
#[non_exhaustive]
pub struct RulesError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The mistake.
    pub mistake: Mistake,
}

/// A mistake in a rules file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// It is not TOML, or has an unknown key, a value of another type, or a rule without a name.
    #[error("{0}")]
    Syntax(String),
    /// The text is not UTF-8.
    #[error("this byte is not UTF-8: save the file in that encoding")]
    NotUtf8,
    /// A name of a rule, user or group is empty, has white space at an end, or has control characters.
    #[error("{0:?} is not a name: it is empty, begins or ends with white space, or has control characters")]
    Name(String),
    /// Another rule has this name. Connections are counted by it.
    #[error("another rule has the name {0:?}; rename one of the two")]
    DuplicateName(String),
    /// `*` stands for every user only in a rule's `users`.
    #[error("a group can't contain every user: write users = [\"*\"] in the rule")]
    EveryoneInGroup,
    /// The group is not in `[groups]`.
    #[error("there is no group {0:?} in [groups]")]
    UnknownGroup(String),
    /// The rule has no users.
    #[error("rule {0:?} has no users: give it users or groups")]
    NoUsers(String),
    /// A rule of `[[connect]]` names no target.
    #[error("rule {0:?} has no targets: give it hosts or networks, with ports, or paths")]
    NoTargets(String),
    /// A rule of `[[listen]]` names no address.
    #[error("rule {0:?} has no addresses: give it addresses, with ports, or paths")]
    NoAddresses(String),
    /// The rule has hosts, networks or addresses, and no ports.
    #[error("rule {0:?} needs ports, as in ports = [22, \"8000-8999\"]")]
    NoPorts(String),
    /// The rule has ports, which go with nothing.
    #[error("rule {0:?} has ports, but no hosts, networks or addresses for them")]
    StrayPorts(String),
    /// An address where a name belongs.
    #[error("{0:?} is an IP address or network: write it in networks")]
    AddressInHosts(String),
    /// No host name, and no pattern of host names.
    #[error("{0:?} is not a host name or a pattern such as *.db.internal or *")]
    Host(String),
    /// No IP network.
    #[error("{0:?} is not an IP network or address, such as 10.1.0.0/16 or fd00::/8")]
    Network(String),
    /// There are bits of a host in the network.
    #[error("{given} has bits set after its prefix: write {network}")]
    NetworkBits {
        /// What is written.
        given: String,
        /// The network around it.
        network: String,
    },
    /// No port, and no range of ports.
    #[error("{0} is not a port from 1 to 65535 or a range such as \"8000-8999\"")]
    Port(String),
    /// No path of a socket.
    #[error(
        "{0:?} is not an absolute path of at most 107 bytes, without `.`, `..`, empty parts and control characters"
    )]
    Path(String),
    /// No address to listen on.
    #[error(
        "{0:?} is not an IP address to listen on, such as 127.0.0.1, ::1, or 0.0.0.0 for every IPv4 address"
    )]
    Address(String),
    /// `max_connections` is zero or too large.
    #[error("max_connections is {0}: write a number from 1 to 4294967295, or leave it out for no limit")]
    MaxConnections(i64),
    /// `idle_timeout` is no duration, zero or too long.
    #[error("{0:?} is not a duration above zero and up to a year, such as \"90s\" or \"1h 30m\"")]
    IdleTimeout(String),
}

impl RulesError {
    /// The mistake at some bytes of the text.
    pub(super) fn at(text: &str, span: Range<usize>, mistake: Mistake) -> Self {
        let ends_a_character = |at: &usize| text.is_char_boundary(*at);
        let before = &text[..(0..=span.start.min(text.len())).rev().find(ends_a_character).unwrap_or(0)];
        let line = before.rsplit('\n').next().unwrap_or(before);
        Self { line: before.matches('\n').count() + 1, column: line.chars().count() + 1, mistake }
    }
}
