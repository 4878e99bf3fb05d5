//! The lines of `callosum call -v` on stderr: `*` progress, `>` sent metadata, `<` received metadata.

use std::time::{Duration, Instant};

use blocking::unblock;
use callosum_runtime::proto::Dialect;
use callosum_runtime::{Metadata, Peer};

use crate::server::Server;
use crate::stderr::{flush, note, printable};
use crate::value::hex;

#[derive(Clone, Copy)]
pub(super) struct Trace {
    verbose: bool,
    /// The start of all shown times.
    since: Instant,
}

impl Trace {
    pub(super) fn new(verbose: bool) -> Self {
        Self { verbose, since: Instant::now() }
    }

    /// How much time has passed.
    pub(super) fn elapsed(self) -> Duration {
        self.since.elapsed()
    }

    /// There is a connection. From now on, times are those of the call.
    pub(super) fn connected(self, peer: &Peer, server: &Server, metadata: &Metadata) -> Self {
        let dialect = match peer.info().dialect {
            Some(Dialect::One) => ", dialect 1",
            Some(Dialect::Two) => ", dialect 2",
            _ => "",
        };
        let security = if server.has_keys() { "CURVE" } else { "plaintext" };
        let after = millis(self.elapsed());
        self.line(&format!("* connected to {} after {after}{dialect}, {security}", server.endpoint));
        self.entries('>', metadata);
        Self::new(self.verbose)
    }

    /// The result begins.
    pub(super) async fn began(self, metadata: &Metadata) {
        self.line(&format!("* the result begins after {}", millis(self.elapsed())));
        self.entries('<', metadata);
        if self.verbose {
            // The result follows on stdout, which may be the same terminal.
            unblock(flush).await;
        }
    }

    /// The result was received and printed.
    pub(super) fn ended(self) {
        self.line(&format!("* the result is complete after {}", millis(self.elapsed())));
    }

    /// There is no result, or not all of it.
    pub(super) fn failed(self) {
        self.line(&format!("* the call failed after {}", millis(self.elapsed())));
    }

    fn entries(self, mark: char, metadata: &Metadata) {
        for (name, value) in metadata.iter() {
            let value = match std::str::from_utf8(value) {
                Ok(text) => text.to_owned(),
                Err(_) => format!("0x{}", hex(value)),
            };
            let name = String::from_utf8_lossy(name.as_bytes());
            // Escape line breaks, or a peer could forge lines of this trace.
            self.line(&format!("{mark} {name}: {value}").replace('\n', "\\n"));
        }
    }

    fn line(self, text: &str) {
        if self.verbose {
            note(&format!("{}\n", printable(text)));
        }
    }
}

fn millis(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}
