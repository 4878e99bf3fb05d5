//! `callosum demo` keeps its promises, ends by itself, and fits a plain terminal.

use crate::common::{Process, RUNTIMES};
use rustix::process::Signal;

#[test]
fn the_demonstration_keeps_its_promises() {
    let demos = RUNTIMES.map(|runtime| (runtime, Process::start(&["demo", "--runtime", runtime])));
    for (runtime, demo) in demos {
        let ended = demo.end().expect(0);
        let text = ended.stdout.join("\n");
        assert!(ended.stdout[0].ends_with(&format!("on {runtime}")), "{text}");
        assert!(text.contains("promises were kept") && !text.contains("BROKEN"), "{text}");
        for what in ["unordered", "exit-ordered", "key-serialized", "CANCEL", "MountError", "caused by"] {
            assert!(text.contains(what), "no `{what}` in\n{text}");
        }
        assert!(ended.stderr.is_empty(), "{:?}", ended.stderr);
        for line in &ended.stdout {
            assert!(line.chars().count() <= 80, "too wide: {line}");
            assert!(!line.contains('\u{1b}') && line.trim_end() == line, "{line:?}");
        }
    }
}

#[test]
fn the_demonstration_can_be_interrupted() {
    for runtime in RUNTIMES {
        let demo = Process::start(&["demo", "--runtime", runtime]);
        while !demo.line().starts_with("1. ") {}
        demo.signal(Signal::INT);
        demo.end().expect(6);
    }
}
