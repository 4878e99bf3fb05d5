//! Which user may connect where, and listen on what: the rules file.
//!
//! What no rule allows is denied. Rules only allow, so their order does not matter for whether something is allowed: a
//! connection is allowed if one rule alone allows all of it, which are the user, the host or path, the port, and the address
//! that is connected to. Order matters for limits: those of the first rule in the file hold that allows the connection.
//!
//! What an address may be is in `network`, what a name may be in `crate::target`. This module resolves no names, counts no
//! connections and reads no files. The caller asks in two steps, so that what was checked is what is connected to:
//!
//! ```
//! # use callosum_tunnel::{Rules, Target};
//! let rules = Rules::parse(
//!     r#"
//!     [[connect]]
//!     name = "databases"
//!     users = ["alice"]
//!     hosts = ["*.db.internal"]
//!     networks = ["10.1.0.0/16"]
//!     ports = [5432]
//!     max_connections = 100
//!     "#,
//! )?;
//! let target: Target = "a.db.internal:5432".parse()?;
//! let grant = rules.connect("alice", &target).expect("alice may name it, so it may be resolved");
//! assert!(grant.at("127.0.0.1".parse()?).is_none(), "it must not be there");
//! let grant = grant.at("10.1.2.3".parse()?).expect("it may be there, so it may be connected to");
//! assert_eq!(&**grant.rule(), "databases");
//! assert!(rules.connect("bob", &target).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod grant;
mod network;
mod parse;
mod pattern;
mod rule;

use std::sync::Arc;

pub use error::{Mistake, RulesError};
pub use grant::Grant;
pub use network::is_public;

use crate::listen::ListenAddress;
use crate::target::{Host, Target, is_normal_path};
use grant::Reach;
use rule::{Permission, Rule};

/// Which user may connect where, and listen on what. By default everything is forbidden.
///
/// The file is TOML; `rules.example.toml` in this crate explains each key.
///
/// - `[groups]`: names of groups, each with its users.
/// - `[[connect]]`, a rule: `name`; `users` and `groups`, of which one must name the user; `hosts`, `networks` and `ports`, all
///   of which must hold for a TCP connection, or `paths`, of which one must be the Unix socket; `max_connections`,
///   `idle_timeout` and `proxy_protocol`.
/// - `[[listen]]`, a rule: `name`, `users`, `groups`, `max_connections` and `idle_timeout` as above; `addresses` and `ports`, or `paths`.
///
/// `hosts` without `networks` admits the public addresses of these hosts, `networks` without `hosts` admits targets that are
/// addresses. [`is_public`] says what a public address is. Symbolic links in paths are not looked at: who may write to
/// the directories of a path decides where it leads.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    connect: Vec<Rule>,
    listen: Vec<Rule>,
}

impl Rules {
    /// The permission of a user to name this target, if there is one.
    ///
    /// If the target is a name, it may be resolved; [`Grant::at`] says to which of its addresses a connection may be
    /// made. An empty `user` (one that has not authenticated) may do nothing.
    pub fn connect(&self, user: &str, target: &Target) -> Option<Grant> {
        if !target.is_normal() {
            return None;
        }
        let reach = match target {
            Target::Tcp { host: Host::Name(_), .. } => Reach::Name,
            Target::Tcp { host: Host::Ip(address), .. } => Reach::Address(address.to_canonical()),
            Target::Unix(_) => Reach::Path,
        };
        Grant::new(permissions(&self.connect, user).filter(|rule| rule.scope.names(target)), reach)
    }

    /// The permission of a user to listen on this address, if there is one.
    ///
    /// Port 0, which lets the system choose, must be among the rule's `ports`; a range does not contain it.
    pub fn listen(&self, user: &str, address: &ListenAddress) -> Option<Grant> {
        let reach = match address {
            ListenAddress::Tcp(address) => Reach::Address(address.ip().to_canonical()),
            ListenAddress::Unix(path) if is_normal_path(path) => Reach::Path,
            ListenAddress::Unix(_) => return None,
        };
        Grant::new(permissions(&self.listen, user).filter(|rule| rule.scope.covers(address)), reach)
    }
}

/// The permissions of a user, in the order of the file.
fn permissions<'a>(rules: &'a [Rule], user: &'a str) -> impl Iterator<Item = &'a Arc<Permission>> {
    let of_user = move |rule: &&Rule| {
        !user.is_empty() && (rule.everyone || rule.members.iter().any(|members| members.contains(user)))
    };
    rules.iter().filter(of_user).map(|rule| &rule.permission)
}

#[cfg(test)]
mod tests;
