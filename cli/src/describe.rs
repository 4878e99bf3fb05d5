//! `callosum describe`.

use std::io;

use callosum_runtime::service::{DESCRIBE, MethodDescription};
use callosum_runtime::{CallError, CodecError, Peer};
use serde_json::value::to_raw_value;

use crate::args::Describe;
use crate::exit::{Failure, tell};
use crate::link::with_peer;
use crate::server::Server;
use crate::stderr::printable;
use crate::value::{ToLine, indented};

pub(crate) fn run(args: &Describe) -> Result<(), Failure> {
    let server = Server::of(&args.server, &args.curve)?;
    let executor = args.executor.executor;
    let work = async |peer: &Peer| describe(args, peer).await;
    executor.block_on(with_peer(executor, &server, args.timeout, work))?
}

async fn describe(args: &Describe, peer: &Peer) -> Result<(), Failure> {
    let peer = peer.with_codec(args.codec.codec());
    let mut methods: Vec<MethodDescription> = peer.invoke(DESCRIBE, &()).timeout(args.timeout).await?;
    if let Some(wanted) = &args.method {
        methods.retain(|method| method.name == *wanted);
        if methods.is_empty() {
            return Err(Failure::Usage(format!("the server describes no method `{wanted}`")));
        }
    }
    if args.json {
        let unwritable = |error| Failure::Call(CallError::Encode(CodecError::Json(error)));
        tell(to_raw_value(&methods).map_err(unwritable)?.to_line()).await?;
        return Ok(());
    }
    for method in &methods {
        show(method, args.method.is_some()).await?;
    }
    Ok(())
}

/// Prints a method for people. Lines of docs are written one by one: a server may send millions of them.
async fn show(method: &MethodDescription, schemas: bool) -> io::Result<()> {
    // Escaped, as a server's text may hold control characters.
    let line = async |text: String| tell(printable(&text)).await;
    line(signature(method)).await?;
    for docs in method.docs.lines() {
        line(format!("    {docs}")).await?;
    }
    if let Some(error) = &method.error {
        line(format!("    Fails with {error}.")).await?;
    }
    if let Some(key) = &method.key {
        line(format!("    Key: {key}.")).await?;
    }
    if method.args_kwargs {
        line(String::from("    Arguments travel as {\"args\": [...], \"kwargs\": {...}}.")).await?;
    }
    let named = [("Arguments", &method.arguments_schema), ("Result", &method.result_schema)];
    for (what, schema) in named.into_iter().filter(|_| schemas) {
        let Some(schema) = schema else { continue };
        line(format!("    {what}:")).await?;
        for schema in indented(schema).lines() {
            line(format!("      {schema}")).await?;
        }
    }
    Ok(())
}

/// `Agent.start(container: String, [image: String]) -> Container`.
fn signature(method: &MethodDescription) -> String {
    let arguments = method.arguments.iter().map(|argument| match argument.required {
        true => format!("{}: {}", argument.name, argument.type_name),
        false => format!("[{}: {}]", argument.name, argument.type_name),
    });
    let stream = method.streamed_argument.iter().map(|item| format!("stream of {item}"));
    let arguments: Vec<_> = arguments.chain(stream).collect();
    let result = match (&*method.result, method.streamed_result) {
        ("()", false) => String::new(),
        (result, false) => format!(" -> {result}"),
        (item, true) => format!(" -> stream of {item}"),
    };
    format!("{}({}){result}", method.name, arguments.join(", "))
}
