//! The programs as processes, over real sockets: a manager, two agents, and operators in Rust and in Python.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::future::IntoFuture;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use callosum_tests::python::python;
use callosum_tokio::auth::{
    AuthenticationError, CurveClient, generate_keys, load_keys, load_public_key, save_keys,
};
use callosum_tokio::{CallError, DisconnectCause, NotSent, Peer, builder};
use serde::de::IgnoredAny;

/// Only a safety net against hanging.
const SOON: Duration = Duration::from_secs(30);

/// A process; ended when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of its own, with the keys of everybody.
struct Cluster {
    folder: PathBuf,
    manager: Option<Process>,
    agents: Vec<Process>,
    endpoint: String,
}

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn cluster() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cluster"))
}

impl Cluster {
    /// With two agents, whose tunnels may reach what the rules of the example say.
    fn start(name: &str) -> Self {
        let mut cluster = Self::without_agents(name);
        cluster.start_manager("tcp://127.0.0.1:0");
        for name in ["node-1", "node-2"] {
            cluster.start_agent(name, &here("rules.toml"));
        }
        cluster
    }

    fn without_agents(name: &str) -> Self {
        // Short, as the path of a socket has 107 bytes at most.
        let folder = std::env::temp_dir().join(format!("callosum-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut allowed = String::new();
        let mut keys = |name: &str, role: &str| {
            let keys = generate_keys();
            save_keys(&keys, folder.join(name)).unwrap();
            if !role.is_empty() {
                allowed += &format!("{} {role}/{name}\n", keys.public());
            }
        };
        keys("manager", "");
        keys("node-1", "agent");
        keys("node-2", "agent");
        keys("unauthenticated", "");
        keys("alice", "operator");
        fs::write(folder.join("allowed"), allowed).unwrap();
        Self { folder, manager: None, agents: Vec::new(), endpoint: String::new() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn start_manager(&mut self, at: &str) {
        let mut manager = cluster();
        manager.args(["manager", at, &self.path("manager"), &self.path("allowed")]);
        let mut child = manager.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.endpoint = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        self.manager = Some(Process(child));
    }

    fn agent(&self, name: &str, rules: &Path) -> Command {
        let mut agent = cluster();
        agent.args(["agent", &self.endpoint, &self.path(name), &self.path("manager.pub")]).arg(rules);
        agent
    }

    fn start_agent(&mut self, name: &str, rules: &Path) {
        self.agents.push(Process(self.agent(name, rules).spawn().unwrap()));
    }

    /// Calls the manager with somebody's key, as the body does.
    fn call<T>(&self, who: &str, body: impl AsyncFnOnce(&Peer) -> T) -> T {
        let security = CurveClient::new(
            load_keys(self.path(who)).unwrap(),
            load_public_key(self.path("manager.pub")).unwrap(),
        );
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let builder = builder().authenticator(security).call_timeout(SOON);
            let (connector, driver) = builder.connect(&self.endpoint).unwrap();
            let driving = tokio::spawn(driver);
            let result = body(connector.peer()).await;
            connector.shutdown(SOON).await;
            driving.await.unwrap().unwrap();
            result
        })
    }

    fn tour(&self, who: &str, node: &str, service: &str) -> Output {
        let mut tour = cluster();
        tour.args(["tour", &self.endpoint, &self.path(who), &self.path("manager.pub"), node]);
        tour.arg(here("hello.txt")).arg(service).output().unwrap()
    }

    fn drive(&self, node: &str, service: &str) -> Output {
        let mut drive = Command::new(python());
        drive.arg(here("drive.py")).arg(&self.endpoint);
        drive.args(["alice.pub", "alice", "manager.pub"].map(|key| self.path(key)));
        drive.args([node, service]);
        drive.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.agents.clear();
        self.manager = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A service beside the agents, which greets every client.
fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        listener.incoming().flatten().try_for_each(|mut client| client.write_all(b"at your service"))
    });
    address
}

#[track_caller]
fn printed(output: &Output) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn operators_in_rust_and_in_python_drive_the_same_agents() {
    let (cluster, service) = (Cluster::start("tour"), service());
    let size = fs::metadata(here("hello.txt")).unwrap().len();
    let tour = printed(&cluster.tour("alice", "node-1", &service));
    let expected = [
        "node-1 is there".to_owned(),
        format!("uploaded hello: {size} bytes"),
        "started node-1/web".to_owned(),
        "stopped and deleted node-1/web".to_owned(),
        "node-1/web: hello from an image".to_owned(),
        "node-1/web: which says no more".to_owned(),
        "the service says \"at your service\"".to_owned(),
    ];
    assert_eq!(tour, expected);
    // Now that the image is there, at the other agent.
    assert_eq!(printed(&cluster.tour("alice", "node-2", &service)).len(), expected.len() - 1);

    let driven = printed(&cluster.drive("node-2", &service));
    let expected = [
        "nodes: node-1 node-2",
        "started node-2/from-python",
        "Exists: the container from-python already exists",
        "stopped and deleted node-2/from-python",
        "the service says at your service",
    ];
    assert_eq!(driven, expected);
}

/// On a socket of its own, as no other process can take its path meanwhile.
#[test]
fn agents_come_back_to_a_manager_that_was_started_again() {
    let (mut cluster, service) = (Cluster::without_agents("again"), service());
    let endpoint = format!("ipc://{}", cluster.path("socket"));
    cluster.start_manager(&endpoint);
    cluster.start_agent("node-1", &here("rules.toml"));
    printed(&cluster.tour("alice", "node-1", &service));
    cluster.manager = None;
    cluster.start_manager(&endpoint);
    printed(&cluster.tour("alice", "node-1", &service));
}

#[test]
fn a_tunnel_reaches_what_the_rules_of_the_agent_say_and_no_more() {
    let (mut cluster, service) = (Cluster::without_agents("rules"), service());
    let (rules, wider) = (cluster.folder.join("rules.toml"), cluster.folder.join("wider.toml"));
    let text = fs::read_to_string(here("rules.toml")).unwrap();
    fs::write(&rules, text.replace("\"1024-65535\"", "\"1-1023\"")).unwrap();
    fs::write(&wider, text).unwrap();
    cluster.start_manager("tcp://127.0.0.1:0");
    cluster.start_agent("node-1", &rules);
    let refused = cluster.tour("alice", "node-1", &service);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(said.contains("stopped and deleted") && !said.contains("at your service"), "{said}");
    // Rules are followed while they are used.
    fs::rename(wider, rules).unwrap();
    while !cluster.tour("alice", "node-1", &service).status.success() {}
}

#[test]
fn each_role_has_its_methods() {
    let cluster = Cluster::start("roles");
    let image = BTreeMap::from([("image", "hello")]);
    let container = BTreeMap::from([("container", "node-1/web")]);
    let nodes = BTreeMap::new();
    for (who, method, arguments, role) in [
        ("alice", "Fleet.register", &nodes, "agent"),
        ("alice", "Fleet.heartbeat", &nodes, "agent"),
        ("alice", "Fleet.pull", &image, "agent"),
        ("node-1", "Fleet.nodes", &nodes, "operator"),
        ("node-1", "Containers.stop", &container, "operator"),
    ] {
        let refused =
            cluster.call(who, async |peer: &Peer| peer.invoke::<_, IgnoredAny>(method, arguments).await);
        let CallError::Remote(info) = refused.err().unwrap() else { panic!("{who} may call {method}") };
        let told = format!("only an {role} may call this");
        assert_eq!((&*info.name, &*info.repr), ("Forbidden", told.as_str()), "{who} {method}");
    }
    // An agent that is none gives up.
    let ended = cluster.agent("alice", &here("rules.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("Forbidden(\"agent\")"), "{said}");
}

#[test]
fn a_key_that_is_taken_off_the_list_is_out() {
    let cluster = Cluster::start("revoked");
    let nodes =
        |peer: &Peer| peer.invoke::<_, Vec<String>>("Fleet.nodes", &BTreeMap::<(), ()>::new()).into_future();
    let why = cluster.call("alice", async |peer: &Peer| {
        nodes(peer).await.unwrap();
        let others = fs::read_to_string(cluster.path("allowed")).unwrap();
        let others: String =
            others.lines().filter(|line| !line.contains("alice")).map(|line| format!("{line}\n")).collect();
        fs::write(cluster.path("others"), others).unwrap();
        fs::rename(cluster.path("others"), cluster.path("allowed")).unwrap();
        // The connection is closed once the file is read, and the next one is refused.
        loop {
            match nodes(peer).await {
                Err(CallError::NotSent(NotSent::Disconnected(why))) if why.is_authentication_failure() => {
                    break why;
                }
                Ok(_) | Err(_) => {}
            }
        }
    });
    assert!(matches!(why, DisconnectCause::Authentication(AuthenticationError::Refused { .. })), "{why:?}");
}

#[test]
fn who_is_not_admitted_or_has_another_role_is_refused() {
    let (cluster, service) = (Cluster::start("refused"), service());
    for (who, why) in
        [("unauthenticated", "Authentication(Refused"), ("node-2", "Failed(Forbidden(\"operator\"))")]
    {
        let refused = cluster.tour(who, "node-1", &service);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why), "{who}: {said}");
    }
}
