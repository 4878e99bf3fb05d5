//! `callosum describe`.

use callosum_runtime::service::{DESCRIBE, MethodDescription};
use callosum_runtime::{CallError, CodecError, Peer};
use serde_json::value::to_raw_value;

use crate::args::Describe;
use crate::exit::{Failure, printable, tell};
use crate::link::with_peer;
use crate::server::Server;
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
            return Err(Failure::Usage(format!("the server tells of no method `{wanted}`")));
        }
    }
    if args.json {
        let unwritable = |error| Failure::Call(CallError::Encode(CodecError::Json(error)));
        tell(to_raw_value(&methods).map_err(unwritable)?.to_line()).await?;
        return Ok(());
    }
    for method in &methods {
        for line in lines(method, args.method.is_some()) {
            // What a server tells may hold anything.
            tell(printable(&line)).await?;
        }
    }
    Ok(())
}

/// A method, for people.
fn lines(method: &MethodDescription, schemas: bool) -> Vec<String> {
    let mut lines = vec![signature(method)];
    let docs = method.docs.lines().map(|line| format!("    {line}"));
    lines.extend(docs);
    if let Some(error) = &method.error {
        lines.push(format!("    Fails with {error}."));
    }
    if let Some(key) = &method.key {
        lines.push(format!("    Key: {key}."));
    }
    if method.args_kwargs {
        lines.push(String::from("    Arguments travel as {\"args\": [...], \"kwargs\": {...}}."));
    }
    let named = [("Arguments", &method.arguments_schema), ("Result", &method.result_schema)];
    for (what, schema) in named.into_iter().filter(|_| schemas) {
        if let Some(schema) = schema {
            lines.push(format!("    {what}:"));
            lines.extend(indented(schema).lines().map(|line| format!("      {line}")));
        }
    }
    lines
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
