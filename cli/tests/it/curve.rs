//! Keys, and who gets in with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{Ended, Process, RUNTIMES, Server, wait_until};
use rustix::process::Signal;

/// A directory with keys in it.
struct Keys(PathBuf);

impl Keys {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("callosum-keys-{}-{number}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let keys = Self(directory);
        for name in ["server", "alice", "eve"] {
            let made = Process::start(&["keygen", &keys.file(name)]).end().expect(0);
            assert_eq!(made.stdout, [keys.public(name)]);
        }
        keys
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.file(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.file(name), text).unwrap();
        self.file(name)
    }

    fn serve(&self, runtime: &'static str, allow: &str) -> Server {
        Server::demo(runtime, "json", &["--curve-key", &self.file("server"), "--allow", allow])
    }

    /// `whoami` with the keys of this name.
    fn whoami(&self, server: &Server, name: &str) -> Ended {
        let (key, server_key) = (self.file(name), self.public("server"));
        server.call(&["whoami", "--curve-key", &key, &format!("--server-key={server_key}")])
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // What can't be removed lies where the system cleans.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn user(ended: &Ended) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(&ended.stdout[0]).unwrap()["user"].clone()
}

#[test]
fn keygen_writes_a_pair_once() {
    let keys = Keys::new();
    let secret = fs::read_to_string(keys.file("server")).unwrap();
    assert_eq!((secret.len(), keys.public("server").len()), (41, 40));
    assert_eq!(fs::metadata(keys.file("server")).unwrap().permissions().mode() & 0o777, 0o600);
    Process::start(&["keygen", &keys.file("server")]).end().expect(1).expect_stderr("exists");
    assert_eq!(fs::read_to_string(keys.file("server")).unwrap(), secret);
    assert!(!Path::new(&keys.file("server.pub.pub")).exists());
}

#[test]
fn allowed_keys_get_in_and_others_learn_that_they_do_not() {
    let keys = Keys::new();
    let allow = keys.write("allowed", &format!("# everybody\n{} Alice A.\n", keys.public("alice")));
    for runtime in RUNTIMES {
        let server = keys.serve(runtime, &allow);
        assert_eq!(user(&keys.whoami(&server, "alice").expect(0)), "Alice A.");
        let refused = keys.whoami(&server, "eve").expect(9).expect_stderr("did not admit");
        assert!(refused.stdout.is_empty());

        let endpoint = &server.endpoint;
        let (alice, eve, key) = (keys.file("alice"), keys.file("eve"), keys.file("server.pub"));
        let ping =
            ["ping", endpoint, "--count", "1", "--runtime", runtime, "--server-key", &key, "--curve-key"];
        Process::start(&[&ping[..], &[&alice]].concat()).end().expect(0);
        Process::start(&[&ping[..], &[&eve]].concat()).end().expect(9);
        // Another server's key, and no CURVE at all.
        let wrong = keys.file("eve.pub");
        server.call(&["whoami", "--curve-key", &alice, "--server-key", &wrong]).expect(9);
        server.call(&["whoami"]).expect(9).expect_stderr("CURVE");
    }
}

#[test]
fn curve_does_not_fall_back() {
    let keys = Keys::new();
    for runtime in RUNTIMES {
        let server = Server::demo(runtime, "json", &[]);
        keys.whoami(&server, "alice").expect(9).expect_stderr("NULL");
    }
}

#[test]
fn a_directory_names_its_users_and_is_followed() {
    for runtime in RUNTIMES {
        let keys = Keys::new();
        let allowed = keys.file("allowed");
        fs::create_dir(&allowed).unwrap();
        let alice = format!("{allowed}/alice.pub");
        fs::copy(keys.file("alice.pub"), &alice).unwrap();
        let server = keys.serve(runtime, &allowed);
        assert_eq!(user(&keys.whoami(&server, "alice").expect(0)), "alice");
        keys.whoami(&server, "eve").expect(9);
        fs::copy(keys.file("eve.pub"), format!("{allowed}/eve.pub")).unwrap();
        fs::remove_file(alice).unwrap();
        wait_until("eve", || keys.whoami(&server, "eve").code == Some(0));
        keys.whoami(&server, "alice").expect(9);
    }
}

#[test]
fn bad_keys_are_told() {
    let keys = Keys::new();
    let (server, allow) = (keys.file("server"), keys.write("allowed", ""));
    let serve = |key: &str, allow: &str| {
        let serve = ["serve", "--demo", "--bind", "tcp://127.0.0.1:*", "--curve-key", key, "--allow", allow];
        Process::start(&serve).end()
    };
    serve(&keys.file("none"), &allow).expect(1).expect_stderr("none");
    serve(&server, &keys.file("none")).expect(1).expect_stderr("none");
    let ended = serve(&keys.file("server.pub"), &allow).expect(1).expect_stderr("chmod 600");
    assert!(!ended.stderr.join("\n").contains(&keys.public("server")));
    let call = ["call", "tcp://127.0.0.1:1", "echo", "--curve-key", &server, "--server-key", "nonsense"];
    Process::start(&call)
        .end()
        .expect(1)
        .expect_stderr("nonsense: not a public key (a key has 40 characters");
    Process::start(&call[..5]).end().expect(2);
    Process::start(&["serve", "--demo", "--bind", "tcp://127.0.0.1:*", "--curve-key", &server])
        .end()
        .expect(2);
}

#[test]
fn plaintext_for_everybody_must_be_asked_for() {
    let refused = Process::start(&["serve", "--demo", "--bind", "tcp://*:*"]).end().expect(1);
    refused.expect_stderr("--allow-plaintext");
    let server = Process::start(&["serve", "--demo", "--bind", "tcp://*:*", "--allow-plaintext"]);
    assert!(server.line().starts_with("listening on tcp://0.0.0.0:"));
    server.signal(Signal::TERM);
    let warnings = server.end().expect(0).stderr;
    assert_eq!(warnings.iter().filter(|line| line.contains("not encrypted")).count(), 1, "{warnings:?}");
}

#[test]
fn keys_that_cannot_be_read_are_told() {
    let keys = Keys::new();
    let allow =
        keys.write("allowed", &format!("{} alice\n{}x eve\n", keys.public("alice"), keys.public("eve")));
    let server = Process::start(&[
        "serve",
        "--demo",
        "--bind",
        "tcp://127.0.0.1:*",
        "--curve-key",
        &keys.file("server"),
        "--allow",
        &allow,
    ]);
    server.line();
    server.signal(Signal::TERM);
    server.end().expect(0).expect_stderr("line=2");
}
