//! What a run ran on, in words.

use std::time::{SystemTime, UNIX_EPOCH};

use super::text::utc;

/// The moment as a date and time in UTC; 1970 for a clock that is set before it.
pub fn moment(time: SystemTime) -> String {
    utc(time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs()))
}

/// The processor with its number of cores; only Linux tells its name in a file.
pub fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let name = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|facts| model_name(&facts))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    match cores {
        1 => format!("{name}, 1 core"),
        cores => format!("{name}, {cores} cores"),
    }
}

fn model_name(facts: &str) -> Option<String> {
    let line = facts
        .lines()
        .find_map(|line| line.strip_prefix("model name"))?;
    let name = line.split_once(':')?.1.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Operating system and architecture.
pub fn system() -> String {
    format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_where_the_system_does() {
        let facts = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(model_name(facts).unwrap(), "Some CPU @ 2 GHz");
        assert_eq!(model_name("processor : 0\n"), None);
        assert!(processor().contains("core"));
    }
}
