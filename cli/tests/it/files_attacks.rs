//! What `serve --files` does not do, whatever it is asked, also while others write in its directory.

use std::ffi::OsStr;
use std::fs;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::scratch::Scratch;
use crate::common::{RUNTIMES, Server};
use bytes::Bytes;
use callosum_runtime::{CallError, ErrorInfo, Metadata, Peer};

fn serve(runtime: &'static str, scratch: &Scratch) -> Server {
    Server::start(runtime, "json", &["--files", &scratch.text("root")])
}

/// A directory with something to steal beside it, and ways there in it.
fn with_ways_out() -> Scratch {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("outside/deep")).unwrap();
    fs::create_dir_all(scratch.path("root/dir")).unwrap();
    for name in ["outside/secret", "outside/deep/secret", "root/dir/inside"] {
        fs::write(scratch.path(name), "do not touch").unwrap();
    }
    symlink(scratch.path("outside"), scratch.path("root/way")).unwrap();
    symlink("../../outside", scratch.path("root/dir/way")).unwrap();
    symlink("../outside/secret", scratch.path("root/file")).unwrap();
    symlink("../outside/new", scratch.path("root/dangling")).unwrap();
    symlink("dir", scratch.path("root/inner")).unwrap();
    symlink("/", scratch.path("root/slash")).unwrap();
    scratch
}

/// Everything below a directory, in order.
fn tree(scratch: &Scratch, directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in scratch.names(directory) {
        let path = format!("{directory}/{name}");
        if scratch.path(&path).is_dir() && !scratch.path(&path).is_symlink() {
            found.extend(tree(scratch, &path));
        }
        found.push(path);
    }
    found
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for runtime in RUNTIMES {
        let scratch = with_ways_out();
        let server = serve(runtime, &scratch);
        let sent = scratch.file("sent", 1_000, 1);
        let before = [tree(&scratch, "outside"), tree(&scratch, "root")];
        let secret = scratch.text("outside/secret");
        let (long, deep) = ("x".repeat(256), vec!["d"; 33].join("/"));
        let invalid = [
            "",
            "..",
            "../outside/secret",
            "dir/../../outside/secret",
            "dir/..",
            ".",
            "./dir/inside",
            "/etc/passwd",
            &secret,
            "dir//inside",
            "dir/",
            "a\nb",
            "\u{1b}[2J",
            ".callosum-x.part",
            "dir/.callosum-x/y",
            &long,
            &deep,
        ];
        let links = [
            "way/secret",
            "way/deep/secret",
            "dir/way/secret",
            "file",
            "dangling",
            "inner/inside",
            "slash/etc/passwd",
            "way",
            "way/new",
        ];
        for (names, error) in [(&invalid[..], "InvalidName"), (&links[..], "Forbidden")] {
            for name in names {
                server.file("put", &[&sent, name]).expect(3).expect_stderr(error);
                let get = server.file("get", &[name, "-"]).expect(3).expect_stderr(error);
                assert!(get.stdout.is_empty(), "{get:?}");
                assert_eq!([tree(&scratch, "outside"), tree(&scratch, "root")], before, "{name:?}");
            }
        }
        for name in ["outside/secret", "outside/deep/secret", "root/dir/inside"] {
            assert_eq!(fs::read_to_string(scratch.path(name)).unwrap(), "do not touch");
        }
        for prefix in ["..", "/", "way/", "dir/../"] {
            let list = server.file("ls", &[prefix]).end_of_list();
            assert!(list.is_empty(), "{prefix} {list:?}");
        }
        let list = server.file("ls", &[]).expect(0);
        assert_eq!(list.stdout.len(), 1, "{list:?}");
        assert!(list.stdout[0].ends_with("  dir/inside"));
    }
}

impl crate::common::Ended {
    fn end_of_list(self) -> Vec<String> {
        assert!(matches!(self.code, Some(0 | 3)), "{self:?}");
        self.stdout
    }
}

#[test]
fn only_regular_files_are_served_and_replaced() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    let sent = scratch.file("sent", 1_000, 1);
    fs::create_dir(scratch.path("root/dir")).unwrap();
    fs::write(scratch.path("root/plain"), "plain").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scratch.path("root/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    // Nobody is at the other end of the pipe, and nobody waits for that.
    for name in ["dir", "pipe"] {
        server.file("put", &[&sent, name]).expect(3).expect_stderr("Forbidden");
        server.file("get", &[name, "-"]).expect(3).expect_stderr("Forbidden");
    }
    server.file("put", &[&sent, "plain/below"]).expect(3).expect_stderr("Forbidden");
    server.file("get", &["plain/below", "-"]).expect(3).expect_stderr("NotFound");
    assert_eq!(scratch.names("root"), ["dir", "pipe", "plain"]);
    // Nor does a get replace what is no file here.
    server.file("get", &["plain", &scratch.text("root/pipe")]).expect(1).expect_stderr("Forbidden");
    assert!(fs::symlink_metadata(scratch.path("root/pipe")).unwrap().file_type().is_fifo());
    server.file("get", &["plain", &scratch.text("root/dir/.")]).expect(0);
    assert_eq!(fs::read_to_string(scratch.path("root/dir/plain")).unwrap(), "plain");
    symlink(scratch.path("sent"), scratch.path("link")).unwrap();
    server.file("get", &["plain", &scratch.text("link")]).expect(1).expect_stderr("Forbidden");
    server.file("get", &["plain", &scratch.text("nowhere/x")]).expect(1).expect_stderr("does not exist");
    crate::common::scratch::assert_same(&sent, scratch.path("link"));
}

#[test]
fn list_shows_what_can_be_got() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        let server = serve(runtime, &scratch);
        for directory in ["a/b/c", "ab", "empty"] {
            fs::create_dir_all(scratch.path("root").join(directory)).unwrap();
        }
        let names = ["a/3", "a/b/2", "a/b/c/1", "ab/4", "abc", "ü"];
        for name in names.into_iter().chain([".callosum-0.part", "line\nbreak"]) {
            fs::write(scratch.path("root").join(name), name).unwrap();
        }
        fs::write(scratch.path("root").join(OsStr::from_bytes(b"not \xff UTF-8")), "x").unwrap();
        let list = |prefix: &str| {
            let ended = server.file("ls", &[prefix]).expect(0);
            let mut found: Vec<_> =
                ended.stdout.iter().map(|line| line.split("  ").last().unwrap().to_owned()).collect();
            found.sort();
            found
        };
        assert_eq!(list(""), names);
        assert_eq!(list("a"), names[..5]);
        assert_eq!(list("a/b"), ["a/b/2", "a/b/c/1"]);
        assert_eq!(list("a/b/c/"), ["a/b/c/1"]);
        assert_eq!(list("ab"), ["ab/4", "abc"]);
        assert!(list("nothing").is_empty() && list("no/thing").is_empty() && list("empty/").is_empty());
        let line = &server.file("ls", &["abc"]).expect(0).stdout[0];
        assert!(line.trim_start().starts_with("3  20"), "{line}");
    }
}

#[test]
fn what_can_not_be_written_or_served_is_told() {
    let scratch = Scratch::new();
    let sent = scratch.file("sent", 1_000, 1);
    // Root may write anywhere but there.
    let root = match rustix::process::geteuid().is_root() {
        true => String::from("/sys"),
        false => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
            fs::set_permissions(scratch.path("root"), mode).unwrap();
            scratch.text("root")
        }
    };
    let server = Server::start("tokio", "json", &["--files", &root]);
    server.file("put", &[&sent]).expect(3).expect_stderr("Forbidden");
    server.file("put", &[&sent, "dir/x"]).expect(3).expect_stderr("Forbidden");
    let server = Server::demo("tokio", "json", &[]);
    for (name, args) in [("put", &[sent.as_str()][..]), ("get", &["x", "-"]), ("ls", &[])] {
        server.file(name, args).expect(4).expect_stderr("--files");
    }
    for root in [sent.as_str(), &scratch.text("nowhere")] {
        let serve =
            crate::common::Process::start(&["serve", "--bind", "tcp://127.0.0.1:0", "--files", root]).end();
        serve.expect(1).expect_stderr("can't serve");
    }
}

/// Calls of one's own making, which the commands would not make.
fn with_peer<F: Future>(server: &Server, work: impl FnOnce(Peer) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (connector, driver) = callosum_tokio::builder().connect(server.endpoint.as_str()).unwrap();
        let driver = tokio::spawn(driver);
        let output = work(connector.peer().clone()).await;
        connector.shutdown(crate::common::TIMEOUT).await;
        driver.await.unwrap().unwrap();
        output
    })
}

/// What goes beside a file.
type Entries<'a> = &'a [(&'static str, &'a [u8])];

fn metadata(entries: Entries<'_>) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in entries {
        metadata.insert(*name, value.to_vec()).unwrap();
    }
    metadata
}

async fn failure(peer: &Peer, method: &str, entries: Entries<'_>, body: &[u8]) -> ErrorInfo {
    let call = peer.open(method).metadata(metadata(entries));
    let (mut writer, answer) = call.stream().unwrap();
    // It may have refused already.
    let _ = writer.write_bytes(Bytes::copy_from_slice(body)).await;
    let _ = writer.finish();
    let error = match answer.await {
        Err(error) => error,
        Ok(result) => match result.body.collect().await.unwrap_err() {
            callosum_runtime::BodyError::Call(error) => error,
            other => panic!("{other:?}"),
        },
    };
    match error {
        CallError::Remote(info) => info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let scratch = Scratch::new();
    fs::write(scratch.path("root/x"), "x").unwrap();
    let server = serve("tokio", &scratch);
    with_peer(&server, |peer| async move {
        let zero = [0; 8];
        let checksum = blake3::hash(b"content");
        let good = [&zero[..], b"content", checksum.as_bytes()].concat();
        let cases: [(&str, Entries<'_>, &[u8], &str); 14] = [
            ("get", &[], b"", "InvalidRequest"),
            ("put", &[], &good, "InvalidRequest"),
            ("get", &[("name", b"a\0b")], b"", "InvalidName"),
            ("put", &[("name", b"a\0b")], &good, "InvalidName"),
            ("get", &[("name", b"\xff")], b"", "InvalidName"),
            ("put", &[("name", b"\xff")], &good, "InvalidName"),
            ("get", &[("name", &[b'x'; 5000])], b"", "InvalidName"),
            ("get", &[("name", b"x"), ("offset", b"-1")], b"", "InvalidRequest"),
            ("get", &[("name", b"x"), ("offset", b"1"), ("checksum", b"short")], b"", "InvalidRequest"),
            ("put", &[("name", b"y")], b"", "Incomplete"),
            ("put", &[("name", b"y")], &zero, "Incomplete"),
            ("put", &[("name", b"y")], &good[..good.len() - 1], "ChecksumMismatch"),
            (
                "put",
                &[("name", b"y"), ("id", b"1")],
                &[&[0, 0, 0, 0, 0, 0, 0, 1], &good[8..]].concat(),
                "InvalidRequest",
            ),
            ("put", &[("name", b"y"), ("id", b"1")], &[&[255; 8], &good[8..]].concat(), "InvalidRequest"),
        ];
        for (method, entries, body, name) in cases {
            let info = failure(&peer, method, entries, body).await;
            assert_eq!(&*info.name, name, "{method} {entries:?} {info:?}");
        }
    });
    assert_eq!(scratch.names("root"), ["x"]);
}

/// Ends what looks at it, also when a test fails.
struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_link_that_is_put_in_the_way_meanwhile_leads_nowhere() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    for (name, content) in [("root/dir", "inside"), ("outside", "outside")] {
        fs::create_dir(scratch.path(name)).unwrap();
        fs::write(scratch.path(name).join("file"), content).unwrap();
    }
    symlink(scratch.path("outside"), scratch.path("root/link")).unwrap();
    let (stop, dir, link) = (AtomicBool::new(false), scratch.path("root/dir"), scratch.path("root/link"));
    let outcomes = std::thread::scope(|scope| {
        let _stop = StopWhenDropped(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        with_peer(&server, |peer| async move {
            let (mut got, mut refused) = (0, 0);
            for n in 0..500_u32 {
                let call = peer.open("get").metadata(metadata(&[("name", b"dir/file")]));
                match call.send_raw(Bytes::new()).unwrap().await {
                    Ok(result) => {
                        let content = result.body.collect().await.unwrap();
                        assert!(content.starts_with(b"inside"), "{n}: {content:?}");
                        got += 1;
                    }
                    Err(CallError::Remote(info)) => {
                        assert!(matches!(&*info.name, "Forbidden" | "NotFound"), "{info:?}");
                        refused += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
                let put = [&[0; 8], &b"put"[..], blake3::hash(b"put").as_bytes()].concat();
                let call = peer.open("put").metadata(metadata(&[("name", b"dir/put")]));
                let (mut writer, answer) = call.stream().unwrap();
                // It may have refused already.
                let _ = writer.write_bytes(put.into()).await;
                let _ = writer.finish();
                if let Ok(result) = answer.await {
                    let _ = result.body.collect().await;
                }
            }
            (got, refused)
        })
    });
    assert!(outcomes.0 > 0 && outcomes.1 > 0, "both happened: {outcomes:?}");
    assert_eq!(scratch.names("outside"), ["file"]);
    assert_eq!(fs::read_to_string(scratch.path("outside/file")).unwrap(), "outside");
}
