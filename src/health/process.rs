//! What the operating system says about this process, read from `/proc` without unsafe code.

use std::fs;
use std::sync::OnceLock;

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
    /// Virtual memory in bytes.
    pub virtual_bytes: Option<u64>,
    /// How many file descriptors it may have open; none for no limit, too.
    pub descriptor_limit: Option<u64>,
    /// When it began, in Unix seconds.
    pub started: Option<f64>,
}

/// Reads this process's figures: a few small files and a directory.
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
        threads: stat.map(|stat| stat.threads),
        cpu_seconds: stat.map(|stat| stat.cpu_ticks as f64 / aux.ticks_per_second as f64),
        virtual_bytes: stat.map(|stat| stat.virtual_bytes),
        descriptor_limit: fs::read_to_string("/proc/self/limits").ok().and_then(parse_limits),
        started: stat.zip(boot_time()).map(|(stat, boot)| {
            boot as f64 + stat.start_ticks as f64 / aux.ticks_per_second as f64
        }),
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

/// What `/proc/self/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
}

/// CPU ticks (fields 14 and 15), threads (20), the start in ticks since the machine's (22) and
/// virtual memory (23). The name in field 2 may hold spaces and parentheses, so that counting
/// starts after its last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
    })
}

/// The soft limit of the line `Max open files`.
fn parse_limits(text: String) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// When the machine started, in Unix seconds; read once, as the file is long.
fn boot_time() -> Option<u64> {
    static BOOT: OnceLock<Option<u64>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 1 1 0 -1 4194304 9 0 0 0 30 12 0 0 20 0 5 0 100 8192 3";
        let stat = Stat { cpu_ticks: 42, threads: 5, start_ticks: 100, virtual_bytes: 8192 };
        assert_eq!(parse_stat(text), Some(stat));
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

    #[test]
    fn the_limit_of_descriptors_is_the_soft_one() {
        let text =
            "Max processes  1 2 processes\nMax open files            1024      4096  files\n";
        assert_eq!(parse_limits(text.into()), Some(1024));
        assert_eq!(parse_limits("Max open files   unlimited unlimited files\n".into()), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        let before = sample();
        let _file = fs::File::open("/proc/self/stat").unwrap();
        assert!(before.memory_mb.unwrap() > 0.5);
        assert!(before.threads.unwrap() >= 1);
        assert!(before.cpu_seconds.unwrap() >= 0.0);
        assert!(before.virtual_bytes.unwrap() as f64 > before.memory_mb.unwrap());
        assert!(before.started.unwrap() > 1e9);
        assert!(sample().descriptors.unwrap() >= 1);
    }
}
