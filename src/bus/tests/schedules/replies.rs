//! Requests, streams and waits: each comes to one end.

use super::*;

#[test]
fn a_reply_comes_once_or_late_or_never() {
    schedules(|| {
        let (bus, clock) = bus();
        let crew = Arc::<Crew>::default();
        let responder = Options { role: Role::Responder, ..options("r") };
        let made = bus.subscribe("ask", responder, crew).expect("valid");
        let requested = bus.request(draft("ask", 1), ms(100)).expect("has a responder");
        let answering = [1, 2].map(|n| {
            let (made, event) = (made.clone(), requested.published.event.clone());
            spawn(move || {
                made.answer(&event, Ok(payload(n)));
                0
            })
        });
        let time = spawn(move || {
            clock.advance(ms(100));
            0
        });
        let asking = spawn(move || u64::from(wait(requested.reply).is_ok()));
        let answered: u64 = join(answering.into_iter().chain([time, asking])).into_iter().sum();
        let books = bus.books();
        assert_eq!(answered + books.late_replies, 2, "one of the two is late, or both are");
        assert_eq!(books.pending_requests, 0);
    });
}

#[test]
fn replies_of_many_come_or_run_out_of_time() {
    schedules(|| {
        let (bus, clock) = bus();
        let crew = Arc::<Crew>::default();
        let made = ["r", "s"].map(|name| {
            let responder = Options { role: Role::Responder, ..options(name) };
            bus.subscribe("ask", responder, crew.clone()).expect("valid")
        });
        let wanted = Wanted::new(2, None).expect("valid");
        let asked = bus.request_many(draft("ask", 1), ms(100), wanted).expect("responders");
        let answering = made.map(|made| {
            let event = asked.event.clone();
            spawn(move || {
                made.answer(&event, Ok(payload(1)));
                Ok(2)
            })
        });
        let time = spawn(move || {
            clock.advance(ms(100));
            Ok(2)
        });
        let asking = spawn(move || match wait(asked.replies) {
            Ok(replies) => Ok(replies.len()),
            Err(error) => Err(error.kind()),
        });
        for came_to in join(answering.into_iter().chain([time, asking])) {
            assert!(matches!(came_to, Ok(2) | Err(Kind::RequestTimeout)), "{came_to:?}");
        }
        assert_eq!(bus.books().pending_requests, 0);
    });
}

#[test]
fn a_request_that_is_given_up_leaves_nothing() {
    schedules(|| {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let responder = Options { role: Role::Responder, ..options("r") };
        let made = bus.subscribe("ask", responder, crew.clone()).expect("valid");
        let requested = bus.request(draft("ask", 1), ms(100)).expect("has a responder");
        let event = requested.published.event.clone();
        let giving_up = spawn(move || drop(requested));
        let answering = spawn({
            let made = made.clone();
            move || made.answer(&event, Ok(payload(1)))
        });
        let ending = spawn({
            let made = made.clone();
            move || {
                made.cancel();
            }
        });
        join([giving_up, answering, ending]);
        crew.close();
        crew.work(1);
        assert_eq!(bus.books().pending_requests, 0);
        assert_eq!(assert_books(&bus, &[made]).in_flight, 0);
    });
}

#[test]
fn a_stream_misses_nothing_and_ends() {
    schedules(|| {
        let (bus, _) = bus();
        let stream = Arc::new(bus.stream("a", options("s")).expect("valid"));
        let reading = spawn({
            let stream = stream.clone();
            move || {
                let mut seen = Vec::new();
                while let Some(event) = wait(std::future::poll_fn(|cx| stream.poll_next(cx))) {
                    seen.push(number(&event));
                }
                seen
            }
        });
        join([producer(&bus, "a", 0..3)]);
        let ending = spawn({
            let made = stream.subscription().clone();
            move || {
                made.cancel();
            }
        });
        join([ending]);
        let seen = join([reading]).remove(0);
        assert!(seen.is_sorted() && seen.len() <= 3);
        let made = stream.subscription().clone();
        stream.close(false);
        let total = assert_books(&bus, &[made]);
        assert_eq!((total.delivered, total.dropped), (seen.len() as u64, 3 - seen.len() as u64));
    });
}

#[test]
fn a_stream_that_is_left_alone_is_read_to_the_end() {
    schedules(|| {
        let (bus, _) = bus();
        let stream = Arc::new(bus.stream("a", options("s")).expect("valid"));
        let reading = spawn({
            let stream = stream.clone();
            move || {
                for n in [0, 1, 2] {
                    let event = wait(std::future::poll_fn(|cx| stream.poll_next(cx)));
                    assert_eq!(number(&event.expect("three come")), n);
                }
            }
        });
        join([producer(&bus, "a", 0..3), reading]);
        stream.close(false);
        assert_eq!(bus.books().total.delivered, 3);
    });
}
