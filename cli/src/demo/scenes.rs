//! The scenes around the comparison of the ordering modes.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use callosum_runtime::{CallError, Drained, Peer};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use super::calls::AGENTS;
use super::stage::Stage;
use super::team::{Image, Name, Team, WATCH, Watch};
use super::unexpected::Unexpected;

/// How long calls may take that take no time, on the slowest of machines.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the cancelled call ran before its caller lost interest.
const INTEREST: Duration = Duration::from_millis(700);

/// The timeout of the call that times out.
const WATCH_TIMEOUT: Duration = Duration::from_millis(800);

fn agent(team: &Team, name: &str) -> Result<Peer, Unexpected> {
    team.agent(name).ok_or_else(|| Unexpected(format!("{name} has gone")))
}

/// Agents call the manager, the manager calls agents, handlers call back.
pub(super) async fn both_directions(stage: &mut Stage, team: &Team) -> Result<(), Unexpected> {
    stage.scene("Calls in both directions");
    let names = AGENTS.map(|(name, _)| Name { name: name.to_owned() });
    for (connector, name) in team.agents.iter().zip(&names) {
        connector.peer().ready().await?;
        let text = format!("register {{\"name\": {:?}}}", name.name);
        stage.message(&name.name, "->", "manager", &text);
        let count: usize = connector.peer().invoke("register", name).timeout(CALL_TIMEOUT).await?;
        stage.message(&name.name, "<-", "manager", &count.to_string());
    }
    let alpha = agent(team, "alpha")?;
    let image = Image { image: String::from("web") };
    stage.message("manager", "->", "alpha", "deploy {\"image\": \"web\"}");
    let result: String = alpha.invoke("deploy", &image).timeout(CALL_TIMEOUT).await?;
    let mut depth = 0;
    while let Ok(traced) = team.trace.try_recv() {
        stage.message(traced.from, traced.arrow, traced.to, &traced.text);
        depth += usize::from(traced.arrow == "->");
    }
    stage.message("manager", "<-", "alpha", &format!("{result:?}"));
    stage.promise(names.iter().all(|name| team.agent(&name.name).is_some()), "agents call the manager");
    stage.promise(result == "web runs", "the manager calls an agent");
    stage.promise(depth == 2, "a handler calls its caller back, whose handler calls back again");
    Ok(())
}

/// The next event of `watch`.
async fn watched(stage: &Stage, team: &Team) -> Result<Watch, Unexpected> {
    let news = stage.executor.within(CALL_TIMEOUT, team.watch.recv()).await;
    news.and_then(Result::ok).ok_or_else(|| "the handler reported nothing".into())
}

/// A caller loses interest; the handler is stopped, and its key is free again.
pub(super) async fn cancellation(stage: &mut Stage, team: &Team) -> Result<(), Unexpected> {
    stage.scene("A cancellation");
    let gamma = agent(team, "gamma")?;
    stage.message("manager", "->", "gamma", &format!("watch, key web     runs for {} s", WATCH.as_secs()));
    let watching = gamma.invoke::<_, Value>("watch", &json!({})).key("web").timeout(WATCH).into_future();
    let started = watched(stage, team).await? == Watch::Started;
    stage.message("manager", "->", "gamma", "uptime, key web    waits until watch has ended");
    let next = gamma.invoke::<_, String>("uptime", &json!({})).key("web").timeout(CALL_TIMEOUT).into_future();
    stage.executor.sleep(INTEREST).await;
    stage.message("manager", "->", "gamma", "CANCEL watch       the caller dropped the call");
    let dropped = Instant::now();
    drop(watching);
    let Watch::Over(over) = watched(stage, team).await? else {
        return Err("the handler ran twice".into());
    };
    let result = next.await?;
    let after = over.saturating_duration_since(dropped).as_secs_f64() * 1e3;
    stage.message("manager", "<-", "gamma", &format!("{result:?}"));
    stage.promise(
        started,
        &format!("the agent's handler was stopped, {after:.1} ms after the caller dropped the call"),
    );
    stage.promise(result == "up", "the next call with the same key ran");
    Ok(())
}

/// A call takes too long.
pub(super) async fn timeout(stage: &mut Stage, team: &Team) -> Result<(), Unexpected> {
    stage.scene("A timeout");
    let beta = agent(team, "beta")?;
    let limit = format!("watch, timeout {} ms", WATCH_TIMEOUT.as_millis());
    stage.message("manager", "->", "beta", &limit);
    let start = Instant::now();
    let outcome = beta.invoke::<_, Value>("watch", &json!({})).timeout(WATCH_TIMEOUT).await;
    let waited = start.elapsed();
    let Err(CallError::TimedOut { sent: true }) = outcome else {
        return Err("the call did not time out".into());
    };
    let text = format!("CANCEL watch  no reply within {} ms", waited.as_millis());
    stage.message("manager", "->", "beta", &text);
    stage.promise(waited >= WATCH_TIMEOUT, "the call ended at its timeout");
    let mut stopped = watched(stage, team).await?;
    if stopped == Watch::Started {
        stopped = watched(stage, team).await?;
    }
    stage.promise(matches!(stopped, Watch::Over(_)), "the agent's handler was stopped as well");
    Ok(())
}

/// A handler fails, and a method does not exist.
pub(super) async fn failure(stage: &mut Stage, team: &Team) -> Result<(), Unexpected> {
    stage.scene("A failure, with its remote traceback");
    let beta = agent(team, "beta")?;
    stage.message("manager", "->", "beta", "mount {}");
    let outcome = beta.invoke::<_, Value>("mount", &json!({})).timeout(CALL_TIMEOUT).await;
    let Err(CallError::Remote(info)) = outcome else {
        return Err("a handler failed, and its caller got no failure".into());
    };
    stage.message("manager", "<-", "beta", &format!("FAILURE {}: {}", info.name, info.repr));
    stage.quote(&info.traceback);
    stage.promise(
        &*info.name == "MountError" && info.traceback.contains("caused by: the disk is on fire"),
        "the caller has the error's type, its text and its causes",
    );
    stage.message("manager", "->", "beta", "nosuch {}");
    let outcome = beta.invoke::<_, Value>("nosuch", &json!({})).timeout(CALL_TIMEOUT).await;
    let Err(error @ CallError::Rejected(_)) = outcome else {
        return Err("an unknown method was not refused".into());
    };
    let name = error.remote().map(|info| info.name.to_string()).unwrap_or_default();
    stage.message("manager", "<-", "beta", &format!("ERROR {name}"));
    stage.promise(
        name == "NoSuchMethod" && !error.may_have_run(),
        "an unknown method is refused, and the caller knows that nothing ran",
    );
    let result: String = beta.invoke("uptime", &json!({})).timeout(CALL_TIMEOUT).await?;
    stage.promise(result == "up", "the connection is still open");
    Ok(())
}

/// The manager shuts down while a call is in progress.
pub(super) async fn shutdown(stage: &mut Stage, team: &Team) -> Result<(), Unexpected> {
    stage.scene("A shutdown");
    let peers = team.manager.peers();
    let alpha = agent(team, "alpha")?;
    stage.message("manager", "->", "alpha", "save {}");
    let saving = alpha.invoke::<_, String>("save", &json!({})).timeout(CALL_TIMEOUT).into_future();
    stage.line("   The manager shuts down, and waits for calls in progress.");
    let (drained, saved) = join(team.manager.shutdown(CALL_TIMEOUT), saving).await;
    let saved = saved?;
    stage.message("manager", "<-", "alpha", &format!("{saved:?}"));
    stage.promise(drained == Drained::Completely && saved == "saved", "the call in progress ran to its end");
    join_all(team.agents.iter().map(|agent| agent.shutdown(CALL_TIMEOUT))).await;
    let ends: Vec<_> = peers.iter().chain(team.agents.iter().map(|agent| agent.peer())).collect();
    let (mut calls, mut in_flight) = (0, 0);
    for stats in ends.iter().map(|peer| peer.stats()) {
        calls += stats.calls_done + stats.calls_failed;
        in_flight += stats.calls_in_flight;
    }
    stage.promise(in_flight == 0, &format!("all {calls} calls of the demonstration have ended"));
    Ok(())
}
