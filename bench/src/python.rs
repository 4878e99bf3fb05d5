//! The virtual environment that Python Callosum runs in, and the libzmq in it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");
const SCRIPT: &str = include_str!("../python/echo.py");
const PROGRAM: &str = include_str!("../c/echo.c");
const HELP: &str = "Python Callosum needs `python3` (3.11 or later, with venv and pip) on the PATH and a package \
    index that pip can reach. To measure without it, name the other peers: --peer tarpc --peer tonic …";

/// Where to find what [`prepare`] made.
#[derive(Debug)]
pub struct Environment {
    /// The environment's `python`.
    pub interpreter: PathBuf,
    /// The script with the server and the client.
    pub script: PathBuf,
}

/// Makes the environment in the target directory that holds `program`, unless it is there already.
///
/// # Errors
/// A step fails; the error holds its output and says what is needed.
pub fn prepare(program: &Path) -> Result<Environment> {
    let target = program.ancestors().nth(2).context("the program lies in a target directory")?;
    let root = target.join("callosum-python");
    let environment = Environment { interpreter: root.join("bin/python"), script: root.join("echo.py") };
    // Written last, so that an environment that was made in part is made again.
    let installed = root.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS) {
        fs::write(&environment.script, SCRIPT)?;
        return Ok(environment);
    }
    eprintln!("making a virtual environment for Python Callosum in {}", root.display());
    let requirements = root.join("requirements.txt");
    step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&root))?;
    fs::write(&requirements, REQUIREMENTS)?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    step(Command::new(&environment.interpreter).args(install).arg(&requirements))?;
    fs::write(&environment.script, SCRIPT)?;
    fs::write(&installed, REQUIREMENTS)?;
    Ok(environment)
}

/// Compiles the program in C against the libzmq, with libsodium, that pyzmq brings, unless that was done; where it is.
///
/// # Errors
/// As [`prepare`]; there is no C compiler; pyzmq was built in another way, without a libzmq of its own.
pub fn compile(program: &Path) -> Result<PathBuf> {
    let environment = prepare(program)?;
    let root = environment.script.parent().context("the script lies in the environment")?;
    let (source, echo, compiled) = (root.join("echo.c"), root.join("echo"), root.join("compiled.c"));
    if fs::read_to_string(&compiled).is_ok_and(|text| text == PROGRAM) {
        return Ok(echo);
    }
    let library = find_libzmq(root)?;
    let folder = library.parent().context("the library lies in a folder")?;
    fs::write(&source, PROGRAM)?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"];
    let mut run_path = OsString::from("-Wl,-rpath,");
    run_path.push(folder);
    step(Command::new(compiler).args(flags).arg("-o").arg(&echo).arg(&source).arg(&library).arg(run_path))?;
    // Written last, as above.
    fs::write(&compiled, PROGRAM)?;
    Ok(echo)
}

fn find_libzmq(root: &Path) -> Result<PathBuf> {
    for python in fs::read_dir(root.join("lib"))? {
        let libraries = python?.path().join("site-packages/pyzmq.libs");
        let Ok(entries) = fs::read_dir(libraries) else { continue };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("libzmq") {
                return Ok(entry.path());
            }
        }
    }
    bail!(
        "pyzmq has no libzmq of its own in {}: install it from a wheel, or name the other peers",
        root.display()
    )
}

fn step(command: &mut Command) -> Result<()> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("can't run {command:?}\n{HELP}"))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{command:?} ended with {}:\n{out}{err}\n{HELP}", output.status);
    }
    Ok(())
}
