//! A property test on virtual time finds a bug in a small application, shrinks it, and says how to replay it.
//!
//! The application: a manager tells an agent to start, stop and delete containers. It does not wait for one command to end before it
//! sends the next, for it gives them the container as key, and the agent serializes keys. The bug: it forgets the key where it deletes.
//!
//! The property: the containers that are left in the end are those that were started after they were last deleted.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callosum_runtime::{Context, HandlerResult, OrderingMode, Peer};
use callosum_testkit::world::{Link, Time, World};
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Start,
    Stop,
    Delete,
}

/// Commands, each with its container.
type Commands = Vec<(Command, u8)>;

/// The agent's containers.
#[derive(Clone, Default)]
struct Agent(Arc<Mutex<BTreeSet<u8>>>);

impl Agent {
    async fn obey(self, time: Time, command: Command, container: u8) -> HandlerResult<()> {
        let takes = match command {
            Command::Start => 50,
            Command::Stop => 20,
            Command::Delete => 1,
        };
        time.sleep(Duration::from_millis(takes)).await;
        let mut containers = self.0.lock().expect("nobody panics with it");
        match command {
            Command::Start => drop(containers.insert(container)),
            Command::Stop => {}
            Command::Delete => drop(containers.remove(&container)),
        }
        Ok(())
    }
}

/// The manager: sends all commands, then waits for their results.
async fn manage(agent: &Peer, commands: &Commands, forgets_key: bool) {
    let calls = commands.iter().map(|(command, container)| {
        let (method, key) = (format!("{command:?}"), format!("container {container}"));
        async move {
            let mut call = agent.invoke::<_, ()>(&method, container);
            if !(forgets_key && *command == Command::Delete) {
                call = call.key(key);
            }
            call.await.expect("the agent answers");
        }
    });
    join_all(calls).await;
}

/// Carries out the commands in a world of their own. Gives back which containers are left.
fn run(seed: u64, commands: &Commands, forgets_key: bool) -> BTreeSet<u8> {
    let world = World::new(seed);
    let (host, manager) = (world.host("agent"), world.host("manager"));
    world.set_default_link(Link::default().latency(Duration::from_millis(10)));
    let agent = Agent::default();
    world.run(async {
        let mut builder = host.builder().ordering(OrderingMode::KeySerialized);
        for command in [Command::Start, Command::Stop, Command::Delete] {
            let (agent, time) = (agent.clone(), world.time());
            let handler =
                move |container: u8, _: Context| agent.clone().obey(time.clone(), command, container);
            builder = builder.handle(format!("{command:?}"), handler);
        }
        let (_binder, driver) = builder.bind("tcp://agent:7000").await.expect("the port is free");
        host.spawn(async { drop(driver.await) });
        let (connector, driver) = manager.builder().connect("tcp://agent:7000").expect("it is an endpoint");
        manager.spawn(async { drop(driver.await) });
        manage(connector.peer(), commands, forgets_key).await;
    });
    agent.0.lock().expect("nobody panics with it").clone()
}

/// What should be left.
fn expected(commands: &Commands) -> BTreeSet<u8> {
    let mut left = BTreeSet::new();
    for (command, container) in commands {
        match command {
            Command::Start => drop(left.insert(*container)),
            Command::Stop => {}
            Command::Delete => drop(left.remove(container)),
        }
    }
    left
}

/// Runs the property for many lists of commands and seeds. The smallest for which it does not hold, if any.
fn search(forgets_key: bool) -> Option<(u64, Commands)> {
    let command = prop_oneof![Just(Command::Start), Just(Command::Stop), Just(Command::Delete)];
    let input = (0..1_000_u64, prop::collection::vec((command, 0..3_u8), 0..20));
    // Always the same ones, so that this example prints the same each time. Yours may use any, and keep the failures.
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner.run(&input, |(seed, commands)| {
        prop_assert_eq!(run(seed, &commands, forgets_key), expected(&commands));
        Ok(())
    });
    match outcome {
        Ok(()) => None,
        Err(TestError::Fail(_, input)) => Some(input),
        Err(other) => panic!("{other}"),
    }
}

fn main() {
    match search(true) {
        Some((seed, commands)) => {
            println!("with the bug, the property does not hold for {commands:?}, seed {seed}");
            println!("  left: {:?}, expected: {:?}", run(seed, &commands, true), expected(&commands));
        }
        None => println!("with the bug, nothing was found"),
    }
    match search(false) {
        Some(input) => println!("without the bug, the property does not hold for {input:?}"),
        None => println!("without the bug, it holds for all that was tried"),
    }
}
