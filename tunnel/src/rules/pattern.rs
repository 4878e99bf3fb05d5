//! Patterns for hosts, paths and ports in a rule.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::target::{Host, is_normal_path, parse_port};

/// Hosts that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    /// `*`: every name and every address.
    Any,
    /// `*.db.internal`: the names that end in this, which begins with a dot.
    Under(String),
    /// `db.internal`: this name.
    Name(String),
}

/// Why a text is no [`HostPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHostPattern {
    /// It is an IP address.
    Address,
    /// It is neither a name nor a pattern of names.
    NoName,
}

impl HostPattern {
    pub(super) fn parse(text: &str) -> Result<Self, BadHostPattern> {
        let name = |text: &str| match text.parse() {
            Ok(Host::Name(name)) => Ok(name),
            Ok(Host::Ip(_)) => Err(BadHostPattern::Address),
            Err(_) if text.parse::<std::net::IpAddr>().is_ok() => Err(BadHostPattern::Address),
            Err(_) => Err(BadHostPattern::NoName),
        };
        match text.strip_prefix("*.") {
            Some(rest) => {
                name(rest).map_err(|_| BadHostPattern::NoName).map(|name| Self::Under(format!(".{name}")))
            }
            None if text == "*" => Ok(Self::Any),
            None => name(text).map(Self::Name),
        }
    }

    pub(super) fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Under(end), Host::Name(name)) => {
                name.strip_suffix(&**end).is_some_and(|first| !first.is_empty())
            }
            (Self::Name(expected), Host::Name(name)) => name == expected,
            (_, Host::Ip(_)) => false,
        }
    }
}

/// Unix sockets that a rule is about: a path, in which each `*` stands for any bytes without a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern(String);

impl PathPattern {
    pub(super) fn parse(text: &str) -> Option<Self> {
        is_normal_path(Path::new(text)).then(|| Self(text.to_owned()))
    }

    /// Matches paths in normal form.
    pub(super) fn matches(&self, path: &Path) -> bool {
        let Some(path) = path.to_str() else { return false };
        let (mut parts, mut patterns) = (path.split('/'), self.0.split('/'));
        loop {
            match (patterns.next(), parts.next()) {
                (None, None) => return true,
                (Some(pattern), Some(part)) if wildcard(pattern.as_bytes(), part.as_bytes()) => {}
                _ => return false,
            }
        }
    }
}

/// Whether the text is the pattern, in which each `*` stands for any bytes. Goes back to the last `*` only, as all that an
/// earlier one could take the last can take too: the steps are at most the product of the lengths.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The positions behind the last `*`, and behind the text that it matches so far.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((behind, end)) = star {
            p = behind;
            t = end + 1;
            star = Some((behind, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Reads `5432` or `6000-6010`, from 1 to 65535.
pub(super) fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    (1 <= first && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests;
