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
