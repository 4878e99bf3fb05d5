//! `callosum file put`, `get` and `ls`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use blake3::{Hash, Hasher};
use blocking::unblock;
use bytes::Bytes;
use callosum_runtime::{BodyError, BodyReader, BodyWriter, Metadata, Peer, Refusal, Urgency};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use rustix::io::Errno;

use super::partial::{Partial, Place};
use super::progress::Progress;
use super::root::Entry;
use super::transfer::{Hashed, Source, receive};
use super::{CHECKSUM, FileError, field, metadata};
use crate::args::{self, Get, List, Put};
use crate::exit::{Failure, say, tell};
use crate::link::with_peer;
use crate::server::Server;
use crate::stderr::{note, printable};

/// Behind calls, whose urgency is 3.
const URGENCY: Urgency = Urgency::new(5).expect("5 is at most 7");

/// stdin or stdout.
const STANDARD: &str = "-";

pub(crate) fn run(command: &args::File) -> Result<(), Failure> {
    match command {
        args::File::Put(args) => put(args),
        args::File::Get(args) => get(args),
        args::File::List(args) => list(args),
    }
}

fn put(args: &Put) -> Result<(), Failure> {
    let name = match (&args.name, args.file.file_name().and_then(|name| name.to_str())) {
        (Some(name), _) => name.as_str(),
        (None, Some(STANDARD)) => {
            return Err(Failure::Usage(String::from("stdin has no file name: give a NAME")));
        }
        (None, Some(name)) => name,
        (None, None) => {
            return Err(Failure::Usage(format!("{} has no file name: give a NAME", args.file.display())));
        }
    };
    let server = Server::of(&args.server, &args.curve)?;
    let (source, id) = open(&args.file)?;
    let (executor, mut progress) = (args.executor.executor, Progress::new(args.quiet.quiet));
    let sending = Sending { name, source, id, progress: &mut progress };
    let work = async |peer: &Peer| sending.send(peer).await;
    let done = executor.block_on(with_peer(executor, &server, Duration::MAX, work))?;
    let checksum = done.inspect_err(|failure| advise(failure, id.is_some() && progress.has_begun()))?;
    drop(progress);
    Ok(say(&format!("{checksum}  {}", printable(name)))?)
}

/// The source of a put.
struct Sending<'a> {
    name: &'a str,
    source: Source,
    /// The identity of the source, if it can be read again after an interruption.
    id: Option<Hash>,
    progress: &'a mut Progress,
}

impl Sending<'_> {
    async fn send(mut self, peer: &Peer) -> Result<Hash, Failure> {
        let mut head = Metadata::new();
        metadata::set(&mut head, field::NAME, self.name.to_owned())?;
        if let Some(id) = self.id {
            metadata::set(&mut head, field::ID, id.as_bytes().to_vec())?;
            self.progress.check(self.name, None);
        }
        let opening = peer.open("put").metadata(head).urgency(URGENCY).no_timeout();
        let (mut writer, answer) = opening.stream().map_err(BodyError::Call).map_err(FileError::from)?;
        let mut answer = answer.await.map_err(BodyError::Call).map_err(FileError::from)?;
        let (tell, told) = async_channel::bounded(1);
        let writing = pin!(self.write(&answer.metadata, told, &mut writer));
        let ending = pin!(listen(&mut answer.body, tell));
        // Once the call has ended, a stalled source is not waited for.
        let done = match select(writing, ending).await {
            Either::Left((Ok(checksum), ending)) => ending.await.map(|()| checksum),
            // The outcome of the call says why the stream was closed.
            Either::Left((Err(FileError::Body(_)), ending)) => {
                Err(ending.await.err().unwrap_or(FileError::Incomplete))
            }
            Either::Left((Err(error), _)) => Err(error),
            Either::Right((ended, _)) => Err(ended.err().unwrap_or(FileError::Incomplete)),
        };
        Ok(done?)
    }

    /// Goes on from what is there already, whose checksum is to be told.
    async fn write(
        &mut self,
        head: &Metadata,
        told: Receiver<Hash>,
        to: &mut BodyWriter,
    ) -> Result<Hash, FileError> {
        let there = metadata::number(head, field::OFFSET).map_err(FileError::of_answer)?.unwrap_or(0);
        let checksum = async { told.recv().await.map(Some).map_err(|_| FileError::Incomplete) };
        self.source.go_on_at(there, checksum, self.progress).await?;
        let offset = self.source.content.at();
        self.progress.begin(self.name, offset, self.source.size());
        to.write_bytes(Bytes::copy_from_slice(&offset.to_be_bytes())).await?;
        self.source.send(to, self.progress).await
    }
}

/// Hands on the checksum that is a result, if it is not empty, as soon as it is there, and waits for the result's end.
async fn listen(body: &mut BodyReader, tell: Sender<Hash>) -> Result<(), FileError> {
    let mut said = Vec::new();
    while let Some(more) = body.next().await.transpose()? {
        said.extend_from_slice(&more);
        if said.len() >= CHECKSUM {
            // The receiver is gone if the source is shorter than the unfinished file.
            let _ = tell.try_send(checksum_of(&said)?);
        }
    }
    if said.is_empty() { Ok(()) } else { checksum_of(&said).map(drop) }
}

fn checksum_of(said: &[u8]) -> Result<Hash, FileError> {
    Hash::from_slice(said)
        .map_err(|_| FileError::InvalidAnswer("the server's checksum does not have 32 bytes"))
}

/// The source of a put; and its identity, if it can be read again after an interruption.
fn open(path: &Path) -> Result<(Source, Option<Hash>), FileError> {
    if path == Path::new(STANDARD) {
        let stdin = duplicate(io::stdin().as_fd())?;
        return Ok((Source::new(stdin, STANDARD)?.that_goes_by(), None));
    }
    let name = path.display().to_string();
    let failed = |error| FileError::here(&name, error);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(Errno::ISDIR.into()));
    }
    let source = Source::new(file, &name)?;
    match source.size() {
        // Files that the kernel generates, as in /proc, have the size 0 whatever they contain.
        Some(0) | None => Ok((source.that_goes_by(), None)),
        Some(_) => Ok((source, Some(identity(&path.canonicalize().map_err(failed)?)))),
    }
}

/// The identity of a local file. Whether its content is unchanged is decided by checksums.
fn identity(path: &Path) -> Hash {
    let system = rustix::system::uname();
    let mut hasher = Hasher::new_derive_key("callosum put source");
    let machine = system.nodename().to_bytes();
    hasher.update(&(machine.len() as u64).to_le_bytes()).update(machine);
    hasher.update(path.as_os_str().as_encoded_bytes());
    hasher.finalize()
}

fn duplicate(stream: std::os::fd::BorrowedFd<'_>) -> Result<File, FileError> {
    let owned = stream.try_clone_to_owned().map_err(|error| FileError::io(STANDARD, error))?;
    Ok(owned.into())
}

fn get(args: &Get) -> Result<(), Failure> {
    let (server, to) = (Server::of(&args.server, &args.curve)?, destination(args)?);
    let place = to.as_deref().map(Place::local).transpose()?;
    let (executor, mut progress) = (args.executor.executor, Progress::new(args.quiet.quiet));
    let lasts = place.is_some();
    let work = async |peer: &Peer| fetch(peer, args, place, &mut progress).await;
    let done = executor.block_on(with_peer(executor, &server, Duration::MAX, work))?;
    let checksum = done.inspect_err(|failure| advise(failure, lasts && progress.has_begun()))?;
    drop(progress);
    if let Some(path) = &to {
        say(&format!("{checksum}  {}", printable(&path.display().to_string())))?;
    }
    Ok(())
}

/// Where it goes; `None` is stdout.
fn destination(args: &Get) -> Result<Option<PathBuf>, Failure> {
    let own_name = || {
        let name = Path::new(&args.name).file_name().map(PathBuf::from);
        name.ok_or_else(|| Failure::Usage(format!("{:?} has no file name", args.name)))
    };
    match &args.file {
        None => own_name().map(Some),
        Some(path) if path == Path::new(STANDARD) => Ok(None),
        Some(path) if path.is_dir() => Ok(Some(path.join(own_name()?))),
        Some(path) => Ok(Some(path.clone())),
    }
}

async fn fetch(
    peer: &Peer,
    args: &Get,
    place: Option<Place>,
    progress: &mut Progress,
) -> Result<Hash, Failure> {
    let Some(place) = place else {
        let mut out = Hashed::new(unblock(|| duplicate(io::stdout().as_fd())).await?, "stdout");
        let checksum = fetch_into(peer, &args.name, &mut out, progress).await?;
        return match checksum == out.checksum() {
            true => {
                progress.note(&format!("{checksum}  {}\n", printable(&args.name)));
                Ok(checksum)
            }
            false => Err(FileError::ChecksumMismatch(args.name.clone()).into()),
        };
    };
    let identity = ["get".as_bytes(), args.name.as_bytes()];
    let executor = args.executor.executor;
    let mut partial = Partial::lasting(place, &identity, Duration::ZERO, executor).await?;
    partial.read_again(progress).await?;
    let fetched = fetch_into(peer, &args.name, &mut partial.content, progress).await;
    // The received bytes can't be resumed from; those of earlier transfers may.
    if progress.has_begun() && matches!(fetched, Err(FileError::InvalidAnswer(_))) {
        partial.discard();
    }
    let checksum = fetched?;
    partial.commit(checksum).await?;
    Ok(checksum)
}

/// Resumes the unfinished file if it is still a prefix of the server's file; returns the checksum that the server announced.
async fn fetch_into(
    peer: &Peer,
    name: &str,
    to: &mut Hashed,
    progress: &mut Progress,
) -> Result<Hash, FileError> {
    let there = to.at();
    let mut head = Metadata::new();
    metadata::set(&mut head, field::NAME, name.to_owned())?;
    if there > 0 {
        metadata::set(&mut head, field::OFFSET, there.to_string())?;
        metadata::set(&mut head, field::CHECKSUM, to.checksum().as_bytes().to_vec())?;
    }
    let opening = peer.open("get").metadata(head).urgency(URGENCY).no_timeout();
    let answer = opening.send_raw(Bytes::new()).map_err(BodyError::Call)?;
    let mut answer = answer.await.map_err(BodyError::Call)?;
    let [offset, size] = [field::OFFSET, field::SIZE].map(|name| {
        let said = metadata::number(&answer.metadata, name).map_err(FileError::of_answer)?;
        said.ok_or(FileError::InvalidAnswer(
            "the server did not announce the offset and the size of the file",
        ))
    });
    let (offset, size) = (offset?, size?);
    match offset {
        _ if offset == there => {}
        0 => to.restart(true).await?,
        _ => return Err(FileError::InvalidAnswer("the server resumes at another offset than requested")),
    }
    progress.begin(name, offset, Some(size));
    receive(&mut answer.body, Vec::new(), to, Some(size), progress).await
}

fn list(args: &List) -> Result<(), Failure> {
    let server = Server::of(&args.server, &args.curve)?;
    let (executor, codec) = (args.executor.executor, args.codec.codec());
    let work = async |peer: &Peer| {
        let opening = peer.with_codec(codec.clone()).open("list").no_timeout();
        let answer = opening.send(&serde_json::json!({ "prefix": args.prefix })).map_err(BodyError::Call);
        let answer =
            answer.map_err(FileError::from)?.await.map_err(BodyError::Call).map_err(FileError::from)?;
        let mut entries = answer.body.items::<Entry>();
        while let Some(entry) = entries.next().await {
            let Entry { name, size, modified } = entry.map_err(FileError::from)?;
            let modified = std::time::UNIX_EPOCH + Duration::from_secs(modified.min(LATEST));
            let modified = humantime::format_rfc3339_seconds(modified);
            tell(format!("{size:>14}  {modified}  {}", printable(&name))).await?;
        }
        Ok(())
    };
    let done = executor.block_on(with_peer(executor, &server, Duration::MAX, work))?;
    done.inspect_err(|failure| advise(failure, false))
}

/// Advice for the user.
fn advise(failure: &Failure, resumable: bool) {
    match failure {
        Failure::Refused(info) if Refusal::of(info) == Some(Refusal::NoSuchMethod) => {
            note("the server serves no files: start it with --files DIR\n");
        }
        Failure::Cancelled | Failure::ConnectionLost(_) if resumable => {
            note("run the same command again to resume\n");
        }
        _ => {}
    }
}

/// The last second of the year 9999, after which dates can't be written.
const LATEST: u64 = 253_402_300_799;
