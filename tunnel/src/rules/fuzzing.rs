//! Body of the fuzz target `rules`.

use std::net::IpAddr;

use super::{Grant, Rules, is_public};
use crate::listen::ListenAddress;
use crate::target::Target;

/// What bytes from 0x80 stand for, so that it need not be guessed. Those below are themselves.
const WORDS: [&str; 64] = [
    "[groups]\n",
    "[[connect]]\n",
    "[[listen]]\n",
    "name = 'a'\n",
    "name = 'b'\n",
    "users = ['alice']\n",
    "users = ['*']\n",
    "groups = ['staff']\n",
    "staff = ['alice', 'bob']\n",
    "hosts = ['*']\n",
    "hosts = ['*.internal', 'db.example.org']\n",
    "networks = ['10.0.0.0/8']\n",
    "networks = ['0.0.0.0/0', '::/0', '::1']\n",
    "ports = [22, '80-90']\n",
    "ports = ['1-65535']\n",
    "ports = [0, 8080]\n",
    "paths = ['/run/*']\n",
    "paths = ['/run/a.sock']\n",
    "addresses = ['127.0.0.1', '::']\n",
    "max_connections = 5\n",
    "idle_timeout = '1h'\n",
    "name = ",
    "users = ",
    "groups = ",
    "hosts = ",
    "networks = ",
    "ports = ",
    "paths = ",
    "addresses = ",
    "max_connections = ",
    "idle_timeout = ",
    " = ",
    "['",
    "', '",
    "']\n",
    "'\n",
    "'",
    "\"",
    "[",
    "]\n",
    ", ",
    "\n",
    "#",
    "alice",
    "bob",
    "staff",
    "*",
    "*.",
    ".internal",
    "localhost",
    "127.0.0.0/8",
    "10.1.2.3/16",
    "::ffff:10.0.0.0/104",
    "64:ff9b::/96",
    "169.254.169.254",
    "/run/",
    "../",
    "1-",
    "65535",
    "18446744073709551615",
    "99years",
    "ü",
    "\u{2028}",
    "\u{feff}",
];

const TARGETS: [&str; 9] = [
    "db.example.org:22",
    "a.internal:80",
    "internal:5432",
    "localhost:80",
    "10.1.2.3:22",
    "127.0.0.1:80",
    "8.8.8.8:80",
    "[::1]:8080",
    "unix:/run/a.sock",
];
const ADDRESSES: [&str; 8] = [
    "8.8.8.8",
    "10.1.2.3",
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "64:ff9b::a01:203",
    "2606:4700:4700::1111",
    "169.254.169.254",
];
const LISTENS: [&str; 5] = ["127.0.0.1:8080", "127.0.0.1:0", "[::]:22", "0.0.0.0:80", "/run/a.sock"];

/// The text of a rules file, in which bytes from 0x80 stand for words.
///
/// # Panics
/// If a mistake is not in the text, or rules allow what they can't.
pub fn rules(data: &[u8]) {
    let mut text = String::new();
    for &byte in data {
        match byte.checked_sub(0x80) {
            Some(word) => text.push_str(WORDS[usize::from(word) % WORDS.len()]),
            None => text.push(char::from(byte)),
        }
    }
    match Rules::parse(&text) {
        Ok(rules) => ask(&rules, &Rules::parse(&text).expect("it was read before"), &text),
        Err(error) => {
            let line = text.split('\n').nth(error.line - 1).expect("a line of the text");
            assert!((1..=line.chars().count() + 1).contains(&error.column), "{error} in {text}");
        }
    }
}

/// Asks the rules, and those of the same text, about everybody and everything.
fn ask(rules: &Rules, again: &Rules, text: &str) {
    // What a text without it, also without an escape of it, can't mean.
    let says = |word: &str| text.contains(word) || text.contains('\\');
    for user in ["alice", "bob", "staff", "nobody", "*", ""] {
        for target in TARGETS.map(|target| target.parse::<Target>().expect("a target")) {
            let Some(grant) = rules.connect(user, &target) else { continue };
            assert_eq!(Some(&grant), again.connect(user, &target).as_ref());
            check(&grant, user, &says);
            for address in ADDRESSES.map(|address| address.parse().expect("an address")) {
                check_address(&grant, &target, address, &says);
            }
        }
        for address in LISTENS.map(|address| address.parse::<ListenAddress>().expect("an address")) {
            let Some(grant) = rules.listen(user, &address) else { continue };
            assert_eq!(Some(&grant), again.listen(user, &address).as_ref());
            check(&grant, user, &says);
        }
    }
}

fn check(grant: &Grant, user: &str, says: &impl Fn(&str) -> bool) {
    assert!(!user.is_empty(), "somebody without an identity");
    assert!(says("*") || says(user), "{user} is not in the text");
    assert!(says(grant.rule()));
    assert!(grant.idle_timeout().is_none_or(|time| !time.is_zero() && time.as_secs() <= 31_557_600));
}

fn check_address(grant: &Grant, target: &Target, address: IpAddr, says: &impl Fn(&str) -> bool) {
    let at = grant.at(address);
    assert_eq!(at.is_some(), grant.admits(address));
    let Some(at) = at else { return };
    assert!(is_public(address) || says("networks"), "{address} is special");
    assert!(matches!(target, Target::Tcp { .. }));
    assert!(at.admits(address) && at.at(address) == Some(at.clone()));
    assert!(!at.admits(IpAddr::from([1, 2, 3, 4])), "another address than that of the grant");
}
