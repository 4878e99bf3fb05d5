use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn public_addresses_are_public() {
    for text in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.169.0.0",
        "198.20.0.0",
        "223.255.255.255",
        "2600::1",
        "2001:200::1",
        "2606:4700:4700::1111",
        "::ffff:1.1.1.1",
        // Behind NAT64, by 6to4, and with the interface identifier of ISATAP.
        "64:ff9b::1.1.1.1",
        "2002:101:101::1",
        "2600::5efe:1.1.1.1",
    ] {
        assert!(is_public(ip(text)), "{text}");
    }
}

#[test]
fn special_addresses_are_not_public() {
    for text in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "100::1",
        "1fff::1",
        "2001::1",
        "2001:2::1",
        "2001:20::1",
        "2001:db8::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "8000::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert!(!is_public(ip(text)), "{text}");
    }
}

#[test]
fn ipv6_forms_of_special_ipv4_addresses_are_not_public() {
    for v4 in SPECIAL_V4.map(|range| range.network()) {
        let [a, b, c, d] = v4.octets();
        let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
        let inverted = format!("{:02x}{:02x}:{:02x}{:02x}", !a, !b, !c, !d);
        for text in [
            format!("::ffff:{v4}"),
            format!("::{v4}"),
            format!("::ffff:0:{v4}"),
            format!("64:ff9b::{v4}"),
            format!("64:ff9b:1::{v4}"),
            format!("2002:{hex}::1"),
            format!("2001:0:{hex}::1"),
            format!("2001:0:808:808::{inverted}"),
            format!("2600::5efe:{v4}"),
            format!("2600::200:5efe:{v4}"),
        ] {
            assert!(!is_public(ip(&text)), "{text}");
        }
    }
}

#[test]
fn a_network_around_a_special_range_does_not_name_it() {
    let all = networks(&["0.0.0.0/0", "::/0"]);
    assert!(
        admits(&all, ip("1.1.1.1")) && admits(&all, ip("2600::1")) && admits(&all, ip("64:ff9b::1.1.1.1"))
    );
    for text in [
        "10.1.2.3",
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
    ] {
        assert!(!admits(&all, ip(text)), "{text}");
    }
    // Half of 10.0.0.0/7 is private.
    assert!(admits(&networks(&["10.0.0.0/7"]), ip("11.0.0.1")));
    assert!(!admits(&networks(&["10.0.0.0/7"]), ip("10.0.0.1")));
    // The smallest range counts.
    assert!(!admits(&networks(&["240.0.0.0/4"]), ip("255.255.255.255")));
    assert!(!admits(&networks(&["::/96"]), ip("::1")));
}

#[test]
fn a_network_within_a_special_range_names_it() {
    for (network, inside, outside) in [
        ("10.0.0.0/8", "10.1.2.3", "11.0.0.1"),
        ("10.1.0.0/16", "10.1.2.3", "10.2.0.1"),
        ("127.0.0.1/32", "127.0.0.1", "127.0.0.2"),
        ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
        ("127.0.0.0/8", "127.0.0.1", "::127.0.0.1"),
        ("127.0.0.0/8", "127.0.0.1", "64:ff9b::127.0.0.1"),
        ("::1/128", "::1", "127.0.0.1"),
        ("fd00::/8", "fd12::1", "fc00::1"),
        ("64:ff9b::/96", "64:ff9b::1.1.1.1", "64:ff9b::127.0.0.1"),
        ("64:ff9b:1::/48", "64:ff9b:1::10.1.2.3", "64:ff9b:2::1"),
        ("1.1.1.1/32", "1.1.1.1", "1.1.1.2"),
    ] {
        let networks = networks(&[network]);
        assert!(admits(&networks, ip(inside)), "{inside} in {network}");
        assert!(!admits(&networks, ip(outside)), "{outside} in {network}");
    }
}

#[test]
fn an_embedded_address_must_be_named_beside_its_form() {
    for (form, address) in [
        ("64:ff9b::/96", "64:ff9b::10.1.2.3"),
        ("2002::/16", "2002:a01:203::1"),
        ("::/96", "::10.1.2.3"),
        ("2001::/32", "2001:0:808:808::f5fe:fdfc"),
        ("2001::/32", "2001:0:a01:203::f7f7:f7f7"),
    ] {
        assert!(!admits(&networks(&[form]), ip(address)), "{address}");
        assert!(!admits(&networks(&["10.0.0.0/8"]), ip(address)), "{address}");
        assert!(admits(&networks(&[form, "10.0.0.0/8"]), ip(address)), "{address}");
    }
}
