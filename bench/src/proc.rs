//! What the kernel says about a process.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

use crate::executor::{AsyncStd, Executor, Tokio};

/// A process and those that it has started and that still run.
///
/// # Errors
/// As [`peak_kib`].
pub(crate) fn family(process: u32) -> Result<Vec<u32>> {
    let mut family = vec![process];
    let mut asked = 0;
    while let Some(&process) = family.get(asked) {
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
        for child in children.split_whitespace() {
            family.push(child.parse().with_context(|| format!("a child of {process} is {child:?}"))?);
        }
        asked += 1;
    }
    Ok(family)
}

/// Most memory that a process had at any time, in KiB; `process` is its number, or "self".
///
/// # Errors
/// The system has no such process, or is not Linux.
pub fn peak_kib(process: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("there is no VmHWM")?;
    line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("VmHWM is {line:?}"))
}

/// Memory that a process has now and that no file backs, in KiB: its heap and its stacks. `process` is as for [`peak_kib`].
///
/// # Errors
/// As [`peak_kib`].
pub fn anonymous_kib(process: &str) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).context("no Anonymous")?;
    line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("Anonymous is {line:?}"))
}

/// CPU time that the threads which a process has now have taken so far, in user and kernel mode. `process` is as for [`peak_kib`].
///
/// The scheduler counts it in nanoseconds; `/proc/PID/stat` has it in hundredths of a second, too coarse for 200 handshakes.
///
/// # Errors
/// As [`peak_kib`].
pub fn cpu_time(process: &str) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // One that has ended meanwhile is not there any more.
        let Ok(times) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let running = times.split(' ').next().and_then(|running| running.parse::<u64>().ok());
        nanos += running.with_context(|| format!("schedstat is {times:?}"))?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The number of a process's threads that are workers of a runtime; `process` is as for [`peak_kib`].
///
/// # Errors
/// As [`peak_kib`].
pub fn workers(process: &str) -> Result<usize> {
    threads(process, &[Tokio::WORKER_NAME, AsyncStd::WORKER_NAME])
}

/// The number of a process's threads that have one of `names`.
pub(crate) fn threads(process: &str, names: &[&str]) -> Result<usize> {
    // The kernel keeps no more than that of a name.
    const KEPT: usize = 15;
    let known = |name: &str| names.iter().any(|known| known[..known.len().min(KEPT)] == *name);
    let mut found = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // One that has ended meanwhile is not there any more.
        let Ok(name) = fs::read_to_string(thread?.path().join("comm")) else { continue };
        found += usize::from(known(name.trim_end()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_kernel_says_what_memory_a_process_has() {
        let kib = anonymous_kib("self").unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let grown = anonymous_kib("self").unwrap() - kib;
        assert!(grown > 32 << 10, "{grown} KiB for {} bytes", touched.len());
        assert!(anonymous_kib("0").is_err());
    }

    #[test]
    fn the_kernel_says_what_time_a_process_has_taken() {
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let process = busy.id().to_string();
        let begun = Instant::now();
        let taken = || cpu_time(&process).unwrap();
        while taken() < Duration::from_millis(5) {
            assert!(begun.elapsed() < Duration::from_secs(10), "it takes no time");
        }
        assert!(taken() <= begun.elapsed() + Duration::from_secs(1));
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(cpu_time(&process).is_err(), "it is gone");
    }
}
