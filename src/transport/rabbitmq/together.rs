//! Things that are begun in order, all at once, and then waited for.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Begins each of its futures in order when it is polled first, and resolves when all have ended:
/// to what became of them, in the same order.
pub(super) struct Together<F: Future> {
    all: Vec<One<F>>,
    begun: bool,
    /// Those before it have ended.
    at: usize,
}

enum One<F: Future> {
    Going(F),
    Ended(F::Output),
    Taken,
}

impl<F: Future + Unpin> Together<F> {
    pub fn new(all: Vec<F>) -> Together<F> {
        Together { all: all.into_iter().map(One::Going).collect(), begun: false, at: 0 }
    }
}

impl<F: Future + Unpin> One<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let One::Going(future) = self {
            let output = ready!(Pin::new(future).poll(cx));
            *self = One::Ended(output);
        }
        Poll::Ready(())
    }
}

impl<F: Future + Unpin> Unpin for Together<F> {}

impl<F: Future + Unpin> Future for Together<F> {
    type Output = Vec<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<F::Output>> {
        let this = self.get_mut();
        if !mem::replace(&mut this.begun, true) {
            for one in &mut this.all {
                let _ = one.poll(cx); // whether it has ended shows below
            }
        }
        while let Some(one) = this.all.get_mut(this.at) {
            ready!(one.poll(cx));
            this.at += 1;
        }
        let output = |one: &mut One<F>| match mem::replace(one, One::Taken) {
            One::Ended(output) => Some(output),
            _ => None,
        };
        Poll::Ready(this.all.iter_mut().filter_map(output).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use parking_lot::Mutex;
    use tokio::sync::oneshot;

    #[test]
    fn all_are_begun_in_order_and_answer_in_order() {
        let begun = Mutex::new(Vec::new());
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        let begin = |(n, receiver): (usize, oneshot::Receiver<usize>)| {
            let begun = &begun;
            Box::pin(async move {
                begun.lock().push(n);
                receiver.await.expect("sent")
            })
        };
        let mut all = Together::new(receivers.into_iter().enumerate().map(begin).collect());
        assert!((&mut all).now_or_never().is_none());
        assert_eq!(*begun.lock(), [0, 1, 2]);
        for (n, sender) in senders.into_iter().enumerate().rev() {
            assert!((&mut all).now_or_never().is_none());
            sender.send(n * 10).expect("waits");
        }
        assert_eq!((&mut all).now_or_never(), Some(vec![0, 10, 20]));
    }
}
