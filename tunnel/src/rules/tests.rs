use std::net::IpAddr;
use std::num::NonZero;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../rules.example.toml");

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn connect(rules: &Rules, user: &str, target: &str) -> Option<Grant> {
    rules.connect(user, &target.parse().unwrap())
}

fn listen(rules: &Rules, user: &str, address: &str) -> Option<Grant> {
    rules.listen(user, &address.parse().unwrap())
}

/// The rule whose limits hold for a connection to a name at an address.
fn rule(rules: &Rules, user: &str, target: &str, address: &str) -> Option<String> {
    Some(connect(rules, user, target)?.at(ip(address))?.rule().to_string())
}

#[test]
fn nothing_is_allowed_by_default() {
    for rules in
        [Rules::default(), Rules::parse("").unwrap(), Rules::parse("[groups]\na = ['alice']").unwrap()]
    {
        assert_eq!(connect(&rules, "alice", "example.org:80"), None);
        assert_eq!(listen(&rules, "alice", "127.0.0.1:8080"), None);
    }
}

#[test]
fn the_example_means_what_it_says() {
    let rules = Rules::parse(EXAMPLE).unwrap();
    let databases = Some("databases".to_owned());
    assert_eq!(rule(&rules, "alice", "a.b.DB.internal.:5432", "10.1.2.3"), databases);
    assert_eq!(rule(&rules, "carol", "db.example.org:6010", "fd00:1::5"), databases);
    assert_eq!(rule(&rules, "carol", "db.example.org:6011", "10.1.2.3"), None);
    assert_eq!(rule(&rules, "dave", "a.db.internal:5432", "10.1.2.3"), None);
    assert_eq!(rule(&rules, "carol", "db.internal:5432", "10.1.2.3"), None);
    assert_eq!(rule(&rules, "carol", "a.db.internal:5432", "10.2.0.1"), None);
    assert_eq!(rule(&rules, "carol", "a.db.internal:5432", "8.8.8.8"), None);
    // Addresses in place of its names.
    assert_eq!(connect(&rules, "alice", "10.1.2.3:5432"), None);

    let ssh = connect(&rules, "alice", "10.200.0.1:22").unwrap();
    assert_eq!(&**ssh.rule(), "ssh to the cluster");
    assert_eq!((ssh.max_connections(), ssh.idle_timeout()), (None, None));
    assert_eq!(connect(&rules, "carol", "10.200.0.1:22"), None);
    assert_eq!(connect(&rules, "alice", "node.cluster:22"), None);

    let internet = Some("the Internet".to_owned());
    assert_eq!(rule(&rules, "dave", "example.org:443", "8.8.8.8"), internet);
    assert_eq!(rule(&rules, "dave", "8.8.8.8:443", "8.8.8.8"), internet);
    assert_eq!(rule(&rules, "dave", "example.org:443", "127.0.0.1"), None);
    assert_eq!(connect(&rules, "dave", "127.0.0.1:443"), None);

    assert_eq!(rule(&rules, "carol", "localhost:9090", "::1").as_deref(), Some("metrics"));
    assert_eq!(rule(&rules, "carol", "localhost:9090", "127.0.0.2"), None);

    assert!(connect(&rules, "carol", "unix:/run/postgresql/.s.PGSQL.5432").is_some());
    assert!(connect(&rules, "carol", "unix:/run/kernels/1.sock").is_some());
    assert_eq!(connect(&rules, "carol", "unix:/run/kernels/a/1.sock"), None);
    assert_eq!(connect(&rules, "alice", "unix:/run/kernels/1.sock"), None);

    let web = listen(&rules, "bob", "8080").unwrap();
    assert_eq!(&**web.rule(), "web servers of agents");
    assert_eq!(web.max_connections(), NonZero::new(50));
    assert_eq!(web.idle_timeout(), Some(Duration::from_secs(600)));
    assert!(listen(&rules, "bob", "[::1]:0").is_some());
    for address in ["*:8080", "[::]:8080", "127.0.0.2:8080", "7999", "/run/callosum/alice-1.sock"] {
        assert_eq!(listen(&rules, "bob", address), None, "{address}");
    }
    assert_eq!(listen(&rules, "carol", "8080"), None);
    assert!(listen(&rules, "alice", "/run/callosum/alice-1.sock").is_some());
}

#[test]
fn a_peer_without_identity_may_do_nothing() {
    let rules = Rules::parse(EXAMPLE).unwrap();
    assert!(connect(&rules, "anybody", "example.org:80").is_some());
    assert_eq!(connect(&rules, "", "example.org:80"), None);
}

#[test]
fn groups_and_users_are_told_apart() {
    let text = r#"
        [groups]
        admins = ["alice", "eve"]
        eve = ["bob"]
        [[connect]]
        name = "group"
        groups = ["admins"]
        hosts = ["a"]
        ports = [1]
        [[connect]]
        name = "user"
        users = ["eve"]
        hosts = ["b"]
        ports = [1]
    "#;
    let rules = Rules::parse(text).unwrap();
    let may = |user, target| connect(&rules, user, target).is_some();
    assert!(may("alice", "a:1") && may("eve", "a:1") && may("eve", "b:1"));
    // Called as the group is, and a member of a group that is called as the user is.
    assert!(!may("admins", "a:1") && !may("bob", "b:1") && !may("bob", "a:1"));
    // Names are compared byte by byte.
    assert!(!may("Alice", "a:1") && !may("alice ", "a:1") && !may("*", "a:1"));
}

#[test]
fn one_rule_must_allow_all_of_a_connection() {
    // Name and port by one, the address by another.
    let text = r#"
        [[connect]]
        name = "names"
        users = ["alice"]
        hosts = ["*.internal"]
        ports = [5432]
        [[connect]]
        name = "addresses"
        users = ["alice"]
        networks = ["10.0.0.0/8"]
        ports = [22]
    "#;
    let rules = Rules::parse(text).unwrap();
    assert_eq!(rule(&rules, "alice", "a.internal:5432", "8.8.8.8").as_deref(), Some("names"));
    assert_eq!(rule(&rules, "alice", "a.internal:5432", "10.1.2.3"), None);
    assert_eq!(connect(&rules, "alice", "10.1.2.3:5432"), None);
    assert_eq!(connect(&rules, "alice", "a.internal:22"), None);
    assert!(connect(&rules, "alice", "10.1.2.3:22").is_some());
}

#[test]
fn the_first_rule_that_allows_a_connection_gives_its_limits() {
    let text = r#"
        [[connect]]
        name = "public"
        users = ["alice"]
        hosts = ["*"]
        ports = ["1-65535"]
        max_connections = 1
        [[connect]]
        name = "private"
        users = ["alice"]
        hosts = ["*"]
        networks = ["10.0.0.0/8", "8.8.8.8"]
        ports = [80]
        max_connections = 2
        idle_timeout = "1s"
    "#;
    let rules = Rules::parse(text).unwrap();
    let grant = connect(&rules, "alice", "a:80").unwrap();
    assert!(grant.admits(ip("8.8.8.8")) && grant.admits(ip("10.1.2.3")) && !grant.admits(ip("127.0.0.1")));
    let at = |address| grant.at(ip(address)).unwrap();
    assert_eq!((at("8.8.8.8").max_connections(), at("8.8.8.8").idle_timeout()), (NonZero::new(1), None));
    let private = at("10.1.2.3");
    assert_eq!(
        (private.max_connections(), private.idle_timeout()),
        (NonZero::new(2), Some(Duration::from_secs(1)))
    );
    assert_eq!(&**private.rule(), "private");
    // Once it is of one address, it is of no other.
    assert!(private.admits(ip("::ffff:10.1.2.3")) && !private.admits(ip("10.1.2.4")));
    assert_eq!(private.at(ip("8.8.8.8")), None);
    assert_eq!(&**connect(&rules, "alice", "10.1.2.3:80").unwrap().rule(), "private");
}

#[test]
fn a_rule_with_paths_alone_allows_no_host() {
    let text = "[[connect]]\nname = 'a'\nusers = ['alice']\npaths = ['/run/*']";
    let rules = Rules::parse(text).unwrap();
    let grant = connect(&rules, "alice", "unix:/run/a").unwrap();
    assert!(!grant.admits(ip("8.8.8.8")) && grant.at(ip("8.8.8.8")).is_none());
    assert_eq!(connect(&rules, "alice", "8.8.8.8:80"), None);
    assert_eq!(connect(&rules, "alice", "a:80"), None);
}

#[test]
fn targets_that_no_text_names_are_denied() {
    let text = r#"
        [[connect]]
        name = "all"
        users = ["*"]
        hosts = ["*"]
        ports = ["1-65535"]
        paths = ["/run/*"]
        [[listen]]
        name = "all listens"
        users = ["*"]
        paths = ["/run/*"]
        addresses = ["127.0.0.1"]
        ports = ["1-65535"]
    "#;
    let rules = Rules::parse(text).unwrap();
    let tcp = |host: &str, port| Target::Tcp { host: Host::Name(host.to_owned()), port };
    assert!(rules.connect("alice", &tcp("a.internal", 80)).is_some());
    for target in [
        tcp("127.1", 80),
        tcp("0x7f000001", 80),
        tcp("A.internal", 80),
        tcp("a.internal.", 80),
        tcp("a", 0),
        Target::Tcp { host: Host::Ip(ip("::ffff:127.0.0.1")), port: 80 },
        Target::Unix("/run/..".into()),
        Target::Unix("/run/../run/a".into()),
        Target::Unix("/run//a".into()),
        Target::Unix("run/a".into()),
    ] {
        assert_eq!(rules.connect("alice", &target), None, "{target:?}");
    }
    let unix = |path: &str| rules.listen("alice", &ListenAddress::Unix(path.into()));
    assert!(unix("/run/a").is_some() && unix("/run/..").is_none() && unix("/run/").is_none());
    let tcp = |address: &str| rules.listen("alice", &ListenAddress::Tcp(address.parse().unwrap()));
    assert!(tcp("[::ffff:127.0.0.1]:80").is_some() && tcp("127.0.0.1:0").is_none());
}

#[test]
fn a_grant_changes_with_its_rule_alone() {
    let text = |users: &str, port: u16, limit: u32| {
        let rest = format!("hosts = ['a']\nports = [{port}]\nmax_connections = {limit}\n");
        let other = "[[connect]]\nname = 'other'\nusers = ['bob']\nhosts = ['a']\nports = [1]\n";
        Rules::parse(&format!("{other}[[connect]]\nname = 'rule'\nusers = [{users}]\n{rest}")).unwrap()
    };
    let ask = |rules: Rules| connect(&rules, "alice", "a:80").and_then(|grant| grant.at(ip("8.8.8.8")));
    let before = ask(text("'alice', 'bob'", 80, 5));
    assert!(before.is_some());
    assert_eq!(ask(text("'alice'", 80, 5)), before);
    assert_ne!(ask(text("'alice'", 80, 6)), before);
    assert_eq!(ask(text("'bob'", 80, 5)), None);
    assert_eq!(ask(text("'alice'", 81, 5)), None);
}

/// The mistake in a text, which has `§` at the position that the error should name.
fn mistake(text: &str) -> Mistake {
    let before = text.split('§').next().unwrap();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&character| character != '\n').count() + 1;
    let error = Rules::parse(&text.replace('§', "")).expect_err(text);
    assert_eq!((error.line, error.column), (line, column), "{error} in {text}");
    assert!(error.to_string().starts_with(&format!("line {line}, column {column}: ")));
    error.mistake
}

fn syntax(text: &str, expected: &str) {
    match mistake(text) {
        Mistake::Syntax(message) => assert!(message.contains(expected), "{message:?} in {text}"),
        other => panic!("{other:?} in {text}"),
    }
}

#[test]
fn mistakes_of_syntax_are_told_with_their_place() {
    syntax("\n[[connect§\n", "");
    syntax("[groups]\nä = \"ö\" §x\n", "");
    syntax("[groups]\na = [\"b\"]\n§a = [\"c\"]\n", "duplicate key");
    syntax("[[connect]]\nname = \"a\"\n§host = [\"b\"]\n", "unknown field `host`");
    syntax("[[listen]]\nname = \"a\"\n§hosts = [\"b\"]\n", "unknown field `hosts`");
    syntax("[[§conect]]\nname = \"a\"\n", "unknown field `conect`");
    syntax("§[[connect]]\nusers = [\"a\"]\n", "missing field `name`");
    syntax("[[connect]]\nname = §5\n", "invalid type");
    syntax("[[connect]]\nname = 'a'\nusers = §'b'\n", "invalid type");
    syntax("[[connect]]\nname = 'a'\nusers = ['b', §1]\n", "invalid type");
    syntax("[[connect]]\nname = 'a'\nhosts = ['b']\nports = [22, §true]\n", "expected a port");
    syntax("[[connect]]\nname = 'a'\nmax_connections = §'5'\n", "invalid type");
    syntax("[[connect]]\nname = 'a'\nidle_timeout = §5\n", "invalid type");
    syntax("[[connect]]\nname = 'a'\nproxy_protocol = §'yes'\n", "invalid type");
    syntax("[[listen]]\nname = 'a'\n§proxy_protocol = true\n", "unknown field");
    syntax("groups = §5\n", "invalid type");
}

#[test]
fn a_text_that_is_not_utf_8_is_told_with_its_place() {
    let error = Rules::parse_bytes(b"[groups]\n# \xc3\xa4\n\xc3\xa4 = [\"\xe4\"]\n").unwrap_err();
    assert_eq!((error.line, error.column, error.mistake), (3, 7, Mistake::NotUtf8));
    assert!(Rules::parse_bytes(EXAMPLE.as_bytes()).is_ok() && Rules::parse_bytes(b"").is_ok());
    let error = Rules::parse_bytes("ä = 1".as_bytes()).unwrap_err();
    assert_eq!((error.line, error.column), (1, 1));
}

/// A rule for alice with these lines.
fn in_connect(lines: &str) -> Mistake {
    mistake(&format!("[[connect]]\nname = 'a'\nusers = ['alice']\n{lines}\n"))
}

fn in_listen(lines: &str) -> Mistake {
    mistake(&format!("[[listen]]\nname = 'a'\nusers = ['alice']\n{lines}\n"))
}

#[test]
fn mistakes_of_names_are_told_with_their_place() {
    let rule = "users = ['alice']\nhosts = ['a']\nports = [1]\n";
    let twice = format!("[[connect]]\nname = 'ü'\n{rule}[[connect]]\nname = §'ü'\n{rule}");
    assert_eq!(mistake(&twice), Mistake::DuplicateName("ü".to_owned()));
    let both =
        format!("[[connect]]\nname = 'a'\n{rule}[[listen]]\nname = §'a'\nusers = ['b']\npaths = ['/a']\n");
    assert_eq!(mistake(&both), Mistake::DuplicateName("a".to_owned()));
    for name in ["", " a", "a ", "a\\u0007", "\\n"] {
        for text in [
            format!("[[connect]]\nname = §\"{name}\"\n{rule}"),
            format!("[[connect]]\nname = 'a'\nhosts = ['a']\nports = [1]\nusers = ['x', §\"{name}\"]\n"),
            format!("[groups]\na = ['x', §\"{name}\"]\n"),
            format!("[groups]\n§\"{name}\" = ['x']\n"),
        ] {
            assert!(matches!(mistake(&text), Mistake::Name(_)), "{text}");
        }
    }
    assert_eq!(mistake("[groups]\na = ['b', §'*']\n"), Mistake::EveryoneInGroup);
    let unknown = format!("[groups]\nb = []\n[[connect]]\nname = 'a'\ngroups = ['b', §'alice']\n{rule}");
    assert_eq!(mistake(&unknown), Mistake::UnknownGroup("alice".to_owned()));
    let nobody = "[[connect]]\nname = §'a'\nusers = []\nhosts = ['a']\nports = [1]\n";
    assert_eq!(mistake(nobody), Mistake::NoUsers("a".to_owned()));
}

#[test]
fn mistakes_of_targets_are_told_with_their_place() {
    let a = || "a".to_owned();
    assert_eq!(mistake("[[connect]]\nname = §'a'\nusers = ['alice']\n"), Mistake::NoTargets(a()));
    assert_eq!(mistake("[[listen]]\nname = §'a'\nusers = ['alice']\n"), Mistake::NoAddresses(a()));
    assert_eq!(
        mistake("[[connect]]\nname = §'a'\nusers = ['alice']\nhosts = ['b']\n"),
        Mistake::NoPorts(a())
    );
    assert_eq!(
        mistake("[[listen]]\nname = §'a'\nusers = ['b']\naddresses = ['::1']\n"),
        Mistake::NoPorts(a())
    );
    assert_eq!(in_connect("ports = [§1]"), Mistake::StrayPorts(a()));
    assert_eq!(in_connect("paths = ['/a']\nports = [§1, 2]"), Mistake::StrayPorts(a()));
    assert_eq!(in_listen("ports = [§1]\npaths = ['/a']"), Mistake::StrayPorts(a()));
    for address in ["10.1.2.3", "::1", "[::1]"] {
        let mistake = in_connect(&format!("ports = [1]\nhosts = ['b', §'{address}']"));
        assert_eq!(mistake, Mistake::AddressInHosts(address.to_owned()));
    }
    for host in ["", "a.*", "*b", "127.1", "10.1.*", "b:80", "bücher.example"] {
        assert_eq!(
            in_connect(&format!("ports = [1]\nhosts = ['b', §'{host}']")),
            Mistake::Host(host.to_owned())
        );
    }
    for network in [
        "",
        "10.1",
        "10.0.0.0/33",
        "::/129",
        "fe80::1%1",
        "db.internal",
        "::ffff:10.0.0.0/104",
        "10.0.0.0/+8",
    ] {
        let mistake = in_connect(&format!("networks = [ §'{network}' ]\nports = [1]"));
        assert_eq!(mistake, Mistake::Network(network.to_owned()));
    }
    let bits = Mistake::NetworkBits { given: "10.1.2.3/16".to_owned(), network: "10.1.0.0/16".to_owned() };
    assert_eq!(in_connect("networks = ['::1', §'10.1.2.3/16']\nports = [1]"), bits);
    for port in ["0", "65536", "-1", "'0-5'", "'5-1'", "'a'", "''", "'+5'"] {
        let mistake = in_connect(&format!("hosts = ['b']\nports = [22, §{port}]"));
        assert_eq!(mistake, Mistake::Port(port.trim_matches('\'').to_owned()));
    }
    assert_eq!(in_listen("addresses = ['::1']\nports = [0, §'0-5']"), Mistake::Port("0-5".to_owned()));
    for path in ["", "a", "/a/../b", "/a//b", "/", "unix:/a"] {
        assert_eq!(in_connect(&format!("paths = ['/x', §'{path}']")), Mistake::Path(path.to_owned()));
        assert_eq!(in_listen(&format!("paths = [§'{path}']")), Mistake::Path(path.to_owned()));
    }
    for address in ["", "localhost", "*", "127.1", "[::1]", "10.0.0.0/8"] {
        let mistake = in_listen(&format!("ports = [1]\naddresses = ['::1', §'{address}']"));
        assert_eq!(mistake, Mistake::Address(address.to_owned()));
    }
}

#[test]
fn mistakes_of_limits_are_told_with_their_place() {
    for number in [0, -1, 4_294_967_296, i64::MIN] {
        let lines = format!("max_connections = §{number}");
        assert_eq!(in_connect(&format!("paths = ['/a']\n{lines}")), Mistake::MaxConnections(number));
        assert_eq!(in_listen(&format!("{lines}\npaths = ['/a']")), Mistake::MaxConnections(number));
    }
    for time in
        ["", "0s", "5", "-5s", "5 parsecs", "1year 1s", "18446744073709551615s", "99999999999999999999s"]
    {
        let mistake = in_connect(&format!("paths = ['/a']\nidle_timeout = §'{time}'"));
        assert_eq!(mistake, Mistake::IdleTimeout(time.to_owned()));
    }
    let rules =
        Rules::parse("[[connect]]\nname='a'\nusers=['b']\npaths=['/a']\nidle_timeout='1year'").unwrap();
    let grant = connect(&rules, "b", "unix:/a").unwrap();
    assert_eq!(grant.idle_timeout(), Some(Duration::from_secs(31_557_600)));
}

/// Rules that are mostly whole.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(0x81_u8), Just(0x82)];
    let rule = (kind, proptest::collection::vec(0x83_u8..0x95, 0..10)).prop_map(|(kind, mut lines)| {
        lines.sort_unstable();
        lines.dedup();
        lines.insert(0, kind);
        lines
    });
    let rules =
        proptest::collection::vec(rule, 0..3).prop_map(|rules| [&[0x80, 0x88], &rules.concat()[..]].concat());
    prop_oneof![2 => rules, 1 => proptest::collection::vec(0x80_u8.., 0..40), 1 => any::<Vec<u8>>()]
}

proptest! {
    #[test]
    fn rules_allow_no_more_than_they_say(text in texts()) {
        fuzzing::rules(&text);
    }
}
