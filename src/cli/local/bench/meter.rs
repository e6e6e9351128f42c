//! What a process costs: CPU time and memory, from `/proc`.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// A reading.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// CPU time of all its threads since its start.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub rss: u64,
}

/// Ticks of `/proc` a second: the same on every Linux since its CPU times are given to programs in this unit.
const TICKS: u64 = 100;

/// Reads a process.
///
/// # Errors
/// When it is gone.
pub fn read(process: u32) -> anyhow::Result<Reading> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).context("the server is gone")?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).context("the server is gone")?;
    let (cpu, rss) = parse(&stat, &status).context("/proc has another form here")?;
    Ok(Reading { at: Instant::now(), cpu, rss })
}

fn parse(stat: &str, status: &str) -> Option<(Duration, u64)> {
    // The name may hold anything, also blanks: fields are counted from its closing bracket. utime is field 14, stime 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let kib: u64 = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
    Some((Duration::from_millis(ticks * 1000 / TICKS), kib * 1024))
}

/// Share of one core that was used between two readings, per cent.
pub fn percent(from: &Reading, to: &Reading) -> f64 {
    let wall = to.at.duration_since(from.at).as_secs_f64();
    if wall > 0.0 { (to.cpu.saturating_sub(from.cpu)).as_secs_f64() / wall * 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_odd_names_are_read() {
        assert!(read(std::process::id()).unwrap().rss > 1 << 20);
        let stat = format!("7 (a b) c) S {} 150 50 0", (0..10).map(|i| i.to_string()).collect::<Vec<_>>().join(" "));
        assert_eq!(parse(&stat, "VmRSS:\t 12 kB\n"), Some((Duration::from_secs(2), 12 << 10)));
        assert!(read(u32::MAX).is_err());
    }
}
