//! The seeds of the fuzz targets (`fuzz/corpus`), and every beginning of each, through the
//! functions that the targets call.

use std::fs;
use std::path::Path;

#[path = "../fuzz/checks/event.rs"]
mod event;
#[path = "../fuzz/checks/filter.rs"]
mod filter;
#[path = "../fuzz/checks/topic.rs"]
mod topic;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|seed| seed.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "{} has {} seeds", folder.display(), seeds.len());
    for seed in seeds {
        println!("{}", seed.display()); // which one it was, if it fails
        let data = fs::read(&seed).unwrap();
        check(&data);
        // A message that is cut off, and one of which a byte was lost.
        let step = (data.len() / 400).max(1);
        for at in (0..data.len()).step_by(step) {
            check(&data[..at]);
            check(&[&data[..at], &data[at + 1..]].concat());
        }
    }
}

#[test]
fn events() {
    replay("event", event::check);
}

#[test]
fn topics() {
    replay("topic", topic::check);
}

#[test]
fn filters() {
    replay("filter", filter::check);
}
