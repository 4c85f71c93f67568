//! What a process costs, as Linux tells it in `/proc` (proc_pid_stat(5), proc_pid_status(5)).

use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks a second; fixed at 100 in the kernel's user interface on every Linux port in use.
const TICKS: u64 = 100;

/// CPU time, user and system, of a process and of its children that have ended.
pub fn cpu(process: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat has a name")?.1.split_whitespace().collect();
    let ticks: u64 =
        fields.get(11..15).context("stat is long enough")?.iter().map(|f| f.parse().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Resident memory now, in bytes.
pub fn resident(process: u32) -> Result<u64> {
    status_bytes(process, "VmRSS:")
}

/// What a process holds, in bytes (`/proc/PID/smaps_rollup`).
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All that is in memory.
    pub resident: u64,
    /// The same, where what several processes share is divided among them.
    pub proportional: u64,
    /// What is no part of a file: neither the program nor its libraries.
    pub data: u64,
}

/// See [`Memory`].
pub fn memory(process: u32) -> Result<Memory> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let of = |field| bytes(&rollup, field);
    Ok(Memory { resident: of("Rss:")?, proportional: of("Pss:")?, data: of("Anonymous:")? })
}

/// The highest resident memory so far, in bytes.
pub fn resident_peak(process: u32) -> Result<u64> {
    status_bytes(process, "VmHWM:")
}

/// Sets the peak back to what is resident now, so that the next measure stands alone.
pub fn forget_peak(process: u32) -> Result<()> {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").context("clear_refs")
}

/// A process and all that descend from it.
pub fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while next < all.len() {
        let id = all[next];
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    all
}

fn status_bytes(process: u32, field: &str) -> Result<u64> {
    bytes(&std::fs::read_to_string(format!("/proc/{process}/status"))?, field)
}

fn bytes(text: &str, field: &str) -> Result<u64> {
    let line = text.lines().find(|line| line.starts_with(field)).context("the field is there")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("the field has a value")?.parse()?;
    Ok(kilobytes * 1024)
}
