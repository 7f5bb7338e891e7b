//! Which partition of its category an event goes to, and who of several readers has which.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;

/// The most partitions of a category.
pub(super) const MOST: usize = 256;

/// The partition of an event: by its key, so that events of one key stay in order; the first one
/// where it has none.
///
/// Any client can tell: it is the CRC-16 of Redis Cluster (XMODEM), of the key's UTF-8, modulo
/// `partitions`.
pub(super) fn of(key: Option<&str>, partitions: usize) -> usize {
    match key {
        Some(key) if partitions > 1 => usize::from(crc16(key.as_bytes())) % partitions,
        _ => 0,
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    const POLYNOMIAL: u16 = 0x1021;
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ POLYNOMIAL,
        })
    })
}

/// Which of `partitions` are for `own`, one of `members`. All who know the same members come to the
/// same answer: each has as many as the others, or one more; and when one comes or goes, few change
/// hands.
pub(super) fn share(partitions: usize, members: &[String], own: &str) -> HashSet<usize> {
    let (most, mut longer) = match members.len() {
        0 => return HashSet::new(),
        count => (partitions / count, partitions % count),
    };
    let mut taken: HashMap<&str, usize> = HashMap::new();
    let mut ours = HashSet::new();
    for partition in 0..partitions {
        let room = |member: &&String| match taken.get(&***member).copied().unwrap_or(0) {
            has if has < most => true,
            has => has == most && longer > 0,
        };
        let liking = |member: &&String| (weight(partition, member), (*member).clone());
        let Some(reader) = members.iter().filter(room).max_by_key(liking) else { continue };
        let has = taken.entry(reader).or_default();
        longer -= usize::from(*has == most);
        *has += 1;
        if reader == own {
            ours.insert(partition);
        }
    }
    ours
}

/// How much a partition is drawn to a member: the same in every process.
fn weight(partition: usize, member: &str) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(member.as_bytes());
    hasher.write(&(partition as u64).to_le_bytes());
    // The last bytes have not reached the upper bits yet.
    let mixed = (hasher.finish() ^ (hasher.finish() >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// FNV-1a, because those of the standard library differ from version to version.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_hashed_as_redis_cluster_does() {
        // What the specification of Redis Cluster gives as an example.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(of(Some("123456789"), 256), 0xc3);
        assert_eq!(of(Some("123456789"), 1), 0);
        assert_eq!(of(None, 256), 0);
        for partitions in [2, 3, 8] {
            let found: BTreeSet<usize> =
                (0..50).map(|n| of(Some(&format!("SYM{n}")), partitions)).collect();
            assert!(found.into_iter().eq(0..partitions), "all of {partitions} are used");
        }
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("host-{n:x}")).collect()
    }

    #[test]
    fn members_share_evenly_and_leave_nothing_out() {
        for partitions in [1, 2, 3, 7, 16, 256] {
            for count in 1..10 {
                let members = names(count);
                let shares: Vec<_> =
                    members.iter().map(|own| share(partitions, &members, own)).collect();
                let mut all: Vec<usize> = shares.iter().flatten().copied().collect();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..partitions), "each once: {partitions} by {count}");
                let sizes = shares.iter().map(HashSet::len);
                let least = partitions / count;
                assert!(sizes.clone().all(|size| size == least || size == least + 1));
            }
        }
        assert!(share(4, &[], "a").is_empty());
        assert!(share(4, &names(2), "a stranger").is_empty());
    }

    #[test]
    fn few_change_hands_when_one_comes() {
        let (before, after) = (names(4), names(5));
        let stayed: usize = before
            .iter()
            .map(|own| share(64, &before, own).intersection(&share(64, &after, own)).count())
            .sum();
        assert!(stayed >= 40, "{stayed} of 64 stayed");
    }
}
