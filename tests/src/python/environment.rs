//! The virtual environment that holds Python Callosum.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const REQUIREMENTS: &str = include_str!("../../python/requirements.txt");
/// Names the interpreter that makes the virtual environment; `python3` unless set.
const PYTHON_VAR: &str = "CALLOSUM_TEST_PYTHON";

/// The interpreter of a virtual environment that holds Python Callosum and pyzmq.
///
/// Made once per content of `requirements.txt`, under `target/`; a file lock keeps test processes that run at
/// the same time from making it twice.
///
/// # Panics
/// When the environment can't be made, with what failed and what to do about it.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(make_environment)
}

/// The path of a script in `tests/python`.
pub(super) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// The folder of the programs that Python Callosum's source package comes with, as they are in the version of `requirements.txt`.
///
/// Fetched once, as [`python`] is made.
///
/// # Panics
/// When they can't be fetched, with what failed and what to do about it.
pub fn upstream_examples() -> PathBuf {
    let requirement = REQUIREMENTS.lines().find(|line| line.starts_with("callosum=="));
    let requirement = requirement.expect("the version of Python Callosum is pinned");
    let folder = once(&requirement.replace("==", "-"), |folder| fetch_source(requirement, folder));
    folder.join("source").join("examples")
}

/// Unpacks the source package into the folder `source` of this one.
fn fetch_source(requirement: &str, folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let advice = "pip must reach a package index that holds the source package of callosum in tests/python/requirements.txt.";
    run(
        Command::new(python())
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--no-deps", "--no-binary", ":all:", requirement, "--dest"])
            .arg(folder),
        advice,
    );
    let unpack = "import pathlib, sys, tarfile
folder = pathlib.Path(sys.argv[1])
with tarfile.open(next(folder.glob('callosum-*.tar.gz'))) as archive:
    archive.extractall(folder, filter='data')
next(folder.glob('callosum-*/')).rename(folder / 'source')";
    run(Command::new(python()).args(["-c", unpack]).arg(folder), advice);
}

fn make_environment() -> PathBuf {
    let name = format!("python-venv-{:016x}", fnv1a(REQUIREMENTS.as_bytes()));
    let interpreter = |folder: &Path| folder.join("bin").join("python");
    interpreter(&once(&name, |folder| install(folder, &interpreter(folder))))
}

/// A folder under `target/` that is made once, by whichever process is the first to need it.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let target = target_directory();
    let (directory, lock) = (target.join(name), target.join(format!("{name}.lock")));
    fs::create_dir_all(&target).unwrap_or_else(|e| panic!("can't create {}: {e}", target.display()));
    let lock_file = File::create(&lock).unwrap_or_else(|e| panic!("can't create {}: {e}", lock.display()));
    // Held until the end of this function; the system releases it when a process dies.
    lock_file.lock().unwrap_or_else(|e| panic!("can't lock {}: {e}", lock.display()));

    let complete = directory.join("complete");
    if !complete.exists() {
        make(&directory);
        fs::write(&complete, "").unwrap_or_else(|e| panic!("can't write {}: {e}", complete.display()));
    }
    directory
}

fn install(directory: &Path, interpreter: &Path) {
    let base = env::var_os(PYTHON_VAR).unwrap_or_else(|| "python3".into());
    run(
        // `--clear` removes what an interrupted attempt has left.
        Command::new(&base).args(["-m", "venv", "--clear"]).arg(directory),
        "Install Python 3.11 or later with its venv module (Debian: apt install python3-venv), or name another \
         interpreter in CALLOSUM_TEST_PYTHON.",
    );
    run(
        Command::new(interpreter)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"])
            .arg(script("requirements.txt")),
        "pip must reach a package index that holds the versions in tests/python/requirements.txt.",
    );
}

fn run(command: &mut Command, advice: &str) {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "the Python environment of the tests can't be made\ncommand: {command:?}\n{}\nstdout: {}\nstderr: {}\n{advice}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        ),
        Err(error) => panic!(
            "the Python environment of the tests can't be made\ncommand: {command:?}\ncan't be run: {error}\n{advice}"
        ),
    }
}

fn target_directory() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        // Cargo takes a relative one from where it was called; tests run elsewhere, so only an absolute one counts.
        Some(target) if Path::new(&target).is_absolute() => target.into(),
        _ => Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("this crate is a folder of the workspace")
            .join("target"),
    }
}

/// FNV-1a: unlike the standard library's hashes it is the same in every release.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
