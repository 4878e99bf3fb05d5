//! Unfinished files: who may take their place meanwhile, and what the finished ones may then.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use crate::common::proxy::{Harm, Proxy, Towards};
use crate::common::scratch::{Scratch, assert_same};
use crate::common::transfer::{ARRIVED, End, SIZE, STALL, interrupt, serve};
use crate::common::{ANOTHER_RUNTIME, Ended};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// What a transfer needs to know of its direction.
struct Way {
    towards: Towards,
    source: &'static str,
    target: &'static str,
    /// Where the unfinished file is.
    directory: &'static str,
    /// How it ends if what is wrong is wrong there.
    code: i32,
}

const WAYS: [Way; 2] = [
    Way { towards: Towards::Server, source: "file", target: "root/file", directory: "root", code: 3 },
    Way { towards: Towards::Client, source: "root/file", target: "file", directory: "", code: 1 },
];

impl Way {
    fn command(&self, scratch: &Scratch) -> (&'static str, Vec<String>) {
        match self.towards {
            Towards::Server => ("put", vec![scratch.text("file")]),
            Towards::Client => ("get", vec!["file".into(), scratch.text("file")]),
        }
    }

    fn start(
        &self,
        server: &crate::common::Server,
        endpoint: &str,
        scratch: &Scratch,
    ) -> crate::common::Process {
        let (name, args) = self.command(scratch);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        server.start_file_through(endpoint, name, &args)
    }

    fn run(&self, server: &crate::common::Server, scratch: &Scratch) -> Ended {
        self.start(server, &server.endpoint, scratch).end()
    }
}

fn mode(path: impl AsRef<std::path::Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn one_that_lost_its_name_is_not_moved() {
    for way in WAYS {
        for replaced in [true, false] {
            let scratch = Scratch::new();
            scratch.file(way.source, SIZE, 1);
            let server = serve("tokio", &scratch);
            let mut proxy = Proxy::new(&server.endpoint, way.towards, Harm::Stall(STALL));
            let client = way.start(&server, &proxy.endpoint, &scratch);
            scratch.wait_for_partial(way.directory, ARRIVED);
            let part = scratch.path(way.directory).join(&scratch.partials(way.directory)[0]);
            fs::remove_file(&part).unwrap();
            if replaced {
                fs::write(&part, "half").unwrap();
            }
            proxy.open();
            client.end().expect(way.code).expect_stderr("PartialLost");
            assert!(!scratch.path(way.target).exists());
            match replaced {
                // It is somebody else's.
                true => assert_eq!(fs::read_to_string(&part).unwrap(), "half"),
                false => assert!(scratch.partials(way.directory).is_empty()),
            }
            way.run(&server, &scratch).expect(0);
            assert_same(scratch.path(way.source), scratch.path(way.target));
        }
    }
}

#[test]
fn what_has_the_name_of_one_and_is_none_is_not_written() {
    for way in WAYS {
        for link in [true, false] {
            let scratch = Scratch::new();
            scratch.file(way.source, SIZE, 1);
            let server = interrupt(serve("tokio", &scratch), &scratch, way.towards, End::KillClient);
            let part = scratch.path(way.directory).join(&scratch.partials(way.directory)[0]);
            fs::remove_file(&part).unwrap();
            fs::write(scratch.path("precious"), "precious").unwrap();
            match link {
                true => fs::hard_link(scratch.path("precious"), &part).unwrap(),
                false => mknodat(CWD, &part, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
            }
            let name = part.file_name().unwrap().to_str().unwrap();
            way.run(&server, &scratch).expect(way.code).expect_stderr("remove it").expect_stderr(name);
            assert!(!scratch.path(way.target).exists());
            assert_eq!(fs::read_to_string(scratch.path("precious")).unwrap(), "precious");
            assert_eq!(fs::symlink_metadata(&part).unwrap().file_type().is_fifo(), !link);
            fs::remove_file(&part).unwrap();
            way.run(&server, &scratch).expect(0);
            assert_same(scratch.path(way.source), scratch.path(way.target));
        }
    }
}

#[test]
fn what_is_replaced_keeps_its_permissions() {
    for way in WAYS {
        let scratch = Scratch::new();
        scratch.file(way.source, SIZE, 1);
        let server = serve(ANOTHER_RUNTIME, &scratch);
        way.run(&server, &scratch).expect(0);
        File::create(scratch.path("plain")).unwrap();
        assert_eq!(mode(scratch.path(way.target)), mode(scratch.path("plain")), "those of a new file");
        for permissions in [0o600, 0o640, 0o755, 0o444] {
            fs::set_permissions(scratch.path(way.target), Permissions::from_mode(permissions)).unwrap();
            way.run(&server, &scratch).expect(0);
            assert_eq!(mode(scratch.path(way.target)), permissions, "{permissions:o}");
            assert_same(scratch.path(way.source), scratch.path(way.target));
        }
        // Nobody else can read it before either.
        let proxy = Proxy::new(&server.endpoint, way.towards, Harm::Stall(STALL));
        let client = way.start(&server, &proxy.endpoint, &scratch);
        scratch.wait_for_partial(way.directory, ARRIVED);
        let part = &scratch.partials(way.directory)[0];
        assert_eq!(mode(scratch.path(way.directory).join(part)), 0o600);
        drop(client);
    }
}
