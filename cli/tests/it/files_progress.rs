//! What a terminal shows of a transfer.

use std::process::{Command, Stdio};

use crate::common::proxy::{Harm, Proxy, Towards};
use crate::common::scratch::{Scratch, assert_same};
use crate::common::terminal::OnTerminal;
use crate::common::transfer::{ARRIVED, End, MIB, SIZE, STALL, interrupt, serve, with_server};
use crate::common::{RUNTIMES, command};
use bytes::Bytes;
use callosum_runtime::{BodyReader, Context, HandlerResult, Metadata, Responder};
use futures_util::StreamExt;

/// One picture of the bar.
#[derive(Debug)]
struct Frame {
    message: String,
    percent: u64,
    bytes: u64,
    total: u64,
    rate: u64,
    eta: String,
}

/// Looks on until there is a picture like that.
fn wait_for(terminal: &mut OnTerminal, wanted: impl Fn(&Frame) -> bool) {
    terminal.wait_for(|shown| frames(shown).iter().any(&wanted));
}

/// The bars among what was shown, as whole as they came.
fn frames(shown: &str) -> Vec<Frame> {
    let shown = anstream::adapter::strip_str(shown).to_string();
    shown.split(['\r', '\n']).filter_map(frame).collect()
}

fn frame(line: &str) -> Option<Frame> {
    let (line, eta) = line.trim_end().rsplit_once(" ETA ")?;
    let (head, figures) = line.split_once('%')?;
    let (head, percent) = head.rsplit_once(' ')?;
    let message = head.trim_end_matches([' ', '█', '░']).to_owned();
    let (done, rest) = figures.trim().split_once('/')?;
    let mut words = rest.split(' ');
    let total = format!("{} {}", words.next()?, words.next()?);
    let rate = format!("{} {}", words.next()?, words.next()?.strip_suffix("/s")?);
    let percent = percent.trim().parse().ok()?;
    let (bytes, total, rate) = (size(done)?, size(&total)?, size(&rate)?);
    Some(Frame { message, percent, bytes, total, rate, eta: eta.to_owned() })
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let factor = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => MIB as f64,
        "GiB" => 1024.0 * MIB as f64,
        _ => return None,
    };
    Some((number.replace(',', "").parse::<f64>().ok()? * factor) as u64)
}

/// They fit together, and go from `first` on.
#[track_caller]
fn assert_flow(frames: &[&Frame], first: u64) {
    // What is shown is rounded.
    const ROUND: u64 = 12 * 1024;
    let percent = |bytes: u64| bytes * 100 / SIZE;
    let mut before = first.saturating_sub(ROUND);
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(frame.total, SIZE, "{frame:?}");
        assert!(frame.bytes >= before && frame.bytes <= SIZE, "{frame:?} after {before}");
        // It is computed after the bytes were read, while more arrive.
        let next = frames.get(n + 1).map_or(SIZE, |next| next.bytes);
        let possible = percent(frame.bytes).saturating_sub(1)..=percent(next) + 1;
        assert!(possible.contains(&frame.percent), "{frame:?} before {next}");
        assert!(frame.eta.ends_with('s') || frame.eta.ends_with('m'), "{frame:?}");
        before = frame.bytes;
    }
    assert!(frames.iter().any(|frame| frame.rate > 0), "{frames:?}");
}

fn transfer(towards: Towards, scratch: &Scratch, endpoint: &str, runtime: &str) -> Command {
    let file = scratch.text("file");
    let args = match towards {
        Towards::Server => ["file", "put", endpoint, &file, "file"],
        Towards::Client => ["file", "get", endpoint, "file", &file],
    };
    let mut command = command(&[&args[..], &["--runtime", runtime]].concat());
    command.stdout(Stdio::null());
    command
}

#[test]
fn a_bar_shows_how_far_it_is() {
    for runtime in RUNTIMES {
        for (towards, source) in [(Towards::Server, "file"), (Towards::Client, "root/file")] {
            let scratch = Scratch::new();
            let server = serve(runtime, &scratch);
            scratch.file(source, SIZE, 1);
            let mut proxy = Proxy::new(&server.endpoint, towards, Harm::Stall(STALL));
            let mut terminal = OnTerminal::start(transfer(towards, &scratch, &proxy.endpoint, runtime));
            wait_for(&mut terminal, |frame| frame.bytes >= ARRIVED && frame.rate > 0);
            proxy.open();
            let frames = frames(&terminal.end());
            assert!(frames[0].bytes < ARRIVED, "{frames:?}");
            assert!(frames.iter().all(|frame| frame.message == "file"), "{frames:?}");
            assert_flow(&frames.iter().collect::<Vec<_>>(), 0);
        }
    }
}

#[test]
fn what_goes_on_is_checked_and_shown_from_there() {
    for runtime in RUNTIMES {
        for (towards, source, directory) in
            [(Towards::Server, "file", "root"), (Towards::Client, "root/file", "")]
        {
            let scratch = Scratch::new();
            scratch.file(source, SIZE, 1);
            let server = interrupt(serve(runtime, &scratch), &scratch, towards, End::KillClient);
            let part = scratch.path(directory).join(&scratch.partials(directory)[0]);
            let mut proxy = Proxy::new(&server.endpoint, towards, Harm::Stall(MIB as usize));
            let mut terminal = OnTerminal::start(transfer(towards, &scratch, &proxy.endpoint, runtime));
            wait_for(&mut terminal, |frame| frame.message == "file" && frame.rate > 0);
            let there = std::fs::metadata(part).unwrap().len();
            proxy.open();
            let shown = terminal.end();
            let at = shown.split("going on with file at ").nth(1).unwrap().split(' ').next().unwrap();
            let at = at.parse::<u64>().unwrap();
            assert!(at >= ARRIVED && at <= there, "{at} {there}");
            let frames = frames(&shown);
            let (flow, checks): (Vec<_>, Vec<_>) = frames.iter().partition(|frame| frame.message == "file");
            assert!(!checks.is_empty() && checks.iter().all(|frame| frame.message.starts_with("checking ")));
            assert!(checks.iter().all(|frame| frame.total.abs_diff(at) < 12 * 1024), "{at} {checks:?}");
            assert_flow(&flow, at);
            assert_same(scratch.path("file"), scratch.path("root/file"));
        }
    }
}

#[test]
fn both_ends_check_what_they_have_at_once() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        scratch.file("file", SIZE, 1);
        let there = std::fs::read(scratch.path("file")).unwrap()[..ARRIVED as usize].to_vec();
        let (go, gone) = async_channel::bounded::<()>(1);
        // A server that has not read what it has until it is let go.
        let put = move |mut body: BodyReader, responder: Responder, _: Context| {
            let (gone, there) = (gone.clone(), there.clone());
            async move {
                let mut head = Metadata::new();
                head.insert("offset", ARRIVED.to_string()).unwrap();
                let mut result = responder.metadata(head).begin().await?;
                gone.recv().await?;
                result.write_bytes(Bytes::copy_from_slice(blake3::hash(&there).as_bytes())).await?;
                while body.next().await.transpose()?.is_some() {}
                HandlerResult::Ok(())
            }
        };
        let shown = with_server(callosum_tokio::builder().handle_stream("put", put), |endpoint| {
            let mut terminal = OnTerminal::start(transfer(Towards::Server, &scratch, endpoint, runtime));
            wait_for(&mut terminal, |frame| frame.message.starts_with("checking ") && frame.bytes == ARRIVED);
            assert!(!terminal.text().contains("going on"));
            go.send_blocking(()).unwrap();
            terminal.end()
        });
        assert!(shown.contains(&format!("going on with file at {ARRIVED} bytes")), "{shown:?}");
    }
}

#[test]
fn who_wants_quiet_has_it() {
    let scratch = Scratch::new();
    let server = serve("tokio", &scratch);
    scratch.file("file", SIZE, 1);
    for towards in [Towards::Server, Towards::Client] {
        let mut quiet = transfer(towards, &scratch, &server.endpoint, "tokio");
        quiet.arg("--quiet");
        assert_eq!(OnTerminal::start(quiet).end(), "");
    }
}
