use std::collections::BTreeSet;

use callosum_runtime::ErrorInfo;

use super::*;

fn remote(name: &str) -> CallError {
    CallError::Remote(ErrorInfo::new(name, "so it is"))
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: BTreeSet<_> = REASONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), REASONS.len());
    for (name, of) in REASONS {
        assert_eq!(reason(&remote(name)), of);
    }
    assert_eq!(reason(&remote("OfALaterVersion")), Reason::Failed);
    let rejected = |refusal: Refusal| CallError::Rejected(refusal.to_error("so it is"));
    assert_eq!(reason(&rejected(Refusal::Busy)), Reason::Busy);
    assert_eq!(reason(&rejected(Refusal::NoSuchMethod)), Reason::NotOffered);
    assert_eq!(reason(&CallError::NotSent(NotSent::NotConnected)), Reason::NotConnected);
}

#[test]
fn every_end_has_a_name_of_its_own() {
    for (name, of) in ENDS {
        let expected = if of == End::ResetHere { End::ResetThere } else { of };
        assert_eq!(end(&remote(name)), expected, "{name}");
    }
    assert_eq!(end(&remote("OfALaterVersion")), End::ResetThere);
    assert_eq!(end(&CallError::NotSent(NotSent::NotConnected)), End::LinkLost);
}

#[test]
fn metadata_that_can_not_be_read_is_told() {
    let mut metadata = Metadata::new();
    assert_eq!(target(&metadata).unwrap_err().to_string(), "metadata \"target\": it is missing");
    metadata.insert(TARGET, &b"\xff:80"[..]).unwrap();
    assert!(target(&metadata).unwrap_err().to_string().contains("utf-8"));
    metadata.insert(TARGET, "host").unwrap();
    assert!(target(&metadata).is_err());
    metadata.insert(TARGET, "[host]:80").unwrap();
    assert!(target(&metadata).is_err(), "only users may write brackets around it");
    metadata.insert(TARGET, "host:80").unwrap();
    assert_eq!(target(&metadata).unwrap().to_string(), "host:80");
    for (name, is_good) in [("1", true), ("", false), ("x", false), ("123456789012345678901", false)] {
        metadata.insert(METHOD, format!("{INCOMING}{name}")).unwrap();
        assert_eq!(method(&metadata).is_ok(), is_good, "{name}");
    }
}

/// Users may write less.
#[test]
fn an_address_to_listen_on_is_complete() {
    let read = |text: &str| {
        let mut metadata = Metadata::new();
        metadata.insert(ADDRESS, text.to_owned()).unwrap();
        address(&metadata).map(|address| address.to_string()).ok()
    };
    for (text, expected) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::1]:80", "[::1]:80"),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
    ] {
        assert_eq!(read(text).as_deref(), Some(expected), "{text}");
    }
    for text in
        ["80", ":80", "*:80", "localhost:80", "[127.0.0.1]:80", "[fe80::1%1]:80", "/run/a.sock", "unix:a"]
    {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn a_source_that_can_not_be_read_is_none() {
    let mut metadata = Metadata::new();
    assert_eq!(source(&metadata), None);
    metadata.insert(SOURCE, "somewhere").unwrap();
    assert_eq!(source(&metadata), None);
    let address = "[::1]:80".parse().unwrap();
    assert_eq!(source(&connect(None, Some(address)).unwrap()), Some(address));
}
