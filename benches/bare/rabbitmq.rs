//! AMQP 0-9-1 on a quorum queue: persistent messages, 100 confirms under way, acknowledged by 100.

use std::collections::BTreeSet;

use crate::wire::Wire;
use crate::{Pace, Seen, WINDOW, event, now};

const QUEUE: &str = "bench";
const END: u8 = 0xCE;

fn frame(kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let mut text = vec![kind];
    text.extend(channel.to_be_bytes());
    text.extend((body.len() as u32).to_be_bytes());
    text.extend_from_slice(body);
    text.push(END);
    text
}

/// A method with its arguments.
fn method(channel: u16, class: u16, method: u16, arguments: &[&[u8]]) -> Vec<u8> {
    let mut body = class.to_be_bytes().to_vec();
    body.extend(method.to_be_bytes());
    arguments.iter().for_each(|some| body.extend_from_slice(some));
    frame(1, channel, &body)
}

fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend(text.bytes());
    bytes
}

fn long(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes
}

/// What a frame is.
struct Frame {
    kind: u8,
    /// Class and method, of a method.
    name: (u16, u16),
    body: Vec<u8>,
}

fn next(wire: &mut Wire) -> Frame {
    loop {
        let there = wire.there();
        if let Some(head) = there.get(..7) {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            if there.len() >= size + 8 {
                let (kind, body) = (head[0], there[7..7 + size].to_vec());
                let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
                let name = if kind == 1 { (number(0), number(2)) } else { (0, 0) };
                wire.take(size + 8);
                return Frame { kind, name, body };
            }
        }
        wire.more();
    }
}

fn expect(wire: &mut Wire, class: u16, method: u16) {
    let frame = next(wire);
    let text = String::from_utf8_lossy(&frame.body);
    assert_eq!(frame.name, (class, method), "the server says {text}");
}

/// A connection with one channel.
fn open(address: &str) -> Wire {
    let mut wire = Wire::connect(address);
    wire.send(b"AMQP\0\0\x09\x01");
    expect(&mut wire, 10, 10);
    let who = long(b"\0guest\0guest");
    wire.send(&method(0, 10, 11, &[&long(b""), &short("PLAIN"), &who, &short("en_US")]));
    expect(&mut wire, 10, 30);
    wire.send(&method(0, 10, 31, &[&[0, 1], &(1_u32 << 17).to_be_bytes(), &[0, 0]]));
    wire.send(&method(0, 10, 40, &[&short("/"), &[0, 0]]));
    expect(&mut wire, 10, 41);
    wire.send(&method(1, 20, 10, &[&[0]]));
    expect(&mut wire, 20, 11);
    wire
}

fn declare(wire: &mut Wire) {
    let mut table = short("x-queue-type");
    table.push(b'S');
    table.extend(long(b"quorum"));
    wire.send(&method(1, 50, 10, &[&[0, 0], &short(QUEUE), &[0b10], &long(&table)]));
    expect(wire, 50, 11);
}

fn message(text: &[u8]) -> Vec<u8> {
    let mut bytes = method(1, 60, 40, &[&[0, 0], &short(""), &short(QUEUE), &[0]]);
    let mut head = vec![0, 60, 0, 0];
    head.extend((text.len() as u64).to_be_bytes());
    head.extend([0b0001_0000, 0, 2]); // a delivery mode: persistent
    bytes.extend(frame(2, 1, &head));
    bytes.extend(frame(3, 1, text));
    bytes
}

/// What is confirmed, in whatever order the broker says so.
#[derive(Default)]
struct Confirmed {
    /// Everything up to this number.
    known: usize,
    /// Some behind it.
    beyond: BTreeSet<usize>,
}

impl Confirmed {
    /// Waits for another word of the broker.
    fn hear(&mut self, wire: &mut Wire) {
        let frame = next(wire);
        assert_eq!(frame.name, (60, 80), "a message was refused");
        let number = u64::from_be_bytes(frame.body[4..12].try_into().expect("eight bytes"));
        let number = number as usize;
        if frame.body[12] & 1 == 1 {
            self.known = self.known.max(number);
            self.beyond.retain(|some| *some > number);
        } else {
            self.beyond.insert(number);
        }
        while self.beyond.remove(&(self.known + 1)) {
            self.known += 1;
        }
    }
}

/// Batches of half a window, so that there is always one under way; one by one at a rate.
pub fn publish(address: &str, count: usize, begin: impl FnOnce() -> Pace) {
    let mut wire = open(address);
    declare(&mut wire);
    wire.send(&method(1, 85, 10, &[&[0]]));
    expect(&mut wire, 85, 11);
    let half = WINDOW / 2;
    let batch: Vec<u8> = (0..half).flat_map(|n| message(&event(n, 0.0))).collect();
    let pace = begin();
    let (mut sent, mut confirmed) = (0, Confirmed::default());
    if pace.rate > 0.0 {
        for n in 0..count {
            pace.wait(n);
            wire.send(&message(&event(n, now())));
            while confirmed.known <= n {
                confirmed.hear(&mut wire);
            }
        }
        return;
    }
    while confirmed.known < count {
        while sent < count && sent - confirmed.known <= half {
            wire.send(&batch);
            sent += half;
        }
        confirmed.hear(&mut wire);
    }
}

/// Takes what comes, and acknowledges it by half a window, or when there is no more.
pub fn consume(address: &str, seen: &mut Seen, ready: impl FnOnce()) {
    let mut wire = open(address);
    declare(&mut wire);
    wire.send(&method(1, 60, 10, &[&0_u32.to_be_bytes(), &(WINDOW as u16).to_be_bytes(), &[0]]));
    expect(&mut wire, 60, 11);
    wire.send(&method(1, 60, 20, &[&[0, 0], &short(QUEUE), &short("one"), &[0], &long(b"")]));
    expect(&mut wire, 60, 21);
    ready();
    let (mut tag, mut told, mut over) = (0_u64, 0_u64, false);
    while !over {
        let frame = next(&mut wire);
        match (frame.kind, frame.name) {
            (1, (60, 60)) => {
                let at = 4 + 1 + frame.body[4] as usize;
                tag = u64::from_be_bytes(frame.body[at..at + 8].try_into().expect("eight bytes"));
            }
            (3, _) => {
                over = seen.event(&frame.body, now());
                if over || wire.there().is_empty() || tag - told >= WINDOW as u64 / 2 {
                    wire.send(&method(1, 60, 80, &[&tag.to_be_bytes(), &[1]]));
                    told = tag;
                }
            }
            _ => {}
        }
    }
    // It is told orderly, so that nothing is on its way when the connection ends.
    wire.send(&method(1, 20, 40, &[&[0, 0], &short(""), &[0, 0, 0, 0]]));
    while next(&mut wire).name != (20, 41) {}
}
