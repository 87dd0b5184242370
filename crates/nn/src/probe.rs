//! Intermediate values of a step for whoever asks for them: a replay of a recorded step, a test.
//! Training asks for none.
//!
//! Learning code names what it computes in passing, `probe::see("next_v", &next_v)`; that costs one look at a flag of
//! the thread. Under [`watch`] the values are copied and kept:
//!
//! ```
//! # use drcorl_nn::probe;
//! # use tch::Tensor;
//! let (sum, seen) = probe::watch(|| {
//!     let halves = Tensor::from_slice(&[0.5f32, 0.5]);
//!     probe::see("halves", &halves);
//!     halves.sum(tch::Kind::Float)
//! });
//! assert_eq!(seen.all("halves").count(), 1);
//! ```

use std::cell::RefCell;
use tch::Tensor;

thread_local! {
    static WATCHED: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Values in the order in which they were seen. A name appears once for every time it was passed.
#[derive(Default)]
pub struct Seen(Vec<(&'static str, Tensor)>);

impl Seen {
    /// Every value of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Tensor> {
        self.0.iter().filter(move |(seen, _)| *seen == name).map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

/// Shows `value` under `name`.
pub fn see(name: &'static str, value: &Tensor) {
    see_with(name, || value.copy());
}

/// Shows a value that is computed for a watcher only.
pub fn see_with(name: &'static str, value: impl FnOnce() -> Tensor) {
    if WATCHED.with_borrow(Option::is_some) {
        let value = value();
        WATCHED.with_borrow_mut(|seen| seen.iter_mut().for_each(|seen| seen.0.push((name, value.shallow_clone()))));
    }
}

/// Runs `work` and returns what it showed on this thread. A watcher inside sees what is its own.
pub fn watch<T>(work: impl FnOnce() -> T) -> (T, Seen) {
    /// Puts the outer watcher back, also when `work` panics.
    struct Outer(Option<Seen>);
    impl Drop for Outer {
        fn drop(&mut self) {
            WATCHED.set(self.0.take());
        }
    }
    let _outer = Outer(WATCHED.replace(Some(Seen::default())));
    let result = work();
    (result, WATCHED.take().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_sees_copies_in_order_and_nobody_else_does() {
        let value = Tensor::from_slice(&[1.0f32]);
        see_with("unwatched", || panic!("computed for nobody"));
        let (three, seen) = watch(|| {
            let mut buffer = value.copy();
            see("x", &buffer);
            let _ = buffer.fill_(2.0);
            let ((), inner) = watch(|| see("y", &buffer));
            assert_eq!(inner.all("y").count(), 1);
            see("x", &buffer);
            3
        });
        assert_eq!(three, 3);
        assert_eq!(
            seen.iter().map(|(name, x)| (name, x.double_value(&[0]))).collect::<Vec<_>>(),
            [("x", 1.0), ("x", 2.0)]
        );
        see_with("unwatched", || panic!("the watcher has left"));
    }

    #[test]
    fn a_panic_removes_the_watcher() {
        let result = std::panic::catch_unwind(|| watch(|| panic!("in a step")));
        assert!(result.is_err());
        see_with("unwatched", || panic!("the watcher has left"));
    }
}
