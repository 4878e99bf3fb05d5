//! `callosum ping`.

use std::time::{Duration, Instant};

use callosum_runtime::{CallError, Connector, DisconnectCause, Reconnect};
use futures_util::future::join;

use crate::args::Ping;
use crate::exit::{Failure, Lines};
use crate::signals::Signals;

/// How long the summary may take to be read after an interruption.
const PARTING: Duration = Duration::from_secs(1);

/// What the probes have told so far.
#[derive(Default)]
struct Tally {
    sent: u64,
    answered: u64,
    min: Duration,
    max: Duration,
    sum: Duration,
}

pub(crate) fn run(args: Ping) -> Result<(), Failure> {
    args.executor.executor.block_on(ping(&args))?
}

async fn ping(args: &Ping) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let builder = args.curve.secure(args.executor.executor.builder())?;
    let (connector, driver) = builder.reconnect(Reconnect::Never).connect(&args.endpoint)?;
    let (mut tally, mut out) = (Tally::default(), Lines::default());
    let (_, probed) = join(driver, async {
        let probed = signals.unless(probe(&connector, args, &mut tally, &mut out)).await;
        connector.shutdown(Duration::ZERO).await;
        probed
    })
    .await;
    if tally.sent > 0 {
        let timeout = if probed.is_none() { PARTING } else { Duration::MAX };
        let telling = signals.unless(out.tell(tally.summary(args)));
        let told = args.executor.executor.within(timeout, telling).await;
        told.flatten().ok_or(Failure::Cancelled)??;
    }
    probed.unwrap_or(Ok(()))?;
    match (tally.sent, tally.answered) {
        (0, _) => Err(Failure::Cancelled),
        (_, 0) => Err(Failure::TimedOut(String::from("no probe was answered"))),
        _ => Ok(()),
    }
}

async fn probe(
    connector: &Connector,
    args: &Ping,
    tally: &mut Tally,
    out: &mut Lines,
) -> Result<(), Failure> {
    let (executor, peer) = (args.executor.executor, connector.peer());
    match executor.within(args.timeout, peer.ready()).await {
        Some(Ok(())) => {}
        Some(Err(cause)) => return Err(Failure::no_link(&args.endpoint, cause)),
        None => return Err(Failure::no_answer(&args.endpoint)),
    }
    let kind = match peer.info().hello {
        Some(_) => "",
        None => ", which speaks dialect 1 only",
    };
    out.tell(format!("PING {}{kind}", args.endpoint)).await?;
    while args.count.is_none_or(|count| tally.sent < count) {
        let start = Instant::now();
        tally.sent += 1;
        let seq = tally.sent;
        match executor.within(args.timeout, peer.ping()).await {
            Some(Ok(time)) => {
                tally.add(time);
                out.tell(format!("pong from {}: seq={seq} time={} ms", args.endpoint, millis(time))).await?;
            }
            Some(Err(CallError::Disconnected(cause))) => return Err(Failure::ConnectionLost(cause)),
            Some(Err(_)) => return Err(Failure::ConnectionLost(DisconnectCause::PeerClosed)),
            None => out.tell(format!("no answer from {}: seq={seq}", args.endpoint)).await?,
        }
        if args.count.is_none_or(|count| seq < count) {
            executor.sleep(args.interval.saturating_sub(start.elapsed())).await;
        }
    }
    Ok(())
}

impl Tally {
    fn add(&mut self, round_trip: Duration) {
        self.min = if self.answered == 0 { round_trip } else { self.min.min(round_trip) };
        self.max = self.max.max(round_trip);
        self.sum += round_trip;
        self.answered += 1;
    }

    fn summary(&self, args: &Ping) -> String {
        let (sent, answered) = (self.sent, self.answered);
        let lost = 100.0 * (1.0 - answered as f64 / sent as f64);
        let mut summary = format!(
            "\n--- {} ping statistics ---\n{sent} sent, {answered} answered, {lost:.0}% lost",
            args.endpoint
        );
        if answered > 0 {
            let average = self.sum.div_f64(answered as f64);
            let times = [self.min, average, self.max].map(millis).join("/");
            summary += &format!("\nround trip min/avg/max = {times} ms");
        }
        summary
    }
}

fn millis(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}
