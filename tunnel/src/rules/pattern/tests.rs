use proptest::prelude::*;

use super::*;

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

#[test]
fn hosts_match_by_whole_labels() {
    for (pattern, matching, others) in [
        (
            "db.internal",
            &["db.internal", "DB.internal."][..],
            &["a.db.internal", "xdb.internal", "internal"][..],
        ),
        (
            "*.DB.internal.",
            &["a.db.internal", "a.b.db.internal"],
            &["db.internal", "xdb.internal", "a.db.internal.org"],
        ),
        ("*", &["a", "a.b", "10.1.2.3", "[::1]"], &[]),
        ("*.internal", &["db.internal"], &["internal", "10.1.2.3"]),
    ] {
        let hosts = HostPattern::parse(pattern).unwrap();
        assert!(matching.iter().all(|name| hosts.matches(&host(name))), "{pattern}");
        assert!(!others.iter().any(|name| hosts.matches(&host(name))), "{pattern}");
    }
    assert!(!HostPattern::parse("*.internal").unwrap().matches(&Host::Name(".internal".to_owned())));
}

#[test]
fn a_star_is_a_whole_first_label() {
    for text in [
        "",
        "*.",
        "**",
        "*.*",
        "a.*",
        "*a.b",
        "db-*.b",
        "*.*.b",
        "*.1",
        "*.10.0.0.1",
        "a b",
        "bücher.example",
    ] {
        assert_eq!(HostPattern::parse(text), Err(BadHostPattern::NoName), "{text}");
    }
    for text in ["10.1.2.3", "[::1]", "::1", "::ffff:10.1.2.3"] {
        assert_eq!(HostPattern::parse(text), Err(BadHostPattern::Address), "{text}");
    }
}

#[test]
fn stars_of_paths_stay_within_a_directory() {
    for (pattern, matching, others) in [
        ("/run/a.sock", &["/run/a.sock"][..], &["/run/a.sock/b", "/run", "/run/A.sock", "/a.sock"][..]),
        ("/run/*.sock", &["/run/a.sock", "/run/.sock"], &["/run/a/b.sock", "/run/a.sock.bak", "/x/a.sock"]),
        ("/run/*", &["/run/a"], &["/run/a/b", "/run", "/runa"]),
        ("/run/*/a", &["/run/x/a"], &["/run/a", "/run/x/y/a"]),
        ("/run/**", &["/run/a"], &["/run/a/b"]),
        ("/run/*a*b", &["/run/ab", "/run/xaxab"], &["/run/ba", "/run/a"]),
    ] {
        let paths = PathPattern::parse(pattern).unwrap();
        assert!(matching.iter().all(|path| paths.matches(Path::new(path))), "{pattern}");
        assert!(!others.iter().any(|path| paths.matches(Path::new(path))), "{pattern}");
    }
    for text in ["run/*", "/run/../*", "/run//*", "/", "*", "unix:/run/a"] {
        assert_eq!(PathPattern::parse(text), None, "{text}");
    }
}

#[test]
fn ports_are_numbers_or_ranges() {
    assert_eq!(parse_ports("22"), Some(22..=22));
    assert_eq!(parse_ports("1-65535"), Some(1..=65535));
    assert_eq!(parse_ports("8-8"), Some(8..=8));
    for text in [
        "", "0", "0-1", "2-1", "65536", "1-65536", "-1", "1-", "-", "1-2-3", "+1", " 1", "1 - 2", "1..2", "*",
    ] {
        assert_eq!(parse_ports(text), None, "{text}");
    }
}

/// What the pattern says, without regard to cost.
fn model(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| model(rest, &text[taken..])),
        ([first, pattern @ ..], [byte, text @ ..]) => first == byte && model(pattern, text),
        _ => false,
    }
}

proptest! {
    #[test]
    fn stars_stand_for_any_bytes(pattern in "[ab*]{0,8}", text in "[ab*]{0,10}") {
        let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(wildcard(pattern, text), model(pattern, text));
    }
}
