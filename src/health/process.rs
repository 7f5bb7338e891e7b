//! What the operating system says about this process, read from `/proc` without unsafe code.

use std::fs;

/// One reading; `None` where the platform does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct ProcessSample {
    /// Resident memory in MB (10^6 bytes).
    pub memory_mb: Option<f64>,
    /// Open file descriptors.
    pub descriptors: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// CPU time in seconds, user and system, since the process began.
    pub cpu_seconds: Option<f64>,
}

/// Reads this process's figures: four small files and a directory.
pub fn sample() -> ProcessSample {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let stat = stat.as_deref().and_then(parse_stat);
    let statm = fs::read_to_string("/proc/self/statm").ok();
    let aux = fs::read("/proc/self/auxv").map(|bytes| Auxiliary::parse(&bytes)).unwrap_or_default();
    let resident = statm.as_deref().and_then(parse_statm);
    // The directory's own descriptor is open while it is read.
    let descriptors = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64 - 1);
    ProcessSample {
        memory_mb: resident.map(|pages| (pages * aux.page_size) as f64 / 1e6),
        descriptors,
        threads: stat.map(|(_, threads)| threads),
        cpu_seconds: stat.map(|(ticks, _)| ticks as f64 / aux.ticks_per_second as f64),
    }
}

/// The two units that `/proc` counts in and that only the auxiliary vector names.
struct Auxiliary {
    page_size: u64,
    ticks_per_second: u64,
}

impl Default for Auxiliary {
    /// What nearly every Linux uses.
    fn default() -> Self {
        Auxiliary { page_size: 4_096, ticks_per_second: 100 }
    }
}

impl Auxiliary {
    /// Pairs of native words: AT_PAGESZ is 6, AT_CLKTCK is 17.
    fn parse(bytes: &[u8]) -> Self {
        const WORD: usize = size_of::<usize>();
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, usize::from_ne_bytes) as u64;
        let mut found = Auxiliary::default();
        for pair in bytes.chunks_exact(2 * WORD) {
            let (key, value) = pair.split_at(WORD);
            match (word(key), word(value)) {
                (6, size) if size > 0 => found.page_size = size,
                (17, ticks) if ticks > 0 => found.ticks_per_second = ticks,
                _ => {}
            }
        }
        found
    }
}

/// Resident pages: the second figure.
fn parse_statm(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// CPU ticks (fields 14 and 15) and threads (field 20). The name in field 2 may hold spaces and
/// parentheses, so that counting starts after its last one.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(20)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 1 1 0 -1 4194304 9 0 0 0 30 12 0 0 20 0 5 0 100";
        assert_eq!(parse_stat(text), Some((42, 5)));
        assert_eq!(parse_stat("7 (short) S"), None);
        assert_eq!(parse_statm("900 250 10 1 0 2 0"), Some(250));
    }

    #[test]
    fn units_come_from_the_auxiliary_vector() {
        let words: [usize; 6] = [6, 16_384, 17, 250, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let aux = Auxiliary::parse(&bytes);
        assert_eq!((aux.page_size, aux.ticks_per_second), (16_384, 250));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        let before = sample();
        let _file = fs::File::open("/proc/self/stat").unwrap();
        assert!(before.memory_mb.unwrap() > 0.5);
        assert!(before.threads.unwrap() >= 1);
        assert!(before.cpu_seconds.unwrap() >= 0.0);
        assert!(sample().descriptors.unwrap() >= 1);
    }
}
