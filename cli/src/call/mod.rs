//! `callosum call`.

mod input;
mod thrift;
mod trace;

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::stream::{Answer, Streamed};
use callosum_runtime::{BodyError, BodyReader, BodyWriter, Codec, Metadata, Peer};
use futures_util::StreamExt;
use futures_util::future::{Either, select, try_join};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::args::{Call, Output};
use crate::exit::{Failure, tell, tell_bytes};
use crate::link::with_peer;
use crate::server::Server;
use crate::value::{ToLine, encode, indented, parse, to_line, to_value};
use input::{Input, Piece};
use thrift::Thrift;
use trace::Trace;

/// Names stdin.
const STANDARD_INPUT: &str = "-";

pub(crate) fn run(mut args: Call) -> Result<(), Failure> {
    let server = Server::of(&args.server, &args.curve)?;
    let (executor, codec) = (args.executor.executor, args.codec.codec());
    let metadata = metadata(std::mem::take(&mut args.metadata))?;
    let thrift = Thrift::of(&args)?;
    let argument = match &args.input {
        Some(path) => Argument::Stream(Input::open(path, args.raw)?),
        None => {
            Argument::Whole(whole(std::mem::take(&mut args.argument), args.raw, &codec, thrift.as_ref())?)
        }
    };
    let call = Calling { trace: Trace::new(args.verbose), args, codec, metadata, thrift };
    executor.block_on(call.make(&server, argument))?
}

enum Argument {
    Whole(Bytes),
    Stream(Input),
}

/// The argument as it travels.
fn whole(text: String, raw: bool, codec: &Codec, thrift: Option<&Thrift>) -> Result<Bytes, Failure> {
    let bytes = match text.as_str() {
        STANDARD_INPUT => {
            let mut input = Vec::new();
            std::io::stdin().read_to_end(&mut input)?;
            input
        }
        _ => text.into_bytes(),
    };
    if raw {
        return Ok(bytes.into());
    }
    let argument = parse(&bytes).map_err(Failure::Usage)?;
    match thrift {
        Some(thrift) => thrift.request(argument.get()),
        None => encode(&argument, codec).map_err(Failure::Call),
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
    args: Call,
    codec: Codec,
    metadata: Metadata,
    trace: Trace,
    /// What the bodies are, if they are not in the codec.
    thrift: Option<Thrift>,
}

impl Calling {
    async fn make(self, server: &Server, argument: Argument) -> Result<(), Failure> {
        let timeout = self.args.timeout.unwrap_or(Duration::MAX);
        let work = async |peer: &Peer| self.exchange(peer, server, argument).await;
        with_peer(self.args.executor.executor, server, timeout, work).await
    }

    async fn exchange(&self, peer: &Peer, server: &Server, argument: Argument) -> Result<(), Failure> {
        let connected_after = self.trace.elapsed();
        let trace = self.trace.connected(peer, server, &self.metadata);
        let peer = peer.with_codec(self.codec.clone());
        let method = self.thrift.as_ref().map_or(&*self.args.method, Thrift::alias);
        let call = peer.open(method).compress(self.args.compress).metadata(self.metadata.clone());
        let call = match &self.args.key {
            Some(key) => call.key(key),
            None => call,
        };
        let call = match self.args.timeout {
            Some(timeout) => call.timeout(timeout.saturating_sub(connected_after)),
            None => call,
        };
        match argument {
            Argument::Whole(body) => self.receive(call.send_raw(body)?, trace).await,
            Argument::Stream(input) => {
                let (writer, answer) = call.stream()?;
                try_join(send(input, writer, &self.codec), self.receive(answer, trace)).await.map(drop)
            }
        }
    }

    /// Prints the result, or its parts as they come.
    async fn receive(&self, answer: Answer, trace: Trace) -> Result<(), Failure> {
        let Streamed { metadata, mut body, .. } = answer.await?;
        trace.began(&metadata);
        match (self.args.raw, self.args.stream, &self.codec) {
            (true, _, _) => {
                while let Some(bytes) = body.next().await.transpose()? {
                    tell_bytes(bytes).await?;
                }
            }
            (false, false, codec) => {
                let body = body.collect().await?;
                let line = match &self.thrift {
                    Some(thrift) => thrift.result(&body)?,
                    None => to_line(codec, &body).map_err(Failure::Call)?,
                };
                tell(self.formatted(line)).await?;
            }
            (false, true, Codec::Json) => self.items::<Box<RawValue>>(body).await?,
            (false, true, _) => self.items::<rmpv::Value>(body).await?,
        }
        trace.ended();
        Ok(())
    }

    async fn items<T: DeserializeOwned + ToLine>(&self, body: BodyReader) -> Result<(), Failure> {
        let mut items = body.items::<T>();
        while let Some(item) = items.next().await {
            tell(self.formatted(item?.to_line())).await?;
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

/// Sends what comes from the input, until it ends or nobody takes more: how the call has ended is then for its result to say.
async fn send(mut input: Input, mut writer: BodyWriter, codec: &Codec) -> Result<(), Failure> {
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
            Some(Piece::Item(item)) if matches!(codec, Codec::Json) => writer.write_item(&item).await,
            Some(Piece::Item(item)) => writer.write_item(&to_value(&item)?).await,
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
