//! The ready list of an executor: no work is left alone, and one leads at a time.

use super::*;

/// Two threads push, and bring a leader where one is needed, who now and then has something else
/// to do before the list is empty.
#[test]
fn work_is_never_left_alone() {
    schedules(|| {
        let list = Arc::<ReadyList<i64>>::default();
        let done = Arc::<Mutex<Vec<i64>>>::default();
        let leading = Arc::new(Flag::new(false));
        let pushing = [0, 100].map(|from: i64| {
            let (list, done, leading) = (list.clone(), done.clone(), leading.clone());
            spawn(move || {
                for n in from..from + 4 {
                    if list.push(n) {
                        drop(lead(&list, &done, &leading)); // it ends by itself
                    }
                }
            })
        });
        join(pushing);
        // For ever, if any was left alone.
        while done.lock().len() < 8 {
            yield_now();
        }
        let mut done = done.lock().clone();
        done.sort_unstable();
        assert_eq!(done, [0, 1, 2, 3, 100, 101, 102, 103]);
    });
}

/// Starts a leader.
fn lead(
    list: &Arc<ReadyList<i64>>,
    done: &Arc<Mutex<Vec<i64>>>,
    leading: &Arc<Flag>,
) -> JoinHandle<()> {
    let (list, done, leading) = (list.clone(), done.clone(), leading.clone());
    spawn(move || {
        assert!(!leading.swap(true, Ordering::SeqCst), "one leads");
        loop {
            match list.pop() {
                Some(n) => {
                    done.lock().push(n);
                    if n % 3 == 2 {
                        // Its handler waits: another one is to lead.
                        leading.store(false, Ordering::SeqCst);
                        if list.stop_leading() {
                            drop(lead(&list, &done, &leading));
                        }
                        return;
                    }
                }
                None => {
                    leading.store(false, Ordering::SeqCst);
                    if list.retire() {
                        return;
                    }
                    assert!(!leading.swap(true, Ordering::SeqCst), "one leads");
                }
            }
        }
    })
}

#[test]
fn what_nobody_will_come_for_is_handed_over_once() {
    schedules(|| {
        let list = Arc::<ReadyList<i64>>::default();
        let pushing = spawn({
            let list = list.clone();
            move || (0..3).filter(|n| list.push(*n)).count()
        });
        let abandoning = spawn({
            let list = list.clone();
            move || list.abandon().len()
        });
        let led = join([pushing])[0];
        let mut taken = join([abandoning])[0];
        taken += list.abandon().len();
        assert_eq!(taken, 3);
        assert!(led >= 1, "somebody is called, who finds that nobody is there");
    });
}
