//! Small calls of one peer while others do to the same server what must not concern it: [`Trouble`].
//!
//! The server, its neighbours who make the trouble, and the caller are a process each. The server has Callosum's default limits.

mod trouble;

use std::{net::SocketAddr, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use callosum_tokio::{BodyReader, Context, HandlerResult, Responder, builder};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use self::trouble::{Trouble, make};
use crate::{
    cases::Case,
    executor::{Executor as _, Tokio},
    idle::settle,
    load::{self, Client, Sample, Timing, body},
    pace,
    peers::{Peer, RawTcp, Stack as _, address, announce, client_of, end_with_stdin},
    process::{Starting, Talker},
};

/// Length of the calls, each way.
pub const BODY_BYTES: usize = 64;

/// Calls at a time, where it is their rate that counts.
pub const IN_FLIGHT: usize = 16;

/// How long a process may take until it says what it has done: to open 8,000 connections.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);

/// Whose server it is that they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Host {
    /// Callosum's, with its default limits
    Callosum,
    /// That of echoes over plain TCP, where only the kernel and the runtime delay one connection for another
    RawTcp,
}

impl Host {
    /// That of an entry of the list of peers, if it has neighbours.
    pub fn of(peer: &Peer) -> Option<Self> {
        Self::value_variants().iter().copied().find(|host| peer.id() == format!("{}/tokio", host.name()))
    }

    /// As on the command line, and in the list of peers.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().to_owned()
    }

    /// What its neighbours do: without calls, they can only leave.
    pub fn troubles(self) -> &'static [Trouble] {
        match self {
            Self::Callosum => Trouble::value_variants(),
            Self::RawTcp => &[Trouble::Leaving],
        }
    }
}

/// How much trouble there is.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    /// Connections that all end at once.
    pub leaving: usize,
    /// How often each trouble is made.
    pub rounds: usize,
}

/// What a caller's calls showed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Calls {
    /// On [schedule](pace).
    pub paced: Sample,
    /// With [`IN_FLIGHT`] at a time.
    pub rate: Sample,
}

/// What one round showed.
#[derive(Debug)]
pub struct Shown {
    /// Before there was trouble.
    pub alone: Calls,
    /// While there was.
    pub beside: Calls,
}

/// Serves until stdin ends, and prints the port.
///
/// # Errors
/// It can't listen.
pub fn serve(host: Host) -> Result<()> {
    end_with_stdin();
    Tokio::block_on(async move {
        if host == Host::RawTcp {
            return RawTcp::serve(announce).await;
        }
        let (binder, driver) = builder()
            .handle_raw("echo", |body, _: Context| async { HandlerResult::Ok(body) })
            .handle_raw("wait", |_, context: Context| async move {
                context.release_slot();
                std::future::pending::<HandlerResult<Bytes>>().await
            })
            .handle_stream("streamed", streamed)
            .bind("tcp://127.0.0.1:0")
            .await?;
        announce(address(&binder)?);
        Ok(driver.await?)
    })
}

/// Waits with its result for the turn of its key, and not with a slot.
async fn streamed(_: BodyReader, responder: Responder, context: Context) -> HandlerResult<()> {
    context.release_slot();
    responder.begin().await?.write_bytes(body(0, BODY_BYTES)).await?;
    Ok(())
}

/// Makes the caller's calls, and prints a line when they begin, and what they showed.
///
/// # Errors
/// A call fails, or its body comes back changed.
pub fn call(host: Host, server: SocketAddr, timing: Timing) -> Result<()> {
    Tokio::block_on(async move {
        let calls = match host {
            Host::Callosum => calls(client_of(builder(), server).await?, server, timing).await?,
            Host::RawTcp => calls(RawTcp::connect(server).await?, server, timing).await?,
        };
        println!("{}", serde_json::to_string(&calls)?);
        Ok(())
    })
}

async fn calls(client: impl Client, server: SocketAddr, mut timing: Timing) -> Result<Calls> {
    let body = body(0, BODY_BYTES);
    pace::calls_for(&client, &body, Duration::from_millis(timing.warm_up_ms)).await?;
    announce(server);
    let paced = pace::calls_for(&client, &body, Duration::from_millis(timing.window_ms)).await?;
    let clients = [client];
    ensure!(paced.calls() > 0, "no call was due");
    let rate = loop {
        let rate = load::run::<Tokio>(&clients, Case::new(BODY_BYTES, IN_FLIGHT), timing).await?;
        if rate.calls() > 0 {
            break rate;
        }
        // The machine is too slow. The process that waits for this one has a limit.
        timing = timing.stretched(2);
    };
    Ok(Calls { paced, rate })
}

/// Starts a server and makes one trouble.
///
/// # Errors
/// A process can't be started or fails; a call of the caller fails.
pub fn show(
    program: &Path,
    host: Host,
    trouble: Trouble,
    neighbours: Neighbours,
    timing: Timing,
) -> Result<Shown> {
    let command = |role: &str| {
        let mut command = Command::new(program);
        command.arg(role).arg(host.name());
        command
    };
    let server = Starting::new(command("neighbours-serve"))?.listening()?;
    let calls = |meanwhile: &mut dyn FnMut()| -> Result<Calls> {
        let mut caller = command("neighbours-call");
        caller.arg(server.address().to_string());
        for (name, value) in timing.arguments() {
            caller.arg(name).arg(value.to_string());
        }
        let caller = Talker::new(caller)?;
        caller.line(ANSWERS_WITHIN).context("a caller begins")?;
        meanwhile();
        let calls = serde_json::from_str(&caller.line(ANSWERS_WITHIN)?).context("a caller's output")?;
        caller.end()?;
        Ok(calls)
    };
    let alone = calls(&mut || ())?;
    let mut maker = command("neighbours-make");
    maker.arg(trouble.name()).arg(server.address().to_string()).arg(neighbours.leaving.to_string());
    let maker = Talker::new(maker)?;
    maker.line(ANSWERS_WITHIN).context("the trouble is made")?;
    settle(|| server.cpu_time())?;
    let mut maker = Some(maker);
    let beside = calls(&mut || {
        if trouble == Trouble::Leaving {
            // In the middle of the calls on schedule. It is killed.
            thread::sleep(Duration::from_millis(timing.window_ms / 2));
            drop(maker.take());
        }
    })?;
    if let Some(maker) = maker {
        maker.end().context("what makes trouble did so to the end")?;
    }
    server.end()?;
    Ok(Shown { alone, beside })
}
