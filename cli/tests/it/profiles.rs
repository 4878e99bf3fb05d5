//! Servers and keys from the config file and the environment.

use std::fs;
use std::process::Command;

use crate::common::scratch::Scratch;
use crate::common::{Ended, Process, Server, command};

/// A directory with keys, a server that admits `alice`, and a config file.
struct Setup {
    scratch: Scratch,
    server: Server,
}

impl Setup {
    fn new() -> Self {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("config/callosum")).unwrap();
        for name in ["server", "alice", "bob"] {
            Process::start(&["keygen", &scratch.text(&format!("config/callosum/{name}"))]).end().expect(0);
        }
        let key =
            |name: &str| fs::read_to_string(scratch.path(&format!("config/callosum/{name}.pub"))).unwrap();
        let users = format!("{} alice\n{} bob\n", key("alice").trim(), key("bob").trim());
        fs::write(scratch.path("allowed"), users).unwrap();
        let server_key = scratch.text("config/callosum/server");
        let server =
            Server::demo("tokio", "json", &["--curve-key", &server_key, "--allow", &scratch.text("allowed")]);
        Self { scratch, server }
    }

    fn key(&self, name: &str) -> String {
        self.scratch.text(&format!("config/callosum/{name}"))
    }

    fn configure(&self, text: &str) {
        fs::write(self.scratch.path("config/callosum/config.toml"), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.env("XDG_CONFIG_HOME", self.scratch.path("config"));
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        Process::spawn(self.command(args)).end()
    }
}

#[track_caller]
fn user(ended: Ended) -> String {
    let answer: serde_json::Value = serde_json::from_str(&ended.expect(0).stdout[0]).unwrap();
    answer["user"].as_str().unwrap().to_owned()
}

#[test]
fn a_server_has_a_name() {
    let setup = Setup::new();
    let endpoint = &setup.server.endpoint;
    setup.configure(&format!(
        "[servers.prod]\nendpoint = \"{endpoint}\"\ncurve_key = \"alice\"\nserver_key = \"server.pub\"\n"
    ));
    assert_eq!(user(setup.run(&["call", "prod", "whoami"])), "alice");
    setup.run(&["ping", "prod", "--count", "1"]).expect(0);
    setup.run(&["file", "ls", "prod"]).expect(4).expect_stderr("--files");
    // What is said for one command wins over the file, and the file over the environment.
    assert_eq!(user(setup.run(&["call", "prod", "whoami", "--curve-key", &setup.key("bob")])), "bob");
    let mut call = setup.command(&["call", "prod", "whoami"]);
    call.env("CALLOSUM_CURVE_KEY", setup.key("bob")).env("CALLOSUM_SERVER_KEY", setup.key("bob.pub"));
    assert_eq!(user(Process::spawn(call).end()), "alice");
    // The file may be elsewhere.
    let mut call = command(&["call", "prod", "whoami"]);
    call.env("CALLOSUM_CONFIG", setup.key("config.toml"));
    assert_eq!(user(Process::spawn(call).end()), "alice");
}

#[test]
fn the_environment_describes_a_server() {
    let setup = Setup::new();
    let call = |server: &str, endpoint: &str| {
        let mut call = setup.command(&["call", server, "whoami"]);
        call.env("CALLOSUM_ENDPOINT", endpoint);
        call.env("CALLOSUM_CURVE_KEY", setup.key("alice"));
        call.env("CALLOSUM_SERVER_KEY", setup.key("server.pub"));
        Process::spawn(call).end()
    };
    let endpoint = &setup.server.endpoint;
    assert_eq!(user(call("env", endpoint)), "alice");
    assert_eq!(user(call(endpoint, "")), "alice", "keys are for other endpoints too");
    call("env", "").expect(2).expect_stderr("$CALLOSUM_ENDPOINT, which is not set");
    call("env", "h:1").expect(2).expect_stderr("$CALLOSUM_ENDPOINT: `h:1` is not an endpoint");
    // What the file lacks.
    setup.configure(&format!("[servers.prod]\nendpoint = \"{endpoint}\"\n"));
    assert_eq!(user(call("prod", "")), "alice");
    let mut half = setup.command(&["call", "prod", "whoami"]);
    half.env("CALLOSUM_CURVE_KEY", setup.key("alice"));
    Process::spawn(half).end().expect(2).expect_stderr("--server-key");
    setup
        .run(&["call", "prod", "whoami", "--server-key", &setup.key("server.pub")])
        .expect(2)
        .expect_stderr("--curve-key");
}

#[test]
fn what_is_wrong_with_the_config_is_told_with_its_place() {
    let setup = Setup::new();
    let file = setup.key("config.toml");
    setup.run(&["call", "prod", "x"]).expect(2).expect_stderr(&format!("{file}, which does not exist"));
    setup.configure(
        "[servers.dev]\nendpoint = \"tcp://127.0.0.1:1\"\n[servers.test]\nendpoint = \"ipc:///x\"\n",
    );
    let unknown = setup.run(&["call", "prod", "x"]).expect(2).expect_stderr("which has dev, test");
    unknown.expect_stderr("[servers.prod]");
    setup.configure("[servers.dev]\n  endpoint = 7\n");
    setup.run(&["call", "dev", "x"]).expect(2).expect_stderr(&format!("{file}:2:14: "));
    // It is in nobody's way who does not need it.
    setup.run(&["ping", "tcp://127.0.0.1:1", "--count", "1"]).expect(7);
    let mut call = command(&["call", "dev", "x"]);
    call.env("CALLOSUM_CONFIG", "/nowhere/config.toml");
    Process::spawn(call).end().expect(2).expect_stderr("can't read /nowhere/config.toml");
}

#[test]
fn a_server_is_configured_by_its_environment() {
    let setup = Setup::new();
    let mut serve = command(&["serve", "--demo"]);
    serve.env("CALLOSUM_SERVE_BIND", "tcp://127.0.0.1:*");
    serve.env("CALLOSUM_SERVE_CURVE_KEY", setup.key("server"));
    serve.env("CALLOSUM_SERVE_ALLOW", setup.scratch.path("allowed"));
    let server = Process::spawn(serve);
    let endpoint = server.line().strip_prefix("listening on ").unwrap().to_owned();
    let (key, server_key) = (setup.key("bob"), setup.key("server.pub"));
    let call = ["call", &endpoint, "whoami", "--curve-key", &key, "--server-key", &server_key];
    assert_eq!(user(setup.run(&call)), "bob");
}
