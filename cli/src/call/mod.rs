//! `callosum call`.

mod format;
mod input;
mod protobuf;
mod thrift;
mod trace;

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::stream::{Answer, Streamed};
use callosum_runtime::{BodyError, BodyReader, BodyWriter, Metadata, Peer};
use futures_util::StreamExt;
use futures_util::future::{Either, select, try_join};

use crate::args::{Asked, Call, Output};
use crate::exit::{Failure, tell, tell_bytes};
use crate::link::with_peer;
use crate::server::Server;
use crate::value::{indented, parse};
use crate::{describe, manual};
use format::Format;
use input::{Input, Piece};
use trace::Trace;

/// Names stdin.
const STANDARD_INPUT: &str = "-";

pub(crate) fn run(mut args: Call) -> Result<(), Failure> {
    let (server, method) = match args.asked() {
        Asked::Call { server, method } => (server, method),
        Asked::Describe(args) => return describe::run(&args),
        Asked::Help => return manual::help("call"),
    };
    let server = Server::of(&server, &args.curve)?;
    let (executor, format) = (args.executor.executor, Format::of(&method, &args)?);
    let metadata = metadata(std::mem::take(&mut args.metadata))?;
    let argument = match &args.input {
        Some(path) => Argument::Stream(Input::open(path, args.raw)?),
        None => Argument::Whole(whole(std::mem::take(&mut args.argument), args.raw, &format)?),
    };
    let call = Calling { trace: Trace::new(args.verbose), method, args, format, metadata };
    executor.block_on(call.make(&server, argument))?
}

enum Argument {
    Whole(Bytes),
    Stream(Input),
}

/// The argument as it travels.
fn whole(text: String, raw: bool, format: &Format) -> Result<Bytes, Failure> {
    let bytes = match text.as_str() {
        STANDARD_INPUT => {
            let mut input = Vec::new();
            std::io::stdin().read_to_end(&mut input)?;
            input
        }
        _ => text.into_bytes(),
    };
    match raw {
        true => Ok(bytes.into()),
        false => format.argument(&parse(&bytes).map_err(Failure::Usage)?),
    }
}

fn metadata(entries: Vec<(String, String)>) -> Result<Metadata, Failure> {
    let mut metadata = Metadata::new();
    for (name, value) in entries {
        let twice = format!("--metadata {name} is given twice, and can have one value");
        match metadata.insert(name, value) {
            Ok(None) => {}
            Ok(Some(_)) => return Err(Failure::Usage(twice)),
            Err(too_large) => return Err(Failure::Usage(too_large.to_string())),
        }
    }
    Ok(metadata)
}

/// One call, and how its result is printed.
struct Calling {
    method: String,
    args: Call,
    format: Format,
    metadata: Metadata,
    trace: Trace,
}

impl Calling {
    async fn make(self, server: &Server, argument: Argument) -> Result<(), Failure> {
        let timeout = self.args.timeout.unwrap_or(Duration::MAX);
        let work = async |peer: &Peer| {
            let exchanged = self.exchange(peer, server, argument).await;
            exchanged.map_err(|failure| self.format.explain(failure))
        };
        with_peer(self.args.executor.executor, server, timeout, work).await
    }

    async fn exchange(&self, peer: &Peer, server: &Server, argument: Argument) -> Result<(), Failure> {
        let connected_after = self.trace.elapsed();
        let trace = self.trace.connected(peer, server, &self.metadata);
        let method = self.format.method(&self.method);
        let call = peer.open(method).compress(self.args.compress).metadata(self.metadata.clone());
        let call = match &self.args.key {
            Some(key) => call.key(key),
            None => call,
        };
        let call = match self.args.timeout {
            Some(timeout) => call.timeout(timeout.saturating_sub(connected_after)),
            None => call,
        };
        let result = match argument {
            Argument::Whole(body) => match call.send_raw(body) {
                Ok(answer) => self.receive(answer, trace).await,
                Err(error) => Err(error.into()),
            },
            Argument::Stream(input) => match call.stream() {
                Ok((writer, answer)) => {
                    let sending = send(input, writer, &self.format);
                    try_join(sending, self.receive(answer, trace)).await.map(drop)
                }
                Err(error) => Err(error.into()),
            },
        };
        if result.is_err() {
            trace.failed();
        }
        result
    }

    /// Prints the result, or its parts as they come.
    async fn receive(&self, answer: Answer, trace: Trace) -> Result<(), Failure> {
        let Streamed { metadata, mut body, .. } = answer.await?;
        trace.began(&metadata).await;
        if self.args.raw {
            while let Some(bytes) = body.next().await.transpose()? {
                tell_bytes(bytes).await?;
            }
        } else if self.format.streams_result(self.args.stream) {
            self.items(body).await?;
        } else {
            let line = self.format.line(body.collect().await?)?;
            tell(self.formatted(line)).await?;
        }
        trace.ended();
        Ok(())
    }

    async fn items(&self, body: BodyReader) -> Result<(), Failure> {
        // A result without items may come as one of no bytes, which is no item.
        if body.size() == Some(0) {
            return Ok(());
        }
        let mut items = body.raw_items();
        while let Some(item) = items.next().await {
            tell(self.formatted(self.format.item_line(item?)?)).await?;
        }
        Ok(())
    }

    fn formatted(&self, line: String) -> String {
        match self.args.output {
            Output::Json => line,
            Output::Pretty => indented(&line),
        }
    }
}

/// Sends the input until it ends or the reader closes the stream: the call's result then says why.
async fn send(mut input: Input, mut writer: BodyWriter, format: &Format) -> Result<(), Failure> {
    loop {
        let piece = {
            let (next, closed) = (std::pin::pin!(input.next()), std::pin::pin!(writer.closed()));
            match select(next, closed).await {
                Either::Left((piece, _)) => piece.transpose()?,
                Either::Right(_) => return Ok(()),
            }
        };
        let last = piece.is_none();
        let written = match piece {
            Some(Piece::Bytes(bytes)) => writer.write_bytes(bytes).await,
            Some(Piece::Item(item)) => writer.write_raw_item(format.item(&item)?).await,
            None => writer.finish(),
        };
        match written {
            Ok(()) if last => return Ok(()),
            Ok(()) => {}
            Err(BodyError::Call(_) | BodyError::Read(_) | BodyError::Write(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
