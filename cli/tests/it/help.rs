//! `--help`, completions and manual pages: what a command line says of itself.

use std::fs;

use crate::common::scratch::Scratch;
use crate::common::{Process, RUNTIMES};

const COMMANDS: [&[&str]; 12] = [
    &[],
    &["call"],
    &["describe"],
    &["file"],
    &["file", "put"],
    &["file", "get"],
    &["file", "ls"],
    &["ping"],
    &["tunnel"],
    &["serve"],
    &["keygen"],
    &["demo"],
];

fn help(command: &[&str]) -> Vec<String> {
    Process::start(&[command, &["--help"]].concat()).end().expect(0).stdout
}

#[test]
fn help_is_wrapped_and_grouped() {
    for command in COMMANDS {
        for line in help(command) {
            assert!(line.chars().count() <= 100, "{command:?}: {line}");
        }
        // How to use it fits on every terminal.
        let usage = help(command).into_iter().skip_while(|line| !line.starts_with("Usage:"));
        for line in usage.take_while(|line| !line.is_empty()) {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
    }
    let groups: [(&[&str], &[&str]); 3] = [
        (&["call"], &["Options:", "Input and output:", "Security:", "Codec and runtime:", "Exit codes:"]),
        (
            &["serve"],
            &["What to serve (at least one):", "Limits and ordering:", "Security:", "Methods of --demo:"],
        ),
        (&["file", "put"], &["Security:", "Codec and runtime:", "Servers and keys:", "Environment:"]),
    ];
    for (command, groups) in groups {
        let lines = help(command);
        for group in groups {
            assert_eq!(lines.iter().filter(|line| line == group).count(), 1, "{command:?} {group}");
        }
    }
}

#[test]
fn the_help_of_call_needs_no_server() {
    let long = help(&["call"]);
    assert!(long.iter().any(|line| line.contains("--help <METHOD>")), "{long:?}");
    // Asked for in the middle of a call, it is the same.
    assert_eq!(help(&["call", "prod", "whoami"]), long);
    assert_eq!(Process::start(&["help", "call"]).end().expect(0).stdout, long);
    let short = Process::start(&["call", "-h"]).end().expect(0).stdout;
    assert!(short.len() < long.len() && short.iter().any(|line| line.contains("--timeout")), "{short:?}");
}

#[test]
fn what_to_serve_must_be_said() {
    let ended = Process::start(&["serve", "--bind", "tcp://127.0.0.1:0"]).end().expect(2);
    ended.expect_stderr("<--demo|--files <DIR>|--tunnels <RULES.toml>>");
}

#[test]
fn runtimes_are_those_of_this_build() {
    let runtimes = format!("[possible values: {}]", RUNTIMES.join(", "));
    assert!(help(&["ping"]).iter().any(|line| line.contains(&runtimes)), "{runtimes}");
    if !RUNTIMES.contains(&"async-std") {
        let demo = Process::start(&["demo", "--runtime", "async-std"]).end();
        demo.expect(2).expect_stderr("build it with the feature `async-std`");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Process::start(&["completions", shell]).end().expect(0).stdout.join("\n");
        for word in ["callosum", "keygen", "server-key"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
    Process::start(&["completions", "cmd"]).end().expect(2);
}

#[test]
fn manual_pages_are_written() {
    let page = Process::start(&["man"]).end().expect(0).stdout.join("\n");
    assert!(page.contains(".TH callosum 1") && page.contains("Exit codes"), "{page}");
    let scratch = Scratch::new();
    Process::start(&["man", "--dir", &scratch.text("root")]).end().expect(0);
    for name in ["callosum.1", "callosum-call.1", "callosum-file-put.1", "callosum-serve.1"] {
        let page = fs::read_to_string(scratch.path("root").join(name)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    Process::start(&["man", "--dir", "/nowhere"]).end().expect(1).expect_stderr("can't write to /nowhere");
}
