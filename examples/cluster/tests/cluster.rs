//! The programs as processes, over real sockets: a manager, two agents, and operators in Rust and in Python.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use callosum_tests::python::python;
use callosum_tokio::auth::{generate_keys, save_keys};

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
    fn start(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
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
        let mut cluster = Self { folder, manager: None, agents: Vec::new(), endpoint: String::new() };
        cluster.start_manager("tcp://127.0.0.1:0");
        for name in ["node-1", "node-2"] {
            cluster.start_agent(name);
        }
        cluster
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

    fn start_agent(&mut self, name: &str) {
        let mut agent = cluster();
        agent.args(["agent", &self.endpoint, &self.path(name), &self.path("manager.pub")]);
        agent.arg(here("rules.toml"));
        self.agents.push(Process(agent.spawn().unwrap()));
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
        "node-1/web: hello from an image".to_owned(),
        "node-1/web: ready".to_owned(),
        "stopped and deleted node-1/web".to_owned(),
        "the service says \"at your service\"".to_owned(),
    ];
    assert_eq!(tour, expected);
    // Now that the image is there, at the other agent.
    assert_eq!(printed(&cluster.tour("alice", "node-2", &service)).len(), expected.len() - 1);

    let driven = printed(&cluster.drive("node-2", &service));
    let expected = [
        "nodes: node-1 node-2",
        "started node-2/from-python",
        "Exists: there is a container from-python already",
        "stopped and deleted node-2/from-python",
        "the service says at your service",
    ];
    assert_eq!(driven, expected);
}

#[test]
fn agents_come_back_to_a_manager_that_was_started_again() {
    let (mut cluster, service) = (Cluster::start("again"), service());
    printed(&cluster.tour("alice", "node-1", &service));
    cluster.manager = None;
    cluster.start_manager(&cluster.endpoint.clone());
    printed(&cluster.tour("alice", "node-1", &service));
}

#[test]
fn who_is_not_admitted_or_has_another_role_is_refused() {
    let (cluster, service) = (Cluster::start("refused"), service());
    for (who, why) in [("unauthenticated", "Authentication(Refused"), ("node-2", "that takes an operator")] {
        let refused = cluster.tour(who, "node-1", &service);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why), "{who}: {said}");
    }
}
