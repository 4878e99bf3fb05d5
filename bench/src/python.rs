//! The virtual environment that Python Callosum runs in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");
const SCRIPT: &str = include_str!("../python/echo.py");
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

fn step(command: &mut Command) -> Result<()> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("can't run {command:?}\n{HELP}"))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{command:?} ended with {}:\n{out}{err}\n{HELP}", output.status);
    }
    Ok(())
}
