use proptest::prelude::*;

use super::*;

#[test]
fn every_form_of_ssh_is_read() {
    for (text, listen, target) in [
        ("8080:db.internal:5432", "127.0.0.1:8080", "db.internal:5432"),
        (":8080:db:80", "0.0.0.0:8080", "db:80"),
        ("*:8080:db:80", "0.0.0.0:8080", "db:80"),
        ("localhost:8080:db:80", "127.0.0.1:8080", "db:80"),
        ("10.0.0.1:0:10.1.2.3:80", "10.0.0.1:0", "10.1.2.3:80"),
        ("[::1]:8080:[fd00::1]:80", "[::1]:8080", "[fd00::1]:80"),
        ("8080:[fd00::1]:80", "127.0.0.1:8080", "[fd00::1]:80"),
        ("8080:/run/app.sock", "127.0.0.1:8080", "unix:/run/app.sock"),
        ("8080:unix:/run/app.sock", "127.0.0.1:8080", "unix:/run/app.sock"),
        ("[::]:8080:/run/app.sock", "[::]:8080", "unix:/run/app.sock"),
        ("/run/a.sock:db:80", "unix:/run/a.sock", "db:80"),
        ("unix:/run/a.sock:[::1]:80", "unix:/run/a.sock", "[::1]:80"),
        ("/run/a.sock:/run/b.sock", "unix:/run/a.sock", "unix:/run/b.sock"),
        ("unix:/run/a.sock:unix:/run/b.sock", "unix:/run/a.sock", "unix:/run/b.sock"),
        ("8080:unix:80", "127.0.0.1:8080", "unix:80"),
        ("8080:[localhost]:80", "127.0.0.1:8080", "localhost:80"),
        ("[localhost]:8080:[10.1.2.3]:80", "127.0.0.1:8080", "10.1.2.3:80"),
        ("[*]:8080:[db]:80", "0.0.0.0:8080", "db:80"),
    ] {
        let spec = text.parse::<ForwardSpec>().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(spec, ForwardSpec::new(listen.parse().unwrap(), target.parse().unwrap()), "{text}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    for text in [
        "",
        "8080",
        "8080:db",
        "::1:8080:db:80",
        "1:2:3:4:5",
        "[::1:80:db:80",
        "/a:8080:/b",
        "/a:1:db:80",
        "/a",
        "8080:/a:/b",
    ] {
        assert_eq!(text.parse::<ForwardSpec>(), Err(ParseForwardError::Shape(text.to_owned())), "{text}");
    }
    let listen = |error| Err(ParseForwardError::Listen(error));
    assert_eq!("x:db:80".parse::<ForwardSpec>(), listen(ParseListenAddressError::Port("x".to_owned())));
    let address = ParseListenAddressError::Address("example.org".to_owned());
    assert_eq!("example.org:1:db:80".parse::<ForwardSpec>(), listen(address));
    let target = |error| Err(ParseForwardError::Target(error));
    assert_eq!("1:db:0".parse::<ForwardSpec>(), target(ParseTargetError::Port("db:0".to_owned())));
    assert_eq!("1:127.1:80".parse::<ForwardSpec>(), target(ParseTargetError::Host("127.1".to_owned())));
    assert_eq!("1:/a/../b".parse::<ForwardSpec>(), target(ParseTargetError::Path("/a/../b".to_owned())));
}

proptest! {
    #[test]
    fn what_is_read_is_written_and_read_again(
        text in "[0-9]{1,4}:[a-z0-9.]{1,9}:[0-9]{1,4}|((unix:)?/[a-z]{1,3}|\\[::1\\]|[0-9]{1,3}|:){0,6}|\\PC*",
    ) {
        if let Ok(spec) = text.parse::<ForwardSpec>() {
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }
}
