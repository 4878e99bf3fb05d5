//! `callosum serve --tunnels` under CURVE, and what a user of it is started with.

use std::fs;
use std::process::Command;

use super::scratch::Scratch;
use super::{Process, Server};

/// A server that admits alice, with rules about her.
pub(crate) struct Gateway {
    pub(crate) scratch: Scratch,
    pub(crate) server: Server,
}

impl Gateway {
    pub(crate) fn new(runtime: &'static str, rules: &str) -> Self {
        Self::spawn(runtime, rules, Process::spawn)
    }

    /// One whose process starts like this.
    pub(crate) fn spawn(runtime: &'static str, rules: &str, spawn: impl FnOnce(Command) -> Process) -> Self {
        let scratch = Scratch::new();
        for name in ["server", "alice"] {
            Process::start(&["keygen", &scratch.text(name)]).end().expect(0);
        }
        let alice = fs::read_to_string(scratch.path("alice.pub")).expect("it was made");
        fs::write(scratch.path("allowed"), format!("{} alice\n", alice.trim())).expect("there is room");
        fs::write(scratch.path("rules.toml"), rules).expect("there is room");
        let [key, allow, rules] = ["server", "allowed", "rules.toml"].map(|name| scratch.text(name));
        let keys = ["--tunnels", &rules, "--curve-key", &key, "--allow", &allow];
        let server = Server::spawn(runtime, "json", &keys, spawn);
        Self { scratch, server }
    }

    /// The arguments of alice's `callosum tunnel`; `more` follows.
    pub(crate) fn tunnel(&self, more: &[&str]) -> Vec<String> {
        let (key, server_key) = (self.scratch.text("alice"), self.scratch.text("server.pub"));
        let tunnel = ["tunnel", &self.server.endpoint, "--curve-key", &key, "--server-key", &server_key];
        let runtime = ["--runtime", self.server.runtime];
        [&tunnel[..], &runtime, more].concat().into_iter().map(str::to_owned).collect()
    }
}
