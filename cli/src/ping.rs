//! `callosum ping`.

use std::time::{Duration, Instant};

use callosum_runtime::{CallError, Connector, DisconnectCause, Endpoint, Reconnect};
use futures_util::future::join;

use crate::args::Ping;
use crate::exit::{Failure, Lines};
use crate::server::Server;
use crate::signals::Signals;

/// How long the summary may take to be read after an interruption.
const PARTING: Duration = Duration::from_secs(1);

/// The statistics of the probes so far.
#[derive(Default)]
struct Tally {
    sent: u64,
    answered: u64,
    min: Duration,
    max: Duration,
    sum: Duration,
}

pub(crate) fn run(args: Ping) -> Result<(), Failure> {
    let server = Server::of(&args.server, &args.curve)?;
    args.executor.executor.block_on(ping(&args, &server))?
}

async fn ping(args: &Ping, server: &Server) -> Result<(), Failure> {
    let (mut signals, endpoint) = (Signals::listen()?, &server.endpoint);
    let builder = server.secure(args.executor.executor.builder())?;
    let (connector, driver) = builder.reconnect(Reconnect::Never).connect(endpoint)?;
    let (mut tally, mut out) = (Tally::default(), Lines::default());
    let (_, probed) = join(driver, async {
        let probed = signals.unless(probe(&connector, args, endpoint, &mut tally, &mut out)).await;
        connector.shutdown(Duration::ZERO).await;
        probed
    })
    .await;
    if tally.sent > 0 {
        let timeout = if probed.is_none() { PARTING } else { Duration::MAX };
        let telling = signals.unless(out.tell(tally.summary(endpoint)));
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
    endpoint: &Endpoint,
    tally: &mut Tally,
    out: &mut Lines,
) -> Result<(), Failure> {
    let (executor, peer) = (args.executor.executor, connector.peer());
    match executor.within(args.timeout, peer.ready()).await {
        Some(Ok(())) => {}
        Some(Err(cause)) => return Err(Failure::no_link(endpoint, cause)),
        None => return Err(Failure::no_answer(endpoint)),
    }
    let kind = match peer.info().max_body {
        Some(_) => "",
        None => ", which speaks dialect 1 only",
    };
    out.tell(format!("PING {endpoint}{kind}")).await?;
    while args.count.is_none_or(|count| tally.sent < count) {
        let start = Instant::now();
        tally.sent += 1;
        let seq = tally.sent;
        match executor.within(args.timeout, peer.ping()).await {
            Some(Ok(time)) => {
                tally.add(time);
                out.tell(format!("pong from {endpoint}: seq={seq} time={} ms", millis(time))).await?;
            }
            Some(Err(CallError::Disconnected(cause))) => return Err(Failure::ConnectionLost(cause)),
            Some(Err(_)) => return Err(Failure::ConnectionLost(DisconnectCause::PeerClosed)),
            None => out.tell(format!("no answer from {endpoint}: seq={seq}")).await?,
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

    fn summary(&self, endpoint: &Endpoint) -> String {
        let (sent, answered) = (self.sent, self.answered);
        let lost = 100.0 * (1.0 - answered as f64 / sent as f64);
        let mut summary = format!(
            "\n--- {endpoint} ping statistics ---\n{sent} sent, {answered} answered, {lost:.0}% lost"
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
