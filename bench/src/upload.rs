//! Uploads: one long body that goes to the server bit by bit, alone or beside small calls on the same connection.

use std::{
    future::Future,
    io,
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    executor::Executor,
    load::{self, Sample, Timing},
    pace, proc,
};

/// Bytes of a piece, as every RPC stack is given them.
pub const PIECE: usize = 64 << 10;

/// Bytes of the largest piece that there is.
pub const LARGEST_PIECE: usize = 256 << 10;

/// Bytes of the upload that comes before those that count.
const WARM_UP: u64 = 64 << 20;

/// So many bytes at the start of an upload are compared in full.
const COMPARED: u64 = 16 << 20;

/// The data repeats after so many bytes: a prime, so that no piece is like another.
const PERIOD: usize = 1_000_003;

/// The client's end of a connection that takes uploads; clones share it.
pub trait Client: Clone + Send + Sync + 'static {
    /// Sends so many bytes of [`pieces`], and waits until the server has taken them all; what it says how many were
    /// right.
    fn upload(&self, bytes: u64) -> impl Future<Output = Result<u64>> + Send;
}

/// The length of an upload.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Bytes of the upload
    #[arg(long)]
    pub upload_bytes: u64,
}

/// What one upload showed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Upload {
    /// From before the first byte was written until the server had said that it had all of them.
    pub seconds: f64,
    /// Most memory that the client had at any time, in KiB.
    pub client_peak_kib: u64,
}

/// What small calls showed without an upload and with one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Beside {
    /// Nothing else was under way.
    pub alone: Sample,
    /// Calls that were due while the upload was under way.
    pub beside: Sample,
    /// What the upload took.
    pub upload_seconds: f64,
    /// Worker threads of the client's runtime.
    pub workers: usize,
}

static CONTENT: LazyLock<Bytes> = LazyLock::new(|| {
    let period = load::body(0, PERIOD);
    [&period[..], &period[..LARGEST_PIECE]].concat().into()
});

/// The data of an upload, in pieces of at most [`PIECE`]; nothing is copied.
pub fn pieces(bytes: u64) -> impl Iterator<Item = Bytes> + Send {
    pieces_of(bytes, PIECE)
}

/// The same in pieces of at most `n` bytes, no more than [`LARGEST_PIECE`].
pub fn pieces_of(bytes: u64, n: usize) -> impl Iterator<Item = Bytes> + Send {
    (0..bytes).step_by(n).map(move |at| {
        let start = (at % PERIOD as u64) as usize;
        let len = n.min(usize::try_from(bytes - at).unwrap_or(n));
        CONTENT.slice(start..start + len)
    })
}

/// Counts what a server receives of an upload, and looks whether it is what was sent.
#[derive(Debug, Default)]
pub struct Checker {
    received: u64,
}

impl Checker {
    /// Takes the next bytes, however they are cut: the first 16 MiB are compared in full, and of the rest eight bytes
    /// at the start and at the end of what came at once, for to compare all of it would measure memory.
    ///
    /// # Errors
    /// If they are not those that were sent.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let intact = match self.received < COMPARED {
            true => self.matches(0, bytes),
            false => {
                let edge = bytes.len().min(8);
                let last = bytes.len() - edge;
                self.matches(0, &bytes[..edge]) && self.matches(last as u64, &bytes[last..])
            }
        };
        if !intact {
            return Err(io::Error::other("an upload came changed"));
        }
        self.received += bytes.len() as u64;
        Ok(())
    }

    fn matches(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut at = self.received + offset;
        bytes.chunks(LARGEST_PIECE).all(|bytes| {
            let start = (at % PERIOD as u64) as usize;
            at += bytes.len() as u64;
            CONTENT[start..start + bytes.len()] == *bytes
        })
    }

    /// The server's answer: how many bytes came.
    pub fn answer(&self) -> Bytes {
        Bytes::copy_from_slice(&self.received.to_le_bytes())
    }
}

/// Reads an [`answer`](Checker::answer).
///
/// # Errors
/// If it is none.
pub fn read_answer(answer: &[u8]) -> Result<u64> {
    Ok(u64::from_le_bytes(answer.try_into().context("the answer is no number")?))
}

async fn timed(client: &impl Client, bytes: u64) -> Result<f64> {
    let begun = Instant::now();
    let received = client.upload(bytes).await?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(received == bytes, "of {bytes} bytes, {received} arrived");
    Ok(seconds)
}

/// Makes one upload, after a short one, and measures it.
///
/// # Errors
/// An upload that fails, or does not arrive as it was sent.
pub async fn run(client: impl Client, Length { upload_bytes }: Length) -> Result<Upload> {
    timed(&client, WARM_UP.min(upload_bytes)).await?;
    let seconds = timed(&client, upload_bytes).await?;
    Ok(Upload { seconds, client_peak_kib: proc::peak_kib("self")? })
}

/// Makes calls of `body_bytes` on [schedule](pace), first alone and then beside an upload.
///
/// # Errors
/// A call or an upload that fails, or does not arrive as it was sent; no call while the upload is under way.
pub async fn run_beside<E: Executor>(
    client: impl Client + load::Client,
    body_bytes: usize,
    length: Length,
    timing: Timing,
) -> Result<Beside> {
    timed(&client, WARM_UP.min(length.upload_bytes)).await?;
    let body = load::body(0, body_bytes);
    pace::calls_for(&client, &body, Duration::from_millis(timing.warm_up_ms)).await?;
    let alone = pace::calls_for(&client, &body, Duration::from_millis(timing.window_ms)).await?;
    let uploading = client.clone();
    let upload = async move { timed(&uploading, length.upload_bytes).await };
    let (beside, upload_seconds) = pace::calls_during::<E, _>(&client, &body, upload).await?;
    ensure!(alone.calls() > 0 && beside.calls() > 0, "no call was due, alone or beside the upload");
    Ok(Beside { alone, beside, upload_seconds, workers: proc::workers("self")? })
}

/// How long an upload may take before its process gives up.
pub fn patience(Length { upload_bytes }: Length) -> Duration {
    Duration::from_secs(60 + upload_bytes / (16 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = COMPARED + 5 * PIECE as u64 + 77;

    fn sent(bytes: u64) -> Vec<u8> {
        pieces(bytes).flatten().collect()
    }

    #[test]
    fn what_is_sent_is_what_is_expected_however_it_is_cut() {
        let sent = sent(BYTES);
        assert_eq!(sent.len() as u64, BYTES);
        for size in [1_000, PIECE, 300_000, sent.len()] {
            let mut checker = Checker::default();
            sent.chunks(size).for_each(|bytes| checker.take(bytes).unwrap());
            assert_eq!(read_answer(&checker.answer()).unwrap(), BYTES);
        }
    }

    #[test]
    fn what_was_changed_left_out_or_doubled_is_noticed() {
        let good = sent(BYTES);
        let check = |bytes: &[u8]| {
            let mut checker = Checker::default();
            bytes.chunks(PIECE).try_for_each(|bytes| checker.take(bytes))
        };
        for at in [0, 1, COMPARED as usize - 1, COMPARED as usize, good.len() - 1] {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(check(&changed).is_err(), "{at}");
        }
        for at in [0, COMPARED as usize] {
            let (before, after) = good.split_at(at);
            assert!(check(&[before, &after[PIECE..]].concat()).is_err(), "a piece is missing");
            assert!(check(&[before, &after[..PIECE], after].concat()).is_err(), "a piece came twice");
        }
        assert!(read_answer(&[1, 2, 3]).is_err());
    }
}
