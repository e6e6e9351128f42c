//! What the system says about this process, by the names that every Prometheus client uses; read when somebody asks.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::series::Catalogue;

/// `(name, is a counter, help)` in the order of [`figures`].
const TOLD: [(&str, bool, &str); 7] = [
    ("process_cpu_seconds_total", true, "Processor time used, user and system."),
    ("process_resident_memory_bytes", false, "Memory in use that is not swapped out."),
    ("process_virtual_memory_bytes", false, "Address space in use."),
    ("process_threads", false, "Threads."),
    ("process_start_time_seconds", false, "When the process started, seconds since 1970."),
    ("process_open_fds", false, "Open files and connections."),
    ("process_max_fds", false, "Open files and connections that the system allows."),
];

/// Reads `/proc`. Where there is none (not Linux) its metrics are described and have no value.
#[derive(Debug)]
pub(super) struct Process;

impl Process {
    /// Lists the metrics and has them told.
    pub(super) fn register(catalogue: &mut Catalogue) {
        for (name, counter, help) in TOLD {
            catalogue.describe(kind(counter), name, &[], help);
        }
        catalogue.registry.register_collector(Box::new(Self));
    }
}

fn kind(counter: bool) -> MetricType {
    if counter { MetricType::Counter } else { MetricType::Gauge }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for ((name, counter, help), value) in TOLD.into_iter().zip(figures()) {
            let told = encoder.encode_descriptor(name.trim_end_matches("_total"), help, None, kind(counter))?;
            match value {
                Some(value) if counter => ConstCounter::new(value).encode(told)?,
                Some(value) => ConstGauge::new(value).encode(told)?,
                None => {}
            }
        }
        Ok(())
    }
}

fn figures() -> [Option<f64>; 7] {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold anything, also brackets and spaces; after it comes field 3.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let boot = || {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()
    };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    [
        field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks),
        field(24).map(|pages| pages * rustix::param::page_size() as f64),
        field(23),
        field(20),
        field(22).and_then(|started| Some(boot()? + started / ticks)),
        fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1) as f64),
        limit.map(|limit| limit as f64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_this_process() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            crate::telemetry::skipped("there is no /proc here");
            return;
        }
        let [cpu, resident, address_space, threads, started, open, most] = figures().map(Option::unwrap);
        assert!((0.0..1e6).contains(&cpu));
        assert!(resident > 1e6 && resident < address_space, "{resident} {address_space}");
        let counted = std::fs::read_dir("/proc/self/task").unwrap().count() as f64;
        assert!(threads >= 1.0 && (threads - counted).abs() < 64.0, "{threads} {counted}");
        let age = crate::time::now().as_second() as f64 - started;
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
        assert!(open >= 3.0 && open <= most);
    }
}
