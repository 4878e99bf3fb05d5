//! `put`, `get` and `list` as processes: what arrives, what is left of what does not, and what it takes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::SystemTime;

use crate::common::proxy::{Harm, Proxy, Towards};
use crate::common::scratch::{Scratch, assert_same, noise};
use crate::common::transfer::{ARRIVED, End, MIB, SIZE, STALL, assert_resumed, interrupt, resumed_at, serve};
use crate::common::{ANOTHER_RUNTIME, Process, RUNTIMES, Server, command, wait_until};
use rustix::process::Signal;

#[test]
fn files_of_any_size_come_back_as_they_were() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        let server = serve(runtime, &scratch);
        let sizes =
            [0, 1, 31, 32, 33, 65_535, 65_536, 262_143, 262_144, 262_145, 262_176, 3 * MIB + 7, 64 * MIB];
        for size in sizes {
            let sent = scratch.file("sent", size, size);
            let put = server.file("put", &[&sent, "a dir/ü"]).expect(0);
            let get = server.file("get", &["a dir/ü", &scratch.text("got")]).expect(0);
            assert_same(&sent, scratch.path("root/a dir/ü"));
            assert_same(&sent, scratch.path("got"));
            let checksum =
                blake3::Hasher::new().update_reader(File::open(&sent).unwrap()).unwrap().finalize();
            assert_eq!(put.stdout, [format!("{checksum}  a dir/ü")]);
            assert_eq!(get.stdout, [format!("{checksum}  {}", scratch.text("got"))]);
            assert!(put.stderr.is_empty() && get.stderr.is_empty(), "{put:?} {get:?}");
        }
        assert_eq!(scratch.names("root/a dir"), ["ü"]);
        assert_eq!(scratch.names(""), ["got", "root", "sent"]);
    }
}

#[test]
fn names_have_defaults() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    let sent = scratch.file("sent", 100, 1);
    server.file("put", &[&sent]).expect(0);
    assert_same(&sent, scratch.path("root/sent"));
    fs::create_dir(scratch.path("here")).unwrap();
    server.file("get", &["sent", &scratch.text("here")]).expect(0);
    let mut get = command(&["file", "get", &server.endpoint, "sent"]);
    fs::create_dir(scratch.path("there")).unwrap();
    get.current_dir(scratch.path("there"));
    Process::spawn(get).end().expect(0);
    assert_same(&sent, scratch.path("here/sent"));
    assert_same(&sent, scratch.path("there/sent"));
    server.file("put", &["-"]).expect(2).expect_stderr("NAME");
    server.file("put", &["/"]).expect(2).expect_stderr("NAME");
    server.file("get", &["a/.."]).expect(2);
}

#[test]
fn stdin_and_stdout_are_files_too() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        let server = serve(runtime, &scratch);
        for size in [0, 10, 5 * MIB + 1] {
            let sent = scratch.file("sent", size, size + 1);
            let mut put = command(&["file", "put", &server.endpoint, "-", "x", "--runtime", runtime]);
            put.stdin(Stdio::piped());
            let mut put = Process::spawn(put);
            let mut stdin = put.stdin();
            std::io::copy(&mut File::open(&sent).unwrap(), &mut stdin).unwrap();
            drop(stdin);
            put.end().expect(0);
            assert_same(&sent, scratch.path("root/x"));
            let mut get = command(&["file", "get", &server.endpoint, "x", "-", "--runtime", runtime]);
            get.stdout(File::create(scratch.path("got")).unwrap());
            let status = get.stderr(Stdio::null()).status().unwrap();
            assert!(status.success());
            assert_same(&sent, scratch.path("got"));
        }
        assert_eq!(scratch.names("root"), ["x"]);
    }
}

#[test]
fn files_travel_under_curve() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        for name in ["server", "alice", "eve"] {
            Process::start(&["keygen", &scratch.text(name)]).end().expect(0);
        }
        fs::copy(scratch.path("alice.pub"), scratch.path("allowed")).unwrap();
        let (key, allow, root) = (scratch.text("server"), scratch.text("allowed"), scratch.text("root"));
        let server =
            Server::start(runtime, "msgpack", &["--files", &root, "--curve-key", &key, "--allow", &allow]);
        let (alice, eve, server_key) =
            (scratch.text("alice"), scratch.text("eve"), scratch.text("server.pub"));
        let curve = ["--curve-key", &alice, "--server-key", &server_key];
        let sent = scratch.file("sent", 3 * MIB, 1);
        server.file("put", &[&[sent.as_str()], &curve[..]].concat()).expect(0);
        server.file("get", &[&["sent", &scratch.text("got")], &curve[..]].concat()).expect(0);
        assert_same(&sent, scratch.path("got"));
        let list = server.file("ls", &[&["--codec", "msgpack"], &curve[..]].concat()).expect(0);
        assert!(list.stdout[0].ends_with("  sent"), "{list:?}");
        let others = ["--curve-key", &eve, "--server-key", &server_key];
        server.file("put", &[&[sent.as_str(), "eve"], &others[..]].concat()).expect(9);
        server.file("get", &["sent", &scratch.text("eves")]).expect(9);
        assert_eq!(scratch.names("root"), ["sent"]);
    }
}

#[test]
fn put_goes_on_after_an_interruption() {
    for runtime in RUNTIMES {
        for end in [End::KillClient, End::InterruptClient, End::KillServer] {
            let scratch = Scratch::new();
            let sent = scratch.file("file", SIZE, 1);
            let server = interrupt(serve(runtime, &scratch), &scratch, Towards::Server, end);
            assert_eq!(scratch.partials("root").len(), 1);
            server.file("get", &["file", "-"]).expect(3).expect_stderr("NotFound");
            let ended = server.file("put", &[&sent]).expect(0);
            assert_resumed(&ended);
            assert_same(&sent, scratch.path("root/file"));
            assert_eq!(scratch.names("root"), ["file"], "{end:?}");
        }
    }
}

#[test]
fn get_goes_on_after_an_interruption() {
    for runtime in RUNTIMES {
        for end in [End::KillClient, End::InterruptClient, End::KillServer] {
            let scratch = Scratch::new();
            let there = scratch.file("root/file", SIZE, 1);
            let server = interrupt(serve(runtime, &scratch), &scratch, Towards::Client, end);
            assert!(!scratch.path("file").exists());
            assert_eq!(scratch.partials("").len(), 1);
            let ended = server.file("get", &["file", &scratch.text("file")]).expect(0);
            assert_resumed(&ended);
            assert_same(&there, scratch.path("file"));
            assert_eq!(scratch.names(""), ["file", "root"], "{end:?}");
        }
    }
}

#[test]
fn what_one_user_has_begun_is_no_others() {
    let scratch = Scratch::new();
    let sent = scratch.file("file", SIZE, 1);
    for name in ["server", "alice", "bob"] {
        Process::start(&["keygen", &scratch.text(name)]).end().expect(0);
    }
    let public =
        |name: &str| fs::read_to_string(scratch.path(&format!("{name}.pub"))).unwrap().trim().to_owned();
    fs::write(scratch.path("allowed"), format!("{} alice\n{} bob\n", public("alice"), public("bob")))
        .unwrap();
    let (key, allow, root) = (scratch.text("server"), scratch.text("allowed"), scratch.text("root"));
    let server = Server::start("tokio", "json", &["--files", &root, "--curve-key", &key, "--allow", &allow]);
    let [alice, bob, server_key] = ["alice", "bob", "server.pub"].map(|name| scratch.text(name));
    let as_user = |key| [sent.as_str(), "--curve-key", key, "--server-key", server_key.as_str()];
    let proxy = Proxy::new(&server.endpoint, Towards::Server, Harm::Stall(STALL));
    let put = server.start_file_through(&proxy.endpoint, "put", &as_user(&alice));
    scratch.wait_for_partial("root", ARRIVED);
    // The same file of the same machine, and he need not wait for her either.
    assert_eq!(resumed_at(&server.file("put", &as_user(&bob)).expect(0)), None);
    assert_eq!(scratch.partials("root").len(), 1);
    put.signal(Signal::KILL);
    drop(proxy);
    assert_resumed(&server.file("put", &as_user(&alice)).expect(0));
    assert_eq!(scratch.names("root"), ["file"]);
}

/// Changes one byte and nothing else that could be seen.
fn change(path: &str, at: u64) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[!byte[0]], at).unwrap();
    file.flush().unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn a_changed_source_is_not_stitched_together() {
    for (towards, source, copy) in
        [(Towards::Server, "file", "root/file"), (Towards::Client, "root/file", "file")]
    {
        // In what has gone already, at its end, and in what has not.
        for (changed, resumes) in [(0, false), (ARRIVED - 1, false), (SIZE - 1, true)] {
            let scratch = Scratch::new();
            let source = scratch.file(source, SIZE, 1);
            let server = interrupt(serve("tokio", &scratch), &scratch, towards, End::KillClient);
            change(&source, changed);
            let ended = match towards {
                Towards::Server => server.file("put", &[&source]),
                Towards::Client => server.file("get", &["file", &scratch.text("file")]),
            };
            let ended = ended.expect(0);
            assert_eq!(resumed_at(&ended).is_some(), resumes, "{changed} {ended:?}");
            assert_same(&source, scratch.path(copy));
        }
        // Shorter than what has gone.
        let scratch = Scratch::new();
        let source = scratch.file(source, SIZE, 1);
        let server = interrupt(serve("tokio", &scratch), &scratch, towards, End::KillClient);
        File::options().write(true).open(&source).unwrap().set_len(MIB).unwrap();
        let ended = match towards {
            Towards::Server => server.file("put", &[&source]),
            Towards::Client => server.file("get", &["file", &scratch.text("file")]),
        };
        assert_eq!(resumed_at(&ended.expect(0)), None);
        assert_same(&source, scratch.path(copy));
    }
}

#[test]
fn a_source_that_changes_meanwhile_does_not_arrive() {
    for (towards, source) in [(Towards::Server, "file"), (Towards::Client, "root/file")] {
        let scratch = Scratch::new();
        // More than is on its way when it stalls.
        let source = scratch.file(source, 4 * SIZE, 1);
        let server = serve("tokio", &scratch);
        let mut proxy = Proxy::new(&server.endpoint, towards, Harm::Stall(STALL));
        let got = scratch.text("got");
        let client = match towards {
            Towards::Server => server.start_file_through(&proxy.endpoint, "put", &[&source, "got"]),
            Towards::Client => server.start_file_through(&proxy.endpoint, "get", &["file", &got]),
        };
        scratch.wait_for_partial(if towards == Towards::Server { "root" } else { "" }, ARRIVED);
        let file = File::options().write(true).open(&source).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"new", 10).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        proxy.open();
        let code = if towards == Towards::Server { 1 } else { 3 };
        client.end().expect(code).expect_stderr("Changed");
        assert!(!scratch.path("got").exists() && !scratch.path("root/got").exists());
    }
}

#[test]
fn what_was_changed_on_the_way_is_not_kept() {
    let scratch = Scratch::new();
    let server = serve(ANOTHER_RUNTIME, &scratch);
    for name in ["file", "root/file"] {
        fs::write(scratch.path(name), vec![b'a'; SIZE as usize]).unwrap();
    }
    let proxy = Proxy::new(&server.endpoint, Towards::Server, Harm::Change(STALL));
    let put = server.start_file_through(&proxy.endpoint, "put", &[&scratch.text("file"), "new"]).end();
    put.expect(3).expect_stderr("ChecksumMismatch");
    assert_eq!(scratch.names("root"), ["file"]);
    let proxy = Proxy::new(&server.endpoint, Towards::Client, Harm::Change(STALL));
    let get = server.start_file_through(&proxy.endpoint, "get", &["file", &scratch.text("new")]).end();
    get.expect(1).expect_stderr("ChecksumMismatch");
    assert_eq!(scratch.names(""), ["file", "root"]);
    let proxy = Proxy::new(&server.endpoint, Towards::Client, Harm::Change(STALL));
    let get = command(&["file", "get", &proxy.endpoint, "file", "-"]).stdout(Stdio::null()).output().unwrap();
    assert_eq!(get.status.code(), Some(1));
}

#[test]
fn puts_to_one_name_do_not_mix() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    fs::write(scratch.path("root/x"), "old").unwrap();
    let sources = [scratch.file("one", SIZE, 1), scratch.file("two", SIZE, 2)];
    let mut proxies = [(); 2].map(|()| Proxy::new(&server.endpoint, Towards::Server, Harm::Stall(STALL)));
    let start = |n: usize, endpoint: &str| server.start_file_through(endpoint, "put", &[&sources[n], "x"]);
    let puts = [0, 1].map(|n| {
        let put = start(n, &proxies[n].endpoint);
        wait_until("a partial file", || scratch.partials("root").len() > n);
        put
    });
    // Until then the old one is whole.
    scratch.wait_for_partial("root", ARRIVED);
    assert_eq!(server.file("get", &["x", "-"]).expect(0).stdout, ["old"]);
    // In turn, so that we know whose is there.
    for (n, put) in puts.into_iter().enumerate() {
        proxies[n].open();
        put.end().expect(0);
        assert_same(&sources[n], scratch.path("root/x"));
    }
    assert_eq!(scratch.names("root"), ["x"]);
}

#[test]
fn two_puts_of_one_source_take_turns() {
    for finishes in [true, false] {
        let scratch = Scratch::new();
        let server = Server::demo("tokio", "json", &["--files", &scratch.text("root")]);
        server.show_calls();
        let sent = scratch.file("file", SIZE, 1);
        let mut proxy = Proxy::new(&server.endpoint, Towards::Server, Harm::Stall(STALL));
        let first = server.start_file_through(&proxy.endpoint, "put", &[&sent]);
        scratch.wait_for_partial("root", ARRIVED);
        let second = server.start_file("put", &[&sent]);
        server.process.wait_for("put called");
        server.process.wait_for("put called");
        if finishes {
            proxy.open();
            first.end().expect(0);
            assert_eq!(resumed_at(&second.end().expect(0)), None);
        } else {
            first.signal(Signal::KILL);
            drop(proxy);
            assert_resumed(&second.end().expect(0));
        }
        assert_same(&sent, scratch.path("root/file"));
        assert_eq!(scratch.names("root"), ["file"]);
    }
}

#[test]
fn two_gets_into_one_file_are_told_apart() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    let there = scratch.file("root/file", SIZE, 1);
    let mut proxy = Proxy::new(&server.endpoint, Towards::Client, Harm::Stall(STALL));
    let got = scratch.text("got");
    let first = server.start_file_through(&proxy.endpoint, "get", &["file", &got]);
    scratch.wait_for_partial("", ARRIVED);
    server.file("get", &["file", &got]).expect(1).expect_stderr("InUse");
    proxy.open();
    first.end().expect(0);
    assert_same(there, got);
}

#[test]
fn what_came_from_a_pipe_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    let mut put = command(&["file", "put", &server.endpoint, "-", "x"]);
    put.stdin(Stdio::piped());
    let mut put = Process::spawn(put);
    let mut stdin = put.stdin();
    std::io::copy(&mut noise(1).take(2 * MIB), &mut stdin).unwrap();
    scratch.wait_for_partial("root", MIB);
    put.signal(Signal::INT);
    put.end().expect(6);
    // The server may take its time.
    wait_until("its end", || scratch.names("root").is_empty());
}

/// So much may be held at most, whatever the size, in KiB; and so much do two runs of one thing differ.
const MEMORY: u64 = 64 * 1024;
const NOISE: u64 = 12 * 1024;

/// What put, get and serve take for stdin and stdout.
#[cfg(target_os = "linux")]
fn peaks_of_pipes(runtime: &'static str, size: u64) -> Vec<u64> {
    let scratch = Scratch::new();
    let server = serve(runtime, &scratch);
    let mut put = command(&["file", "put", &server.endpoint, "-", "x", "--runtime", runtime]);
    put.stdin(Stdio::piped());
    let mut put = Process::spawn(put);
    let mut stdin = put.stdin();
    std::io::copy(&mut noise(1).take(size), &mut stdin).unwrap();
    // While it waits for the end.
    let putting = put.peak_memory();
    drop(stdin);
    put.end().expect(0);
    let get = command(&["file", "get", &server.endpoint, "x", "-", "--runtime", runtime]);
    let (get, mut stdout) = Process::spawn_unread(get);
    let (mut read, mut buf) = (0, vec![0; 1 << 20]);
    // A pipe holds less than what is left.
    while read < size - 2 * MIB {
        read += stdout.read(&mut buf).unwrap() as u64;
    }
    let getting = get.peak_memory();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    get.end().expect(0);
    vec![putting, getting, server.process.peak_memory()]
}

/// And for files, also where they go on after an interruption.
#[cfg(target_os = "linux")]
fn peaks_of_files(runtime: &'static str, size: u64) -> Vec<u64> {
    let scratch = Scratch::new();
    let server = serve(runtime, &scratch);
    let (file, got) = (scratch.file("file", size, 1), scratch.text("got"));
    let mut peaks = Vec::new();
    let ways = [
        (Towards::Server, "put", [file.as_str(), "file"], "root"),
        (Towards::Client, "get", ["file", got.as_str()], ""),
    ];
    for (towards, name, args, directory) in ways {
        for resumes in [false, true] {
            // Nearly all of it has gone when it ends in the middle, and when it has gone on.
            let after = if resumes { MIB } else { size - 4 * MIB };
            let mut proxy = Proxy::new(&server.endpoint, towards, Harm::Stall(after as usize));
            let client = server.start_file_through(&proxy.endpoint, name, &args);
            match resumes {
                true => client.wait_for("going on with"),
                false => scratch.wait_for_partial(directory, size - 6 * MIB),
            }
            peaks.push(client.peak_memory());
            match resumes {
                true => {
                    proxy.open();
                    client.end().expect(0);
                }
                false => client.signal(Signal::KILL),
            }
        }
    }
    assert_same(file, got);
    peaks.push(server.process.peak_memory());
    peaks
}

#[cfg(target_os = "linux")]
fn assert_same_memory(sizes: [u64; 2], measure: impl Fn(&'static str, u64) -> Vec<u64>) {
    for runtime in RUNTIMES {
        let [small, large] = sizes.map(|size| measure(runtime, size * MIB));
        for (small, large) in small.iter().zip(&large) {
            assert!(*large < MEMORY && *large < small + NOISE, "{runtime}: {small:?} {large:?} KiB");
        }
        eprintln!("{runtime}: clients, then the server, take {small:?} and {large:?} KiB for {sizes:?} MiB");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_depend_on_the_size() {
    assert_same_memory([32, 160], peaks_of_pipes);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_depend_on_the_size_of_files() {
    assert_same_memory([24, 120], peaks_of_files);
}
