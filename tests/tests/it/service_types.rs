//! A type of a typed service that can't travel is an error where it stands, and not where the macro does. What the macro itself finds wrong
//! is for the tests of `macros/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What is wrong with a line stands behind it.
const PROGRAM: &str = "\
struct Data;

#[callosum_runtime::service(crate = callosum_runtime)]
trait Agent {
    async fn result(&self) -> Data; // Data
    async fn error(&self) -> Result<u8, Data>; // Result
    async fn argument(&self, data: Data); // Data
    #[method(key = bytes)] // bytes
    async fn key(&self, bytes: Vec<u8>);
}

fn main() {}
";

/// The runtime as cargo has built it for this program: the last one, if there are more.
fn library(folder: &Path) -> PathBuf {
    let files = folder.read_dir().expect("it can be read").map(|entry| entry.expect("it can be read").path());
    let is_runtime = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libcallosum_runtime-") && name.ends_with(".rlib")
    };
    let modified = |path: &PathBuf| path.metadata().and_then(|it| it.modified()).expect("it is there");
    files.filter(is_runtime).max_by_key(modified).expect("this program is linked with it")
}

#[test]
fn what_can_not_travel_is_told_where_it_stands() {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (program, test) =
        (scratch.join("service_types.rs"), env::current_exe().expect("a test is a program"));
    let libraries = test.parent().expect("a program is in a folder");
    fs::write(&program, PROGRAM).expect("it can be written");
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--color=never", "--out-dir"])
        .args([scratch, Path::new("-L"), libraries])
        .arg("--extern")
        .arg(format!("callosum_runtime={}", library(libraries).display()))
        .arg(&program)
        .output()
        .expect("there is a compiler");
    let said = String::from_utf8_lossy(&output.stderr);
    for (number, line) in (1..).zip(PROGRAM.lines()) {
        let Some((_, mark)) = line.split_once("// ") else { continue };
        let column = line.find(mark).expect("it is in the line") + 1;
        let place = format!("service_types.rs:{number}:{column}\n");
        assert!(said.contains(&place), "no error is at {place}{said}");
    }
}
