//! The limit: what server and kernel can do when no client does anything else.
//!
//! `bare BROKER publish|consume HOST:PORT COUNT RATE`. Events are encoded beforehand and never
//! decoded; a rate of 0 is as fast as it goes. It takes nothing but the standard library and none
//! of our code, and talks to `processes.race` as the other contenders do.

mod rabbitmq;
mod redis;
mod wire;

use std::env::args;
use std::process::exit;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many are sent before their answers are waited for.
const WINDOW: usize = 100;

/// The whole event, as the others write it. What stands behind `sent` is the last field but one.
fn event(n: usize, sent: f64) -> Vec<u8> {
    format!(
        r#"{{"event_id":"evt_{n:032x}","event_type":"market_data.trade","timestamp":1645541585432,"producer":"bench","version":1,"payload":{{"symbol":"BTCUSDT","price":38245.5,"volume":2.15,"n":{n},"sent":{sent:.7}}},"metadata":{{"priority":"normal","correlation_id":"evt_{n:032x}"}}}}"#
    )
    .into_bytes()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// How fast a publisher is to be.
struct Pace {
    begun: Instant,
    rate: f64,
}

impl Pace {
    /// Waits for the time of the event of this number.
    fn wait(&self, n: usize) {
        let at = Duration::from_secs_f64(n as f64 / self.rate);
        std::thread::sleep(at.saturating_sub(self.begun.elapsed()));
    }
}

/// What a consumer has seen.
struct Seen {
    count: usize,
    most: usize,
    latencies: Vec<f64>,
}

impl Seen {
    /// One event came; whether it was the last one.
    fn event(&mut self, text: &[u8], at: f64) -> bool {
        self.count += 1;
        if let Some(sent) = sent(text).filter(|sent| *sent > 0.0) {
            self.latencies.push(at - sent);
        }
        self.count >= self.most
    }

    fn report(&self) {
        let (seen, ended) = (self.count, now());
        println!(r#"{{"seen":{seen},"ended":{ended:.7},"latencies":{:?}}}"#, self.latencies);
    }
}

/// When an event was sent, which stands at the same place in all of them.
fn sent(text: &[u8]) -> Option<f64> {
    const NAME: &[u8] = br#""sent":"#;
    let at = text.len().checked_sub(130)?;
    let begin = text[at..].windows(NAME.len()).position(|some| some == NAME)? + at + NAME.len();
    let end = text[begin..].iter().position(|byte| *byte == b'}')? + begin;
    std::str::from_utf8(&text[begin..end]).ok()?.parse().ok()
}

fn main() {
    let words: Vec<String> = args().skip(1).collect();
    let [broker, what, address, count, rate] = &words[..] else {
        eprintln!("bare redis|rabbitmq publish|consume HOST:PORT COUNT RATE");
        exit(2);
    };
    let (count, rate) = (count.parse().unwrap_or(0), rate.parse().unwrap_or(0.0));
    let ready = || println!("ready");
    match (&**broker, &**what) {
        (_, "publish") => {
            let mut begun = 0.0;
            let begin = || {
                begun = now();
                Pace { begun: Instant::now(), rate }
            };
            match &**broker {
                "redis" => redis::publish(address, count, begin),
                _ => rabbitmq::publish(address, count, begin),
            }
            println!(r#"{{"begun":{begun:.7},"ended":{:.7}}}"#, now());
        }
        (broker, _) => {
            let mut seen = Seen { count: 0, most: count, latencies: Vec::new() };
            match broker {
                "redis" => redis::consume(address, &mut seen, ready),
                _ => rabbitmq::consume(address, &mut seen, ready),
            }
            seen.report();
        }
    }
}
