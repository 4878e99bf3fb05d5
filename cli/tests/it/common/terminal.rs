//! A process whose stderr is a terminal, and what that shows.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, Winsize, tcflow, tcsetwinsize};

use super::TIMEOUT;

/// Of the terminal.
pub(crate) const COLUMNS: usize = 120;

/// A running process; ended when it is dropped.
pub(crate) struct OnTerminal {
    child: Child,
    name: CString,
    shown: Receiver<Vec<u8>>,
    so_far: Vec<u8>,
}

impl OnTerminal {
    /// Starts a command on a terminal of 25 rows; its other streams are as they were set.
    pub(crate) fn start(mut command: Command) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("the system has terminals");
        grantpt(&terminal).expect("it is ours");
        unlockpt(&terminal).expect("it is ours");
        let name = ptsname(&terminal, Vec::new()).expect("it has a name");
        let side = File::options().read(true).write(true).open(name.to_str().expect("it is a path"));
        let side = side.expect("it is open for us");
        let size = Winsize { ws_row: 25, ws_col: COLUMNS as u16, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&side, size).expect("it is a terminal");
        let child = command.env("TERM", "xterm").stderr(side).spawn().expect("the binary is built");
        // The command holds its end of the terminal too.
        drop(command);
        let (tell, shown) = channel();
        std::thread::spawn(move || {
            let (mut terminal, mut buf) = (File::from(terminal), [0; 4096]);
            // Ends with an error once nobody has the other end.
            while let Ok(n @ 1..) = terminal.read(&mut buf) {
                if tell.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, name, shown, so_far: Vec::new() }
    }

    /// The next line of its stdout, which is a pipe.
    pub(crate) fn stdout_line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().expect("it is a pipe");
        // Byte by byte, so as to read no further than its end.
        let (mut line, mut byte) = (Vec::new(), [0]);
        while stdout.read(&mut byte).expect("a line comes") > 0 && byte != *b"\n" {
            line.extend(byte);
        }
        String::from_utf8(line).expect("it is UTF-8")
    }

    /// What is written waits from now on, as after Ctrl-S.
    pub(crate) fn pause(&self) {
        let side = File::open(self.name.to_str().expect("it is a path")).expect("it is open for us");
        tcflow(side, Action::OOff).expect("it is a terminal");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        kill_process(pid, signal).expect("it runs");
    }

    /// All that was shown so far, with what moves the cursor.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.so_far).into_owned()
    }

    /// Looks on until what was shown so far is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) {
        let limit = Instant::now() + TIMEOUT;
        while !wanted(&self.text()) {
            // It may show the same again and again.
            let more = self.shown.recv_timeout(limit.saturating_duration_since(Instant::now()));
            self.so_far.extend(more.unwrap_or_else(|_| panic!("only {:?}", self.text())));
        }
    }

    /// Waits for its end, which is to be a good one; all that was shown.
    #[track_caller]
    pub(crate) fn end(self) -> String {
        self.end_with(0)
    }

    /// Waits for its end, with this code; all that was shown.
    #[track_caller]
    pub(crate) fn end_with(mut self, code: i32) -> String {
        while let Ok(more) = self.shown.recv_timeout(TIMEOUT) {
            self.so_far.extend(more);
        }
        assert_eq!(self.child.wait().expect("it is our child").code(), Some(code), "{:?}", self.text());
        self.text()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
