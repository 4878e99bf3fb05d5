use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Host {
    Host::Name(text.to_owned())
}

#[test]
fn one_host_has_one_spelling() {
    for (text, host) in [
        ("db.internal", name("db.internal")),
        ("DB.Internal.", name("db.internal")),
        ("_sql._tcp.db", name("_sql._tcp.db")),
        ("xn--bcher-kva.example", name("xn--bcher-kva.example")),
        ("10.1.2.3", Host::Ip([10, 1, 2, 3].into())),
        ("[::1]", Host::Ip(std::net::Ipv6Addr::LOCALHOST.into())),
        ("[0:0::0:1]", Host::Ip(std::net::Ipv6Addr::LOCALHOST.into())),
        ("[::ffff:127.0.0.1]", Host::Ip([127, 0, 0, 1].into())),
        ("[::FFFF:7f00:1]", Host::Ip([127, 0, 0, 1].into())),
        // These are names to every resolver: labels that are numbers, but not the last.
        ("10.in-addr", name("10.in-addr")),
        ("1e1", name("1e1")),
        ("0xyz", name("0xyz")),
    ] {
        assert_eq!(text.parse(), Ok(host), "{text}");
    }
}

#[test]
fn texts_that_resolvers_take_for_addresses_are_no_names() {
    for text in [
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0X7F000001",
        "0x7f.1",
        "127.0.0.0x1",
        "0x",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.01",
        "1.2.3.4.5",
        "256.1.1.1",
        "host.1",
        "fe80::1",
        "[fe80::1%eth0]",
        "[fe80::1%251]",
        "fe80::1%1",
    ] {
        assert_eq!(text.parse::<Host>(), Err(ParseTargetError::Host(text.to_owned())));
    }
}

#[test]
fn malformed_hosts_are_refused() {
    let long_label = "a".repeat(64);
    let long_name = vec!["a".repeat(62); 5].join(".");
    for text in [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a b",
        "a\0",
        "a/b",
        "user@host",
        "bücher.example",
        "a\r\nb",
        "*",
        "[::1",
        "::1]",
        "[]",
        "[127.0.0.1]",
        "a%00",
        &long_label,
        &long_name,
    ] {
        assert_eq!(text.parse::<Host>(), Err(ParseTargetError::Host(text.to_owned())));
    }
}

#[test]
fn ports_are_decimal_and_above_zero() {
    assert_eq!("a:1".parse(), Ok(Target::Tcp { host: name("a"), port: 1 }));
    assert_eq!(
        "[::1]:65535".parse::<Target>().map(|target| target.to_string()),
        Ok("[::1]:65535".to_owned())
    );
    assert_eq!("unix:80".parse(), Ok(Target::Tcp { host: name("unix"), port: 80 }));
    for text in
        ["a", "a:", "a:0", "a:65536", "a:+80", "a:-1", "a: 80", "a:80 ", "a:0x50", "a:99999999999999999999"]
    {
        assert_eq!(text.parse::<Target>(), Err(ParseTargetError::Port(text.to_owned())));
    }
}

#[test]
fn brackets_may_stand_around_every_host() {
    let read = |text: &str| text.parse::<Target>().map(|target| target.to_string());
    for (text, target) in [
        ("[localhost]:22", "localhost:22"),
        ("[DB.internal.]:22", "db.internal:22"),
        ("[127.0.0.1]:22", "127.0.0.1:22"),
        ("[::1]:22", "[::1]:22"),
        ("[unix]:22", "unix:22"),
    ] {
        assert_eq!(read(text), Ok(target.to_owned()));
        assert_eq!(Target::parse(text).is_ok(), text == target, "{text}");
    }
    for text in
        ["[]:22", "[[::1]]:22", "[db:22", "db]:22", "[127.1]:22", "[unix]:/run/a.sock", "[db]", "[db]:0"]
    {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn paths_are_in_normal_form() {
    let longest = format!("/{}", "a".repeat(106));
    for path in ["/a", "/run/db.sock", "/run/..a/b..", "/run/a b", &longest] {
        assert_eq!(format!("unix:{path}").parse(), Ok(Target::Unix(path.into())));
    }
    let long = format!("{longest}a");
    for path in [
        "", "/", "a", "./a", "/a/", "//a", "/a//b", "/a/./b", "/a/../b", "/..", "/a/..", "/a\0", "/a\nb",
        &long,
    ] {
        assert_eq!(format!("unix:{path}").parse::<Target>(), Err(ParseTargetError::Path(path.to_owned())));
    }
}

#[test]
fn targets_that_no_text_names_are_not_normal() {
    let tcp = |host: &str, port| Target::Tcp { host: name(host), port };
    assert!(tcp("db.internal", 80).is_normal());
    for target in [
        tcp("db.internal", 0),
        tcp("DB.internal", 80),
        tcp("db.internal.", 80),
        tcp("127.1", 80),
        tcp("", 80),
        tcp("::1", 80),
        Target::Tcp { host: Host::Ip([8, 8, 8, 8].into()), port: 0 },
        Target::Unix("/run/../a".into()),
        Target::Unix("a".into()),
    ] {
        assert!(!target.is_normal(), "{target:?}");
    }
}

proptest! {
    #[test]
    fn what_is_read_is_written_and_read_again(text in "(unix:)?[a-zA-Z0-9/.:\\[\\]%*_-]{0,40}|\\PC*") {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert!(target.is_normal());
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
        if let Ok(host) = text.parse::<Host>() {
            prop_assert_eq!(host.to_string().parse(), Ok(host));
        }
    }

    #[test]
    fn no_name_is_an_address_to_the_resolver(text in "(0x)?[0-9a-fx]{1,9}(\\.(0x)?[0-9a-f]{1,4}){0,3}\\.?") {
        if let Ok(Host::Name(name)) = text.parse() {
            // Neither a number nor, as getaddrinfo has it, up to four of them in bases 8, 10 and 16.
            let number = |part: &str| {
                let hex = part.strip_prefix("0x").is_some_and(|digits| u32::from_str_radix(digits, 16).is_ok());
                hex || part.parse::<u32>().is_ok()
            };
            prop_assert!(!name.split('.').all(number), "{}", name);
        }
    }
}
