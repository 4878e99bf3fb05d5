//! `list` where it can't tell everything at once, and what a server finds when it starts.

use std::fs::{self, File};

use crate::common::proxy::{Harm, Proxy, Towards};
use crate::common::scratch::Scratch;
use crate::common::transfer::{ARRIVED, MIB, STALL, serve};
use crate::common::{Process, RUNTIMES, command, wait_until};
use rustix::process::{Resource, Rlimit, Signal, prlimit};

#[test]
fn lists_that_nobody_reads_do_not_hold_up_others_for_ever() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        let server = serve(runtime, &scratch);
        // More than is on its way, as names are long.
        let directory = scratch.path("root").join(vec!["d".repeat(250); 14].join("/"));
        fs::create_dir_all(&directory).unwrap();
        for n in 0..600 {
            File::create(directory.join(n.to_string())).unwrap();
        }
        let list = || command(&["file", "ls", &server.endpoint, "--runtime", runtime]);
        let unread: Vec<_> = (0..8).map(|_| Process::spawn_stuck(list())).collect();
        Process::spawn(list()).end().expect(3).expect_stderr("Busy");
        for (list, _) in &unread {
            list.signal(Signal::INT);
        }
        drop(unread);
        assert_eq!(Process::spawn(list()).end().expect(0).stdout.len(), 600);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_list_that_can_not_be_whole_fails() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    let deep = ["root"; 30].join("/");
    fs::create_dir_all(scratch.path(&deep)).unwrap();
    File::create(scratch.path(&deep).join("file")).unwrap();
    assert_eq!(server.file("ls", &[]).expect(0).stdout.len(), 1);
    // Enough for the connection, and not for so many directories.
    let used = fs::read_dir(format!("/proc/{}/fd", server.process.id())).unwrap().count() as u64;
    let limit = Rlimit { current: Some(used + 12), maximum: Some(used + 12) };
    let pid = rustix::process::Pid::from_raw(server.process.id() as i32);
    prlimit(pid, Resource::Nofile, limit).unwrap();
    server.file("ls", &[]).expect(3).expect_stderr("IoError");
}

#[test]
fn what_nobody_goes_on_with_goes_when_a_server_starts() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    let sent = scratch.file("file", 8 * MIB, 1);
    fs::create_dir_all(scratch.path("root/dir/in")).unwrap();
    // One from a file, one that stays, and one whose server is killed.
    let mut proxies = [(); 3].map(|()| Proxy::new(&server.endpoint, Towards::Server, Harm::Stall(STALL)));
    let lasting = server.start_file_through(&proxies[0].endpoint, "put", &[&sent, "lasting"]);
    let stdin = |proxy: &Proxy, name: &str| {
        let mut put = command(&["file", "put", &proxy.endpoint, "-", name]);
        put.stdin(File::open(&sent).unwrap());
        Process::spawn(put)
    };
    let passing = stdin(&proxies[1], "dir/in/passing");
    let other = serve("tokio", &scratch);
    proxies[2] = Proxy::new(&other.endpoint, Towards::Server, Harm::Stall(STALL));
    let alive = stdin(&proxies[2], "dir/alive");
    scratch.wait_for_partial("root", ARRIVED);
    scratch.wait_for_partial("root/dir/in", ARRIVED);
    scratch.wait_for_partial("root/dir", ARRIVED);
    server.process.signal(Signal::KILL);
    server.process.end();
    drop((lasting, passing));
    assert_eq!(scratch.partials("root/dir/in").len(), 1, "nobody has removed it");
    let third = serve("tokio", &scratch);
    wait_until("its end", || scratch.partials("root/dir/in").is_empty());
    proxies[2].open();
    alive.end().expect(0);
    crate::common::scratch::assert_same(&sent, scratch.path("root/dir/alive"));
    let ended = third.file("put", &[&sent, "lasting"]).expect(0);
    crate::common::transfer::assert_resumed(&ended);
    assert_eq!(scratch.names("root"), ["dir", "lasting"]);
}
