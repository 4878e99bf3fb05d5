//! `callosum demo`: a manager and its agents in one process, over loopback TCP.
//!
//! Everything that it shows is checked, by the order of events and not by the clock: where one call has to outlast
//! another, its handler waits for that.

mod calls;
mod log;
mod ordering;
mod scenes;
mod stage;
mod team;
mod timeline;
mod unexpected;

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::executor::Executor;
use crate::exit::Failure;
use crate::signals::Signals;
use stage::Stage;
use team::Team;
use unexpected::Unexpected;

/// Something hangs if it takes longer than this; it takes about ten seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The time between two scenes, for people to follow.
const PAUSE: Duration = Duration::from_millis(600);

pub(crate) fn run(executor: Executor) -> Result<(), Failure> {
    executor.block_on(async {
        let mut signals = Signals::listen()?;
        match signals.unless(executor.within(LIMIT, play(executor))).await {
            Some(Some(result)) => result,
            Some(None) => Err(Failure::TimedOut(String::from("the demonstration hangs"))),
            None => Err(Failure::Cancelled),
        }
    })?
}

async fn play(executor: Executor) -> Result<(), Failure> {
    let mut stage = Stage::new(executor);
    let (team, drivers) = Team::assemble(executor).await?;
    stage.title(&format!("Callosum: a manager and three agents, on {}", executor.name()));
    stage.line(&format!("The manager listens on {}; the agents connect to it.", team.endpoint()));
    // The script and the drivers of its endpoints share a task; the script ends by shutting them down.
    let script = pin!(async {
        let result = perform(&mut stage, &team).await;
        (stage, result)
    });
    let (mut stage, result) = match select(script, drivers).await {
        Either::Left(((mut stage, result), drivers)) => {
            let ended = executor.within(Duration::from_secs(5), drivers).await;
            stage.promise(ended.is_some(), "nothing that was started is left running");
            (stage, result)
        }
        Either::Right((_, script)) => script.await,
    };
    stage.broken_by(result);
    stage.finish()
}

async fn perform(stage: &mut Stage, team: &Team) -> Result<(), Unexpected> {
    scenes::both_directions(stage, team).await?;
    stage.executor.sleep(PAUSE).await;
    ordering::compare(stage, team).await?;
    stage.executor.sleep(PAUSE).await;
    scenes::cancellation(stage, team).await?;
    stage.executor.sleep(PAUSE).await;
    scenes::timeout(stage, team).await?;
    stage.executor.sleep(PAUSE).await;
    scenes::failure(stage, team).await?;
    stage.executor.sleep(PAUSE).await;
    scenes::shutdown(stage, team).await
}
