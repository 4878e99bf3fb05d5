//! What can be put, from where, and how it ends if it can't.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;

use crate::common::scratch::{Scratch, noise};
use crate::common::transfer::{MIB, serve};
use crate::common::{Process, RUNTIMES, command};
use rustix::process::Signal;

#[test]
#[cfg(target_os = "linux")]
fn a_file_whose_size_the_system_does_not_say_is_put_as_a_whole() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    assert_eq!(fs::metadata("/proc/version").unwrap().len(), 0);
    server.file("put", &["/proc/version"]).expect(0);
    assert_eq!(fs::read(scratch.path("root/version")).unwrap(), fs::read("/proc/version").unwrap());
    // This one says that it has 4096 bytes, and has fewer.
    let short = "/sys/kernel/mm/transparent_hugepage/enabled";
    if fs::read(short).is_ok() {
        server.file("put", &[short]).expect(1).expect_stderr("Changed");
        assert_eq!(scratch.names("root"), ["version"]);
    }
    // A server says how much there will be, and so can't serve what it does not know.
    let server = crate::common::Server::start("tokio", "json", &["--files", "/proc/sys/kernel"]);
    server.file("get", &["osrelease", "-"]).expect(3).expect_stderr("Changed");
}

#[test]
fn a_source_is_looked_for_before_the_server() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("dir")).unwrap();
    for runtime in RUNTIMES {
        // Nobody listens there.
        let put = |file: &str| {
            Process::start(&[
                "file",
                "put",
                "tcp://127.0.0.1:1",
                &scratch.text(file),
                "x",
                "--runtime",
                runtime,
            ])
            .end()
        };
        put("none").expect(1).expect_stderr("no such file here").expect_stderr("check the path");
        put("none/below").expect(1).expect_stderr("no such file here");
        put("dir").expect(1).expect_stderr("it is a directory");
        let get = ["file", "get", "tcp://127.0.0.1:1", "x", &scratch.text("none/x"), "--runtime", runtime];
        Process::start(&get).end().expect(1).expect_stderr("does not exist");
    }
}

#[test]
fn a_source_that_says_nothing_is_not_waited_for() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        let server = serve(runtime, &scratch);
        let mut put = command(&["file", "put", &server.endpoint, "-", "x", "--runtime", runtime]);
        put.stdin(Stdio::piped());
        let mut put = Process::spawn(put);
        let mut stdin = put.stdin();
        std::io::copy(&mut noise(1).take(2 * MIB), &mut stdin).unwrap();
        scratch.wait_for_partial("root", MIB);
        server.process.signal(Signal::KILL);
        let ended = put.end().expect(8);
        // It would begin anew.
        assert!(!ended.stderr.join("\n").contains("same command"), "{ended:?}");
        drop(stdin);

        // Nor if the server refuses it.
        let server = serve(runtime, &scratch);
        let mut put = command(&["file", "put", &server.endpoint, "-", "../x", "--runtime", runtime]);
        put.stdin(Stdio::piped());
        let mut put = Process::spawn(put);
        let stdin = put.stdin();
        put.end().expect(3).expect_stderr("InvalidName");
        drop(stdin);
    }
}

#[test]
fn what_has_not_begun_does_not_go_on() {
    let scratch = Scratch::new();
    let sent = scratch.file("sent", MIB, 1);
    for runtime in RUNTIMES {
        for args in [["put", &sent, "x"], ["get", "x", &scratch.text("got")]] {
            let silent = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("tcp://{}", silent.local_addr().unwrap());
            let client =
                Process::start(&["file", args[0], &endpoint, args[1], args[2], "--runtime", runtime]);
            let (mut stream, _) = silent.accept().unwrap();
            // It listens to signals by now.
            stream.read_exact(&mut [0]).unwrap();
            client.signal(Signal::INT);
            let ended = client.end().expect(6);
            assert!(!ended.stderr.join("\n").contains("same command"), "{ended:?}");
        }
    }
}

#[test]
fn who_has_read_enough_hears_nothing() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        let server = serve(runtime, &scratch);
        scratch.file("root/x", 8 * MIB, 1);
        let get = command(&["file", "get", &server.endpoint, "x", "-", "--runtime", runtime]);
        let (get, mut stdout) = Process::spawn_unread(get);
        stdout.read_exact(&mut [0]).unwrap();
        drop(stdout);
        let ended = get.end().expect(1);
        assert!(ended.stderr.is_empty(), "{ended:?}");
    }
}
