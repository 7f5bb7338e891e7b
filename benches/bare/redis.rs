//! Streams and a consumer group: `XADD` by 100, and reads of 100 whose acknowledgements travel with
//! the next read.

use crate::wire::Wire;
use crate::{Pace, Seen, WINDOW, event, now};

const STREAM: &[u8] = b"{bench:market_data:0}";
const GROUP: &[u8] = b"bench";

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        text.extend(format!("${}\r\n", word.len()).into_bytes());
        text.extend_from_slice(word);
        text.extend_from_slice(b"\r\n");
    }
    text
}

fn add(n: usize, sent: f64) -> Vec<u8> {
    command(&[b"XADD", STREAM, b"*", b"data", &event(n, sent)])
}

/// One answer from the beginning of `text`: its end, if it is there whole. What is a text is shown
/// to `seen`.
fn answer<'a>(text: &'a [u8], seen: &mut impl FnMut(&'a [u8])) -> Option<usize> {
    let line = text.windows(2).position(|two| two == b"\r\n")?;
    let after = line + 2;
    let number = || std::str::from_utf8(&text[1..line]).ok()?.parse::<i64>().ok();
    match text.first()? {
        b'$' => match usize::try_from(number()?) {
            Ok(length) => {
                seen(text.get(after..after + length)?);
                text.get(after + length..after + length + 2).map(|_| after + length + 2)
            }
            Err(_) => Some(after),
        },
        b'*' => {
            let mut end = after;
            for _ in 0..number()?.max(0) {
                end += answer(&text[end..], seen)?;
            }
            Some(end)
        }
        b'-' => panic!("{}", String::from_utf8_lossy(&text[..line])),
        _ => Some(after),
    }
}

fn skip(wire: &mut Wire, count: usize) {
    for _ in 0..count {
        loop {
            if let Some(end) = answer(wire.there(), &mut |_| {}) {
                wire.take(end);
                break;
            }
            wire.more();
        }
    }
}

/// Batches of 100, one round trip each; one by one at a rate.
pub fn publish(address: &str, count: usize, begin: impl FnOnce() -> Pace) {
    let mut wire = Wire::connect(address);
    let batch: Vec<u8> = (0..WINDOW).flat_map(|n| add(n, 0.0)).collect();
    let pace = begin();
    if pace.rate > 0.0 {
        for n in 0..count {
            pace.wait(n);
            wire.send(&add(n, now()));
            skip(&mut wire, 1);
        }
        return;
    }
    for _ in 0..count / WINDOW {
        wire.send(&batch);
        skip(&mut wire, WINDOW);
    }
}

/// Reads for a group.
pub fn consume(address: &str, seen: &mut Seen, ready: impl FnOnce()) {
    let mut wire = Wire::connect(address);
    wire.send(&command(&[b"XGROUP", b"CREATE", STREAM, GROUP, b"$", b"MKSTREAM"]));
    skip(&mut wire, 1);
    ready();
    let most = WINDOW.to_string();
    let read = command(&[
        b"XREADGROUP",
        b"GROUP",
        GROUP,
        b"one",
        b"COUNT",
        most.as_bytes(),
        b"BLOCK",
        b"0",
        b"STREAMS",
        STREAM,
        b">",
    ]);
    let (mut acknowledge, mut over) = (Vec::new(), false);
    while !over {
        let owed = usize::from(!acknowledge.is_empty());
        acknowledge.extend_from_slice(&read);
        wire.send(&acknowledge);
        skip(&mut wire, owed);
        let mut words: Vec<&[u8]> = Vec::with_capacity(WINDOW * 3);
        let end = loop {
            words.clear();
            // Borrowed from what is there, which stays until it is taken.
            if answer(wire.there(), &mut |_| {}).is_some() {
                break answer(wire.there(), &mut |word| words.push(word)).unwrap_or(0);
            }
            wire.more();
        };
        let at = now();
        // The name of the stream, and then an id, `data` and the event, each time.
        let entries: Vec<&[&[u8]]> = words[1..].chunks_exact(3).collect();
        for entry in &entries {
            over = seen.event(entry[2], at);
        }
        let mut done: Vec<&[u8]> = vec![b"XACK", STREAM, GROUP];
        done.extend(entries.iter().map(|entry| entry[0]));
        acknowledge = command(&done);
        wire.take(end);
    }
    wire.send(&acknowledge);
    skip(&mut wire, 1);
}
