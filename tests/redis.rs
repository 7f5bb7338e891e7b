//! Redis Streams on a real server: nothing that was accepted is lost, whatever is killed.
#![cfg(feature = "redis")]

#[path = "support/broker.rs"]
mod broker;
#[path = "support/redis.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tiebeam::clock::Clock;
use tiebeam::error::Kind;
use tiebeam::transport::open::{Options, TlsFiles};
use tiebeam::transport::outbox::{Bounds, Full};
use tiebeam::transport::redis::{Redis, Settings};
use tiebeam::transport::{Outcome, Start, Transport};
use tokio::runtime::Handle;

use self::broker::{
    Following, GUARD, Seen, follow, follow_from, follow_in_turn, publish, runtime, send, until_so,
};
use self::server::Server;

const STREAM: &str = "{tiebeam:market_data:0}";

fn open(server: &Server) -> Redis {
    open_with(settings(server))
}

fn settings(server: &Server) -> Settings {
    Options { claim_idle: Duration::from_millis(300), ..Options::new(server.url()) }.into()
}

fn open_with(settings: Settings) -> Redis {
    Redis::new(settings, Clock::real(), Handle::current(), Arc::new(|_, _| {})).expect("valid")
}

/// How many entries of the group wait to be acknowledged.
fn pending(server: &Server, group: &str) -> u64 {
    let mut connection = server.ask();
    let summary: redis::Value =
        redis::cmd("XPENDING").arg(STREAM).arg(group).query(&mut connection).expect("a group");
    match summary {
        redis::Value::Array(parts) => match parts[0] {
            redis::Value::Int(count) => u64::try_from(count).expect("a count"),
            _ => panic!("{parts:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Asks again until nothing waits.
async fn all_acknowledged(server: &Server, group: &str) {
    until_so(async || pending(server, group) == 0).await;
}

#[test]
fn what_is_sent_is_read_once_in_order_and_acknowledged() {
    let server = Server::start();
    runtime().block_on(async {
        let redis = open(&server);
        let seen = follow(&redis, Seen::default());
        assert_eq!(send(&redis, 0..2_000).await, 2_000);
        seen.all(2_000).await;
        assert!(seen.order.lock().iter().copied().eq(0..2_000));
        assert!(seen.events.lock().values().all(|(times, last)| (*times, *last) == (1, 1)));
        all_acknowledged(&server, "g").await;
        assert_eq!(redis.close(GUARD).await, 0);
    });
}

#[test]
fn a_group_shares_and_other_groups_get_everything_too() {
    let server = Server::start();
    runtime().block_on(async {
        let (redis, other) = (open(&server), open(&server));
        let places = [(&redis, "shared"), (&other, "shared"), (&redis, "other")];
        let seen = places.map(|(by, group)| follow_from(by, group, Start::First, Seen::default()));
        send(&redis, 0..1_000).await;
        seen[2].all(1_000).await;
        all_acknowledged(&server, "shared").await;
        let (a, b) = (seen[0].events.lock().clone(), seen[1].events.lock().clone());
        assert_eq!(a.len() + b.len(), 1_000);
        assert!(a.keys().all(|n| !b.contains_key(n)));
        redis.close(GUARD).await;
        other.close(GUARD).await;
    });
}

#[test]
fn a_keyed_group_is_read_by_one_at_a_time_and_the_next_waits_for_what_that_has() {
    let server = Server::start();
    runtime().block_on(async {
        let (redis, another) = (open(&server), open(&server));
        let first = follow_in_turn(&redis, "g", Seen::keeping());
        first.reader.ready().await.expect("it has its place");
        send(&redis, 0..60).await;
        first.all(60).await;
        let next = follow_in_turn(&another, "g", Seen::default());
        next.reader.ready().await.expect("it has its place");
        let Following { seen, reader } = first;
        drop(reader); // it leaves, and is at work yet
        send(&redis, 60..100).await;
        // Five times as long as an entry may be left alone.
        Clock::real().sleep(Duration::from_millis(1_500)).await;
        assert!(next.events.lock().is_empty());
        let mut kept = std::mem::take(&mut *seen.kept.lock());
        let left = kept.split_off(20);
        kept.iter().for_each(|entry| entry.event.settle());
        Clock::real().sleep(Duration::from_millis(200)).await;
        assert!(next.events.lock().is_empty());
        drop(left); // what was not begun comes to the next one, before what is new
        next.all(80).await;
        assert!(next.order.lock().iter().copied().eq(20..100));
        all_acknowledged(&server, "g").await;
        redis.close(GUARD).await;
        another.close(GUARD).await;
    });
}

#[test]
fn what_a_process_leaves_behind_goes_to_another() {
    let server = Server::start();
    let (first, second) = (runtime(), runtime());
    let left = first.block_on(async {
        let redis = open(&server);
        let kept = follow(&redis, Seen::keeping());
        send(&redis, 0..50).await;
        kept.all(50).await;
        (redis, kept)
    });
    // As if it had been killed: nothing of it runs any more, and it tells the server nothing.
    first.shutdown_background();
    drop(left);
    second.block_on(async {
        let redis = open(&server);
        let seen = follow(&redis, Seen::default());
        seen.all(50).await;
        assert!(seen.events.lock().values().all(|(times, last)| (*times, *last) == (1, 2)));
        all_acknowledged(&server, "g").await;
        redis.close(GUARD).await;
    });
}

#[test]
fn what_is_at_work_for_long_is_not_given_to_another() {
    let server = Server::start();
    runtime().block_on(async {
        let (redis, another) = (open(&server), open(&server));
        let slow = follow(&redis, Seen::keeping());
        send(&redis, [1]).await;
        slow.all(1).await;
        let other = follow(&another, Seen::default());
        // Five times as long as an entry may be left alone.
        Clock::real().sleep(Duration::from_millis(1_500)).await;
        assert!(other.events.lock().is_empty());
        for entry in slow.kept.lock().drain(..) {
            entry.event.settle();
        }
        all_acknowledged(&server, "g").await;
        assert!(other.events.lock().is_empty());
        another.close(GUARD).await;
        redis.close(GUARD).await;
    });
}

#[test]
fn a_restart_finds_what_its_own_consumer_had_not_handled() {
    let server = Server::start();
    let mine = || Settings {
        consumer: Some("me".into()),
        ..Settings::from(Options { claim_idle: GUARD, ..Options::new(server.url()) })
    };
    runtime().block_on(async {
        let redis = open_with(mine());
        let kept = follow(&redis, Seen::keeping());
        send(&redis, 0..5).await;
        kept.all(5).await;
        redis.close(GUARD).await;

        let redis = open_with(mine());
        let seen = follow(&redis, Seen::default());
        seen.all(5).await;
        assert!(seen.order.lock().iter().copied().eq(0..5));
        all_acknowledged(&server, "g").await;
        redis.close(GUARD).await;
    });
}

#[test]
fn nothing_that_was_accepted_is_lost_when_the_server_is_killed() {
    const EVENTS: u64 = 6_000;
    let mut server = Server::start();
    runtime().block_on(async {
        let redis = open(&server);
        let seen = follow(&redis, Seen::default());
        let mut sent = Vec::new();
        for n in 0..EVENTS {
            sent.push(publish(&redis, n).expect("room"));
            if n % (EVENTS / 3) == EVENTS / 6 {
                seen.all(usize::try_from(n / 2).expect("small")).await; // in the middle of it
                server.kill();
                server.launch();
            }
        }
        let (mut acked, mut failed, mut unknown) = (BTreeSet::new(), 0, 0);
        for (n, receipt) in (0..).zip(sent) {
            match receipt.await {
                Ok(()) => {
                    acked.insert(n);
                }
                Err(error) if Outcome::of(&error) == Outcome::Unknown => unknown += 1,
                Err(_) => failed += 1,
            }
        }
        assert_eq!(acked.len() as u64 + failed + unknown, EVENTS);
        seen.until(|seen| acked.iter().all(|n| seen.events.lock().contains_key(n))).await;
        assert_eq!((failed, unknown), (0, 0), "there was time to send all of it again");
        redis.close(GUARD).await;
    });
}

#[test]
fn a_group_that_vanishes_is_made_again() {
    let server = Server::start();
    runtime().block_on(async {
        let redis = open(&server);
        let seen = follow_from(&redis, "g", Start::Now, Seen::default());
        let mut connection = server.ask();
        let mut n = 0;
        for lose in ["FLUSHALL", "DEL", "XGROUP"] {
            n += 1;
            send(&redis, [n]).await;
            seen.until(|seen| seen.order.lock().contains(&n)).await;
            let mut command = redis::cmd(lose);
            match lose {
                "DEL" => command.arg(STREAM),
                "XGROUP" => command.arg("DESTROY").arg(STREAM).arg("g"),
                _ => &mut command,
            };
            let _: redis::Value = command.query(&mut connection).expect("done");
            n += 1;
            send(&redis, [n]).await;
            seen.until(|seen| seen.order.lock().contains(&n)).await;
        }
        redis.close(GUARD).await;
    });
}

/// Waits until it was looked twice whether there is something to trim.
async fn looked_twice(server: &Server) {
    let mut connection = server.ask();
    let mut looks = || -> u64 {
        let stats: String =
            redis::cmd("INFO").arg("commandstats").query(&mut connection).expect("figures");
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xlen:calls="));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    };
    let before = looks();
    until_so(async || looks() >= before + 3).await;
}

/// The lengths of streams are only about what was asked for: whole nodes of them go.
#[test]
fn what_every_group_has_handled_is_trimmed_and_nothing_that_one_needs() {
    const EVENTS: u64 = 1_000;
    const KEEP: usize = 100;
    let server = Server::with(&["--stream-node-max-entries", "10"]);
    runtime().block_on(async {
        let redis = open_with(Settings {
            keep: KEEP,
            tidy_every: Duration::from_millis(50),
            ..settings(&server)
        });
        let mut connection = server.ask();
        let mut length = || -> usize {
            redis::cmd("XLEN").arg(STREAM).query(&mut connection).expect("a stream")
        };
        let mut asks = server.ask();
        let mut group = |name: &str| {
            let made: String = redis::cmd("XGROUP")
                .arg(&["CREATE", STREAM, name, "0", "MKSTREAM"])
                .query(&mut asks)
                .expect("a new group");
            assert_eq!(made, "OK");
        };
        group("lags");
        group("slow");
        let seen = follow(&redis, Seen::default());
        send(&redis, 0..EVENTS).await;
        seen.all(EVENTS as usize).await;
        // One group has handled everything, the others nothing yet.
        let mut other = server.ask();
        let mut read = |group: &str, count: u64| -> redis::Value {
            redis::cmd("XREADGROUP")
                .arg(&[
                    "GROUP",
                    group,
                    "other",
                    "COUNT",
                    &count.to_string(),
                    "STREAMS",
                    STREAM,
                    ">",
                ])
                .query(&mut other)
                .expect("entries")
        };
        looked_twice(&server).await;
        assert_eq!(length(), EVENTS as usize, "a group has not had the first of them");
        read("lags", 300);
        read("slow", EVENTS);
        looked_twice(&server).await;
        assert_eq!(length(), EVENTS as usize, "what was given out is not handled");
        let mut acks = server.ask();
        let mut handle = |group: &str, most: usize| {
            let pending: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
                .arg(&[STREAM, group, "-", "+", &most.to_string()])
                .query(&mut acks)
                .expect("pending");
            let mut ack = redis::cmd("XACK");
            ack.arg(STREAM).arg(group);
            pending.iter().for_each(|entry| {
                ack.arg(&entry.0);
            });
            let count: usize = ack.query(&mut acks).expect("acknowledged");
            assert_eq!(count, most);
        };
        handle("slow", 200);
        handle("lags", 300);
        // The oldest that somebody needs is the 201st.
        until_so(async || length() <= EVENTS as usize - 180).await;
        looked_twice(&server).await;
        assert!(length() >= EVENTS as usize - 200, "{}", length());
        handle("slow", EVENTS as usize - 200);
        read("lags", EVENTS);
        handle("lags", EVENTS as usize - 300);
        until_so(async || length() <= KEEP + 20).await;
        assert!(length() >= KEEP, "{}", length());
        redis.close(GUARD).await;
    });
}

#[test]
fn what_is_no_event_is_set_aside_once() {
    let server = Server::start();
    runtime().block_on(async {
        let mut connection = server.ask();
        let large = format!(r#"{{"payload": "{}"}}"#, "x".repeat(4 * 1024 * 1024));
        let foreign: [(&str, &[u8]); 6] = [
            ("data", large.as_bytes()),
            ("other", b"{}"),
            ("data", b"{\"event_id\": "),
            ("data", b"{}"),
            ("data", b"\xff\xfe"),
            (
                "data",
                br#"{"event_id": "x", "event_type": "no topic!", "timestamp": 1, "payload": {}}"#,
            ),
        ];
        for (name, value) in foreign {
            let _: String = redis::cmd("XADD")
                .arg(STREAM)
                .arg("*")
                .arg(name)
                .arg(value)
                .query(&mut connection)
                .expect("added");
        }
        let redis = open(&server);
        send(&redis, [1]).await;
        let seen = follow(&redis, Seen::default());
        seen.all(1).await;
        all_acknowledged(&server, "g").await;
        let aside: Vec<(String, BTreeMap<String, Vec<u8>>)> = redis::cmd("XRANGE")
            .arg(format!("{STREAM}:quarantine"))
            .arg("-")
            .arg("+")
            .query(&mut connection)
            .expect("a stream");
        assert_eq!(aside.len(), foreign.len());
        for ((_, fields), (name, value)) in aside.iter().zip(foreign) {
            assert!(!fields["reason"].is_empty());
            assert_eq!(fields["group"], b"g");
            let kept: &[u8] = if name == "data" { value } else { b"" };
            assert_eq!(fields["data"], kept[..kept.len().min(64 * 1024)]);
            if kept.len() > 64 * 1024 {
                let reason = String::from_utf8_lossy(&fields["reason"]);
                assert!(reason.contains("are the limit"), "{reason}");
            }
        }
        redis.close(GUARD).await;
    });
}

#[test]
fn a_wrong_password_fails_at_once_and_is_not_told() {
    let server = Server::with(&["--requirepass", "right"]);
    runtime().block_on(async {
        let url = server.url().replace("redis://", "redis://:canary@");
        let redis = open_with(Settings::new(url));
        let clock = Clock::real();
        let begun = clock.now();
        let error = redis.connect(GUARD).await.expect_err("refused");
        assert!(clock.now().saturating_since(begun) < Duration::from_secs(1));
        assert_eq!(error.kind(), Kind::Configuration);
        let receipt = publish(&redis, 1).expect("room");
        let refused = receipt.await.expect_err("refused");
        assert_eq!(Outcome::of(&refused), Outcome::Refused);
        for said in [format!("{error} {error:?}"), format!("{refused:?}"), format!("{redis:?}")] {
            assert!(!said.contains("canary"), "{said}");
        }
        redis.close(GUARD).await;

        let url = server.url().replace("redis://", "redis://:right@");
        let redis = open_with(Settings::new(url));
        redis.connect(GUARD).await.expect("the right one");
        redis.close(GUARD).await;
    });
}

#[test]
fn without_a_server_publishers_are_told_in_time() {
    let mut server = Server::start();
    server.kill();
    runtime().block_on(async {
        let outbox = Bounds { most: 3, limit: Duration::from_millis(300), full: Full::Fail };
        let redis = open_with(Options { outbox, ..Options::new(server.url()) }.into());
        let error = redis.connect(Duration::from_millis(200)).await.expect_err("nobody there");
        assert_eq!(error.kind(), Kind::Dependency);
        let sent: Vec<_> = (0..3).map(|n| publish(&redis, n).expect("room")).collect();
        let full = publish(&redis, 9).expect_err("no room");
        assert_eq!(full.kind(), Kind::MailboxFull);
        for receipt in sent {
            let error = Clock::real().timeout(GUARD, receipt).await.expect("in time");
            let error = error.expect_err("not sent");
            assert_eq!(error.kind(), Kind::Dependency);
            assert_eq!(Outcome::of(&error), Outcome::Refused, "it never went out");
        }
        assert_eq!(redis.unsent(), 0);
        redis.close(Duration::ZERO).await;
        assert_eq!(publish(&redis, 1).expect_err("closed").kind(), Kind::Closed);
    });
}

#[test]
fn with_its_last_handle_its_work_ends() {
    let server = Server::start();
    runtime().block_on(async {
        let redis = open(&server);
        let seen = follow(&redis, Seen::default());
        send(&redis, [1]).await;
        seen.all(1).await;
        let tasks = tokio::runtime::Handle::current().metrics();
        drop(redis);
        until_so(async || tasks.num_alive_tasks() == 0).await;
        assert_eq!(Arc::strong_count(&seen.seen), 1);
    });
}

#[test]
fn settings_that_cannot_be_are_refused() {
    runtime().block_on(async {
        let good = || Options::new("redis://127.0.0.1:1");
        let none = Bounds { most: 0, ..good().outbox };
        let ca = TlsFiles { ca: Some("/nowhere/ca.pem".into()), ..TlsFiles::default() };
        let wrong = [
            Options { batch: 0, ..good() },
            Options { outbox: none, ..good() },
            Options { prefix: "a{b}".into(), ..good() },
            Options { claim_idle: Duration::ZERO, ..good() },
            Options { tls: ca.clone(), ..good() },
            Options { tls: ca, ..Options::new("rediss://u:canary@h") },
            Options::new("rediss://u:canary@h#insecure"),
            Options::new("redis+sentinel://u:canary@h"),
            Options::new("http://u:canary@h"),
            Options::new("nowhere"),
        ];
        for settings in wrong.map(Settings::from) {
            let error = Redis::new(settings, Clock::real(), Handle::current(), Arc::new(|_, _| {}))
                .expect_err("refused");
            assert_eq!(error.kind(), Kind::Configuration);
            assert!(!format!("{error:?}").contains("canary"));
        }
    });
}
