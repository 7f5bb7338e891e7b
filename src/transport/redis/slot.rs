//! Which of the 16384 slots of a cluster a key is in.

/// How many slots a cluster has.
pub(super) const SLOTS: usize = 16_384;

/// The slot of `key`: of what stands in its first braces, if that is something, else of all of it.
pub(super) fn of(key: &str) -> u16 {
    let key = key.as_bytes();
    let open = key.iter().position(|byte| *byte == b'{').map(|at| &key[at + 1..]);
    let tag = open.and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'}').filter(|end| *end > 0)?;
        Some(&rest[..end])
    });
    crc16(tag.unwrap_or(key)) % SLOTS as u16
}

/// CRC-16 as XMODEM has it (polynomial 0x1021, beginning with zero), which the specification of
/// Redis Cluster names: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_slots_that_the_server_says() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        // What `CLUSTER KEYSLOT` answers.
        for (key, slot) in [
            ("", 0),
            ("foo", 12_182),
            ("{user1000}.following", 3_443),
            ("user1000", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
            ("{tiebeam:market_data:0}", 9_823),
            ("{tiebeam:market_data:0}:seen:g", 9_823),
            ("{tiebeam}:dead", 10_727),
        ] {
            assert_eq!(of(key), slot, "{key}");
        }
    }
}
