//! The methods of `serve --files`.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use blake3::Hash;
use blocking::unblock;
use bytes::Bytes;
use callosum_runtime::{BodyReader, Builder, Context, HandlerError, HandlerResult, Metadata, Responder};
use futures_util::StreamExt;
use serde::Deserialize;

use super::name::Name;
use super::partial::Partial;
use super::permits::Permits;
use super::progress::Progress;
use super::transfer::{Source, receive};
use super::{FileError, Root, field, metadata};
use crate::executor::Executor;
use crate::service::{Long, Service};
use crate::stderr::{note, printable};

/// How long to wait for another writer of the same partial file. One whose client is gone is noticed before: the keepalive
/// takes 90 s at the most.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// Puts at a time, and as many gets. They need no slots: who waits for a slow disk or a slow client leaves room for short
/// calls. Each has a file open, and about 1 MiB on its way.
const TRANSFERS: usize = 128;

/// The part of them that one connection may use.
const TRANSFERS_OF_ONE: usize = TRANSFERS / 2;

/// Lists that are made at a time; each has up to 32 directories open.
const LISTS: usize = 8;

/// Running listings, and those that wait for a place.
const LISTS_IN_ALL: usize = 32;

/// How long a listing waits for a place under the limit before it fails with `Busy`.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// Files that a listing may be ahead of its reader.
const LIST_AHEAD: usize = 64;

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    prefix: String,
}

/// The slot of a listing under the limit of those that run, freed when this is dropped.
struct ListSlot(Receiver<()>);

impl Drop for ListSlot {
    fn drop(&mut self) {
        // The channel holds the unit that this slot sent.
        let _ = self.0.try_recv();
    }
}

pub(crate) fn add_methods(builder: Builder, service: &Service, root: Root) -> Builder {
    let root = Arc::new(root);
    let executor = service.executor();
    let swept = root.clone();
    let sweeping = unblock(move || {
        if let Err(error) = swept.sweep() {
            note(&printable(&format!("can't look for abandoned unfinished files: {error}\n")));
        }
    });
    // It may take long, and serving does not depend on it.
    sweeping.detach();
    let transfers = Long(TRANSFERS);
    let (here, permits) = (root.clone(), Permits::new(TRANSFERS_OF_ONE));
    let builder = service.add_stream(builder, "get", transfers, move |_, responder, context| {
        let (root, permit) = (here.clone(), permits.take(context.peer().id()));
        async move {
            let _permit = permit?;
            HandlerResult::Ok(get(root, responder, &context).await?)
        }
    });
    let (here, permits) = (root.clone(), Permits::new(TRANSFERS_OF_ONE));
    let builder = service.add_stream(builder, "put", transfers, move |body, responder, context| {
        let (root, permit) = (here.clone(), permits.take(context.peer().id()));
        async move {
            let _permit = permit?;
            HandlerResult::Ok(put(root, executor, body, responder, &context).await?)
        }
    });
    let (places, taken) = async_channel::bounded(LISTS);
    service.add_stream(builder, "list", Long(LISTS_IN_ALL), move |body, responder, context| {
        let (root, places, taken) = (root.clone(), places.clone(), taken.clone());
        async move {
            // The clients of running listings may not read them, so waiting needs a timeout.
            let place = executor.within(LIST_TIMEOUT, places.send(())).await;
            place.ok_or_else(|| {
                HandlerError::new("Busy", "too many listings are in progress; try again later")
            })??;
            let _slot = ListSlot(taken);
            list(root, body, responder, &context).await
        }
    })
}

fn name_of(context: &Context) -> Result<Name, FileError> {
    let name = context
        .metadata()
        .get(field::NAME)
        .ok_or(FileError::InvalidRequest("the metadata have no `name`"))?;
    let name = std::str::from_utf8(name);
    Name::parse(name.map_err(|_| FileError::invalid("", "it is not UTF-8; rename it"))?)
}

async fn get(root: Arc<Root>, responder: Responder, context: &Context) -> Result<(), FileError> {
    let name = name_of(context)?;
    let offset = metadata::number(context.metadata(), field::OFFSET)?.unwrap_or(0);
    let checksum = metadata::checksum(context.metadata())?;
    let mut source = unblock(move || Source::new(root.file(&name)?, name.as_str())).await?;
    source.go_on_at(offset, ready(Ok(checksum)), &mut Progress::none()).await?;
    let size = source.size().unwrap_or(0);
    let mut head = Metadata::new();
    metadata::set(&mut head, field::OFFSET, source.content.at().to_string())?;
    metadata::set(&mut head, field::SIZE, size.to_string())?;
    let mut result = responder.metadata(head).begin().await?;
    source.send(&mut result, &Progress::none()).await?;
    Ok(())
}

async fn put(
    root: Arc<Root>,
    executor: Executor,
    mut body: BodyReader,
    responder: Responder,
    context: &Context,
) -> Result<(), FileError> {
    let name = name_of(context)?;
    let place = unblock(move || root.place(&name)).await?;
    let mut partial = match context.metadata().get(field::ID) {
        Some(id) => {
            // Users must not see each other's unfinished files.
            let user = context.identity().map(|identity| identity.user_id.clone()).unwrap_or_default();
            Partial::lasting(place, &[user.as_bytes(), id], LOCK_TIMEOUT, executor).await?
        }
        None => Partial::passing(place).await?,
    };
    let there = partial.size()?;
    let mut head = Metadata::new();
    metadata::set(&mut head, field::OFFSET, there.to_string())?;
    // Keep the writer: dropping it would end the result.
    let mut result = responder.metadata(head).begin().await?;
    if there > 0 {
        // The client hashes its own file at the same time.
        partial.read_again(&mut Progress::none()).await?;
        if partial.content.at() != there {
            return Err(FileError::Changed(partial.content.name().to_owned()));
        }
        result.write_bytes(Bytes::copy_from_slice(partial.content.checksum().as_bytes())).await?;
    }
    let checksum = take(&mut body, &mut partial, there).await?;
    partial.commit(checksum).await
}

/// Takes the offset that the client has chosen, and the content from there.
async fn take(body: &mut BodyReader, partial: &mut Partial, there: u64) -> Result<Hash, FileError> {
    let mut bytes = Vec::new();
    let (offset, first) = loop {
        if let Some((offset, first)) = bytes.split_first_chunk::<8>() {
            break (u64::from_be_bytes(*offset), first.to_vec());
        }
        bytes.extend_from_slice(&body.next().await.ok_or(FileError::Incomplete)??);
    };
    match offset {
        0 if there == 0 => {}
        0 => partial.content.restart(true).await?,
        _ if offset == there => {}
        _ => {
            return Err(FileError::InvalidRequest(
                "the offset of a put is neither 0 nor the end of the unfinished file",
            ));
        }
    }
    receive(body, first, &mut partial.content, None, &Progress::none()).await
}

async fn list(
    root: Arc<Root>,
    body: BodyReader,
    responder: Responder,
    context: &Context,
) -> HandlerResult<()> {
    let List { prefix } = context.codec().decode(&body.collect().await?)?;
    let (tell, told) = async_channel::bounded(LIST_AHEAD);
    // Sending fails once the call has ended, which ends the walk.
    let walk = unblock(move || root.list(&prefix, |entry| tell.send_blocking(entry).is_ok()));
    let send = async move {
        let mut told = std::pin::pin!(told);
        let mut result = responder.begin().await?;
        while let Some(entry) = told.next().await {
            result.write_item(&entry).await?;
        }
        HandlerResult::Ok(())
    };
    let (walked, sent) = futures_util::future::join(walk, send).await;
    walked?;
    sent
}
