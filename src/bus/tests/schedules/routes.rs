//! The route cache while subscriptions come and go.

use super::*;

#[test]
fn no_route_outlives_a_change() {
    schedules(|| {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let first = bus.subscribe("a.*", options("first"), crew.clone()).expect("valid");
        let publishing = producer(&bus, "a.b", 0..3); // caches a route, again and again
        let coming = ["a.b", "#"].map(|pattern| {
            let (bus, crew) = (bus.clone(), crew.clone());
            spawn(move || {
                let made = bus.subscribe(pattern, options(pattern), crew).expect("valid");
                let before = made.tally().published;
                let _ = bus.publish(draft("a.b", 1000)).expect("open");
                assert!(made.tally().published > before, "it is there once subscribe returns");
                made
            })
        });
        let going = spawn({
            let (bus, first) = (bus.clone(), first.clone());
            move || {
                first.cancel();
                let before = first.tally().published;
                let _ = bus.publish(draft("a.b", 2000)).expect("open");
                assert_eq!(first.tally().published, before, "it is gone once cancel returns");
            }
        });
        let mut made = join(coming);
        join([publishing, going]);
        let before: Vec<u64> = made.iter().map(|made| made.tally().published).collect();
        let _ = bus.publish(draft("a.b", 3000)).expect("open");
        for (made, before) in made.iter().zip(before) {
            assert_eq!(made.tally().published, before + 1, "{made:?}");
        }
        made.push(first);
        assert_books(&bus, &made);
    });
}

/// A publisher that keeps where its events go, and asks anew when routing has changed.
#[test]
fn no_destination_that_is_kept_outlives_a_change() {
    schedules(|| {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let publishing = spawn({
            let bus = bus.clone();
            move || {
                let mut kept = Kept::default();
                (0..4).for_each(|n| kept.publish(&bus, n));
                kept
            }
        });
        let coming = spawn({
            let (bus, crew) = (bus.clone(), crew.clone());
            move || bus.subscribe("a.*", options("x"), crew).expect("valid")
        });
        let going = spawn({
            let gone = bus.subscribe("#", options("y"), crew).expect("valid");
            move || {
                gone.cancel();
                gone
            }
        });
        let mut kept = join([publishing]).remove(0);
        let made = join([coming, going]);
        let before: Vec<u64> = made.iter().map(|made| made.tally().published).collect();
        kept.publish(&bus, 10);
        let after: Vec<u64> = made.iter().map(|made| made.tally().published).collect();
        assert_eq!(after, [before[0] + 1, before[1]]);
        assert_books(&bus, &made);
    });
}

#[derive(Default)]
struct Kept(Option<(u64, Destination)>);

impl Kept {
    fn publish(&mut self, bus: &Bus, n: i64) {
        let version = bus.routing();
        if self.0.as_ref().is_none_or(|(kept, _)| *kept != version) {
            self.0 = Some((version, bus.destination("a.b").expect("valid")));
        }
        let (_, destination) = self.0.as_ref().expect("looked up");
        let _ = bus.publish_to(destination, draft("a.b", n)).expect("open");
    }
}

#[test]
fn names_of_groups_lead_to_one_group() {
    schedules(|| {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let joining: Vec<_> = (0..3)
            .map(|n: i64| {
                let (bus, crew) = (bus.clone(), crew.clone());
                spawn(move || {
                    let group = Some(Arc::from("g"));
                    let options = Options { group, competing: true, ..options("x") };
                    let made = bus.subscribe("a", options, crew).expect("valid");
                    if n == 2 {
                        made.cancel();
                    }
                    made
                })
            })
            .collect();
        let members = join(joining);
        for n in 0..4 {
            publish(&bus, "a", n);
        }
        assert_eq!(assert_books(&bus, &members).published, 4, "each goes to one member");
    });
}
