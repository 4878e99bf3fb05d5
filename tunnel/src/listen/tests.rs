use proptest::prelude::*;

use super::*;

fn tcp(text: &str) -> ListenAddress {
    ListenAddress::Tcp(text.parse().unwrap())
}

#[test]
fn binds_are_those_of_ssh() {
    for (text, address) in [
        ("8080", tcp("127.0.0.1:8080")),
        ("localhost:8080", tcp("127.0.0.1:8080")),
        ("LocalHost:0", tcp("127.0.0.1:0")),
        ("*:8080", tcp("0.0.0.0:8080")),
        (":8080", tcp("0.0.0.0:8080")),
        ("10.1.2.3:80", tcp("10.1.2.3:80")),
        ("[::]:80", tcp("[::]:80")),
        ("[127.0.0.1]:80", tcp("127.0.0.1:80")),
        ("[localhost]:80", tcp("127.0.0.1:80")),
        ("[*]:80", tcp("0.0.0.0:80")),
        ("[::ffff:127.0.0.1]:80", tcp("127.0.0.1:80")),
        ("/run/a.sock", ListenAddress::Unix("/run/a.sock".into())),
        ("unix:/run/a:b", ListenAddress::Unix("/run/a:b".into())),
    ] {
        assert_eq!(text.parse(), Ok(address), "{text}");
    }
}

#[test]
fn errors_name_the_part_that_is_wrong() {
    for text in ["", "a", "65536", "+80", "127.0.0.1:", "127.0.0.1", "[::1]", "[::1]:x"] {
        assert_eq!(text.parse::<ListenAddress>(), Err(ParseListenAddressError::Port(text.to_owned())));
    }
    for bind in ["db.internal", "127.1", "::1", "[::1", "[fe80::1%1]", "[127.1]", "[[::1]]", "[]", "**", " "]
    {
        let error = ParseListenAddressError::Address(bind.to_owned());
        assert_eq!(format!("{bind}:80").parse::<ListenAddress>(), Err(error));
    }
    for path in ["/", "/a/../b", "/a//b"] {
        assert_eq!(path.parse::<ListenAddress>(), Err(ParseListenAddressError::Path(path.to_owned())));
    }
    assert_eq!("unix:a".parse::<ListenAddress>(), Err(ParseListenAddressError::Path("a".to_owned())));
}

proptest! {
    #[test]
    fn what_is_read_is_written_and_read_again(text in "(unix:)?[a-z0-9/.:\\[\\]*]{0,30}|[*0-9.]{0,9}:[0-9]{1,5}|\\PC*") {
        if let Ok(address) = text.parse::<ListenAddress>() {
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}
