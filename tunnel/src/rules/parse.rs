//! Parses the rules file: TOML into the structure of the file, then each value, keeping its position for errors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::pattern::{BadHostPattern, HostPattern, PathPattern, parse_ports};
use super::rule::{Permission, Rule, Scope};
use super::{Mistake, Rules, RulesError};

/// Stands for every user in a rule's `users`.
const EVERYONE: &str = "*";
/// A year, as humantime has it: long enough for every connection, and added to every clock without overflow.
const MAX_IDLE: Duration = Duration::from_secs(31_557_600);

type Texts = Vec<Spanned<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    groups: BTreeMap<Spanned<String>, Texts>,
    #[serde(default)]
    connect: Vec<ConnectRule>,
    #[serde(default)]
    listen: Vec<ListenRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectRule {
    name: Spanned<String>,
    #[serde(default)]
    users: Texts,
    #[serde(default)]
    groups: Texts,
    #[serde(default)]
    hosts: Texts,
    #[serde(default)]
    networks: Texts,
    #[serde(default)]
    ports: Vec<Spanned<Value>>,
    #[serde(default)]
    paths: Texts,
    max_connections: Option<Spanned<i64>>,
    idle_timeout: Option<Spanned<String>>,
    #[serde(default)]
    proxy_protocol: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenRule {
    name: Spanned<String>,
    #[serde(default)]
    users: Texts,
    #[serde(default)]
    groups: Texts,
    #[serde(default)]
    addresses: Texts,
    #[serde(default)]
    ports: Vec<Spanned<Value>>,
    #[serde(default)]
    paths: Texts,
    max_connections: Option<Spanned<i64>>,
    idle_timeout: Option<Spanned<String>>,
}

/// Keys of both kinds of rules.
struct Common {
    name: Spanned<String>,
    users: Texts,
    groups: Texts,
    max_connections: Option<Spanned<i64>>,
    idle_timeout: Option<Spanned<String>>,
    proxy_protocol: bool,
}

/// A mistake, at the value that has it.
struct Misplaced(std::ops::Range<usize>, Mistake);

type Checked<T> = Result<T, Misplaced>;

fn wrong<T, U>(value: &Spanned<T>, mistake: Mistake) -> Checked<U> {
    Err(Misplaced(value.span(), mistake))
}

impl Rules {
    /// Reads the text of a rules file.
    ///
    /// # Errors
    /// The first mistake, with its line and column.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let file: File = toml::from_str(text).map_err(|error| {
            // An error without a position is about the whole file.
            let span = error.span().unwrap_or(0..0);
            RulesError::at(text, span, Mistake::Syntax(error.message().to_owned()))
        })?;
        check(file).map_err(|Misplaced(span, mistake)| RulesError::at(text, span, mistake))
    }

    /// The same, of a text that may not be UTF-8, which is a mistake.
    pub(crate) fn parse_bytes(text: &[u8]) -> Result<Self, RulesError> {
        let valid = text.utf8_chunks().next().map_or("", |first| first.valid());
        match valid.len() == text.len() {
            true => Self::parse(valid),
            false => Err(RulesError::at(valid, valid.len()..valid.len(), Mistake::NotUtf8)),
        }
    }
}

fn check(file: File) -> Checked<Rules> {
    let mut reader = Reader { groups: groups(file.groups)?, names: BTreeSet::new() };
    Ok(Rules {
        connect: file.connect.into_iter().map(|rule| reader.connect(rule)).collect::<Checked<_>>()?,
        listen: file.listen.into_iter().map(|rule| reader.listen(rule)).collect::<Checked<_>>()?,
    })
}

type Groups = BTreeMap<String, Arc<BTreeSet<String>>>;

fn groups(groups: BTreeMap<Spanned<String>, Texts>) -> Checked<Groups> {
    let group = |(group, users): (Spanned<String>, Texts)| {
        check_name(&group)?;
        let mut members = BTreeSet::new();
        for user in users {
            check_name(&user)?;
            if user.get_ref() == EVERYONE {
                return wrong(&user, Mistake::EveryoneInGroup);
            }
            members.insert(user.into_inner());
        }
        Ok((group.into_inner(), Arc::new(members)))
    };
    groups.into_iter().map(group).collect()
}

/// Refuses names that can't be a user's identity, or that a list of rules would not show.
fn check_name(name: &Spanned<String>) -> Checked<()> {
    let text = name.get_ref();
    if text.is_empty() || text.trim() != text || text.contains(char::is_control) {
        return wrong(name, Mistake::Name(text.clone()));
    }
    Ok(())
}

struct Reader {
    groups: Groups,
    /// Of the rules so far.
    names: BTreeSet<String>,
}

impl Reader {
    fn connect(&mut self, rule: ConnectRule) -> Checked<Rule> {
        let ConnectRule { name, users, groups, max_connections, idle_timeout, proxy_protocol, .. } = rule;
        let hosts = rule.hosts.iter().map(host).collect::<Checked<Vec<_>>>()?;
        let networks = rule.networks.iter().map(network).collect::<Checked<Vec<_>>>()?;
        let with_ports = !hosts.is_empty() || !networks.is_empty();
        if !with_ports && rule.paths.is_empty() && rule.ports.is_empty() {
            let mistake = Mistake::NoTargets(name.get_ref().clone());
            return wrong(&name, mistake);
        }
        let ports = ports(&name, with_ports, &rule.ports, parse_ports)?;
        let paths = rule.paths.iter().map(path).collect::<Checked<_>>()?;
        let scope = Scope::Connect { hosts, networks, ports, paths };
        self.rule(Common { name, users, groups, max_connections, idle_timeout, proxy_protocol }, scope)
    }

    fn listen(&mut self, rule: ListenRule) -> Checked<Rule> {
        let ListenRule { name, users, groups, max_connections, idle_timeout, .. } = rule;
        let addresses = rule.addresses.iter().map(address).collect::<Checked<Vec<_>>>()?;
        if addresses.is_empty() && rule.paths.is_empty() && rule.ports.is_empty() {
            let mistake = Mistake::NoAddresses(name.get_ref().clone());
            return wrong(&name, mistake);
        }
        let ports = ports(&name, !addresses.is_empty(), &rule.ports, listen_ports)?;
        let paths = rule.paths.iter().map(path).collect::<Checked<_>>()?;
        let scope = Scope::Listen { addresses, ports, paths };
        // The targets are on the user's side.
        let proxy_protocol = false;
        self.rule(Common { name, users, groups, max_connections, idle_timeout, proxy_protocol }, scope)
    }

    fn rule(&mut self, common: Common, scope: Scope) -> Checked<Rule> {
        let Common { name, users, groups, .. } = common;
        check_name(&name)?;
        if !self.names.insert(name.get_ref().clone()) {
            let mistake = Mistake::DuplicateName(name.get_ref().clone());
            return wrong(&name, mistake);
        }
        if users.is_empty() && groups.is_empty() {
            let mistake = Mistake::NoUsers(name.get_ref().clone());
            return wrong(&name, mistake);
        }
        users.iter().try_for_each(check_name)?;
        let mut own: BTreeSet<_> = users.into_iter().map(Spanned::into_inner).collect();
        let everyone = own.remove(EVERYONE);
        let mut members = vec![Arc::new(own)];
        for group in groups {
            match self.groups.get(group.get_ref()) {
                Some(users) => members.push(Arc::clone(users)),
                None => {
                    let mistake = Mistake::UnknownGroup(group.get_ref().clone());
                    return wrong(&group, mistake);
                }
            }
        }
        let permission = Permission {
            rule: name.into_inner().into(),
            scope,
            max_connections: common.max_connections.as_ref().map(max_connections).transpose()?,
            idle_timeout: common.idle_timeout.as_ref().map(idle_timeout).transpose()?,
            proxy_protocol: common.proxy_protocol,
        };
        Ok(Rule { members, everyone, permission: Arc::new(permission) })
    }
}

fn host(text: &Spanned<String>) -> Checked<HostPattern> {
    HostPattern::parse(text.get_ref()).or_else(|bad| {
        let given = text.get_ref().clone();
        wrong(
            text,
            match bad {
                BadHostPattern::Address => Mistake::AddressInHosts(given),
                BadHostPattern::NoName => Mistake::Host(given),
            },
        )
    })
}

/// A network, or an address alone.
fn network(text: &Spanned<String>) -> Checked<IpNet> {
    let given = text.get_ref();
    let network = given.parse().ok().or_else(|| given.parse::<IpAddr>().ok().map(IpNet::from));
    // Rules treat IPv4-mapped addresses as IPv4 addresses.
    let mapped = |network: &IpNet| matches!(network.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    match network {
        Some(network) if mapped(&network) => wrong(text, Mistake::Network(given.clone())),
        Some(network) if network.trunc() != network => {
            let network = network.trunc().to_string();
            wrong(text, Mistake::NetworkBits { given: given.clone(), network })
        }
        Some(network) => Ok(network),
        None => wrong(text, Mistake::Network(given.clone())),
    }
}

/// An address to listen on.
fn address(text: &Spanned<String>) -> Checked<IpAddr> {
    match text.get_ref().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => wrong(text, Mistake::Address(text.get_ref().clone())),
    }
}

fn path(text: &Spanned<String>) -> Checked<PathPattern> {
    match PathPattern::parse(text.get_ref()) {
        Some(pattern) => Ok(pattern),
        None => wrong(text, Mistake::Path(text.get_ref().clone())),
    }
}

type Ports = RangeInclusive<u16>;

/// The ports of the rule of this name, which go with hosts, networks or addresses.
fn ports(
    rule: &Spanned<String>,
    needed: bool,
    ports: &[Spanned<Value>],
    read: fn(&str) -> Option<Ports>,
) -> Checked<Vec<Ports>> {
    match ports.first() {
        None if needed => return wrong(rule, Mistake::NoPorts(rule.get_ref().clone())),
        Some(first) if !needed => return wrong(first, Mistake::StrayPorts(rule.get_ref().clone())),
        _ => {}
    }
    let port = |port: &Spanned<Value>| {
        let text = match port.get_ref() {
            Value::Integer(number) => number.to_string(),
            Value::String(text) => text.clone(),
            other => {
                let kind = other.type_str();
                let message =
                    format!("invalid type: {kind}, expected a port, or a range such as \"8000-8999\"");
                return wrong(port, Mistake::Syntax(message));
            }
        };
        match read(&text) {
            Some(ports) => Ok(ports),
            None => wrong(port, Mistake::Port(text)),
        }
    };
    ports.iter().map(port).collect()
}

/// With 0 alone, with which the system chooses.
fn listen_ports(text: &str) -> Option<Ports> {
    if text == "0" { Some(0..=0) } else { parse_ports(text) }
}

fn max_connections(number: &Spanned<i64>) -> Checked<NonZero<u32>> {
    let given = *number.get_ref();
    match u32::try_from(given).ok().and_then(NonZero::new) {
        Some(number) => Ok(number),
        None => wrong(number, Mistake::MaxConnections(given)),
    }
}

fn idle_timeout(text: &Spanned<String>) -> Checked<Duration> {
    match humantime::parse_duration(text.get_ref()) {
        Ok(time) if !time.is_zero() && time <= MAX_IDLE => Ok(time),
        _ => wrong(text, Mistake::IdleTimeout(text.get_ref().clone())),
    }
}
