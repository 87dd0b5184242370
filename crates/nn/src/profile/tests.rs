use super::*;
use crate::threads::{each, Pool};
use std::thread::sleep;

fn some_product() {
    product("some", || [1000; 3], || true);
}

fn shape(part: &Part) -> (&'static str, u64, f64) {
    (part.name, part.calls, part.products.iter().map(|sum| sum.gflop).sum())
}

#[test]
fn parts_lie_in_each_other_and_hold_their_products() {
    let recorder = Recorder::new();
    {
        let _watched = recorder.enter();
        for _ in 0..3 {
            let _outer = open("outer");
            some_product();
            let _inner = open("inner");
            sleep(Duration::from_millis(2));
            some_product();
        }
        let _other = open_numbered("outer", 1);
    }
    some_product();
    drop(open("nobody looks"));
    let parts = recorder.parts();
    let [(0, outer), (1, other)] = parts.as_slice() else { panic!("{parts:?}") };
    assert_eq!(
        (shape(outer), shape(&outer.parts[0]), shape(other)),
        (("outer", 3, 12.0), ("inner", 3, 6.0), ("outer", 1, 0.0))
    );
    assert_eq!(outer.products[0].products, 6);
    assert!(outer.parts[0].seconds >= 6e-3 && outer.seconds >= outer.parts[0].seconds, "{parts:?}");
}

#[test]
fn what_is_not_made_is_not_counted() {
    let recorder = Recorder::new();
    let _watched = recorder.enter();
    let _part = open("part");
    assert!(!product("none", || panic!("not counted"), || false));
    assert!(product("some", || [1; 3], || true));
    let parts = recorder.parts();
    assert_eq!((parts[0].1.products.len(), parts[0].1.products[0].kernel), (1, "some"));
}

/// Whoever makes a task, its products belong to the part that waits for it, and no thread is watched afterwards.
#[test]
fn products_of_helpers_belong_to_whom_they_help() {
    for threads in [1, 2, 3, 8] {
        let (pool, recorder) = (Pool::new(threads), Recorder::new());
        let _at_work = pool.enter();
        {
            let _watched = recorder.enter();
            let _part = open("part");
            for _ in 0..20 {
                each(16, i64::MAX, |_| some_product());
            }
        }
        each(16, i64::MAX, |_| some_product());
        let parts = recorder.parts();
        assert_eq!(shape(&parts[0].1), ("part", 1, 640.0), "{threads} threads");
        assert_eq!(parts.len(), 1);
    }
}

/// Of two runs on two threads each records its own; a run inside another one is its own too.
#[test]
fn recorders_do_not_meet() {
    let recorders = [Recorder::new(), Recorder::new()];
    std::thread::scope(|scope| {
        for (count, recorder) in recorders.iter().enumerate() {
            scope.spawn(move || {
                let _watched = recorder.enter();
                let _part = open("part");
                (0..=count).for_each(|_| some_product());
            });
        }
    });
    let _outer = recorders[0].enter();
    {
        let _inner = recorders[1].enter();
        let _part = open("part");
        some_product();
    }
    assert_eq!(recorders.map(|recorder| shape(&recorder.parts()[0].1)), [("part", 1, 2.0), ("part", 2, 6.0)]);
}

#[test]
fn a_panic_closes_what_is_open() {
    let recorder = Recorder::new();
    let result = std::panic::catch_unwind(|| {
        let _watched = recorder.enter();
        let _part = open("part");
        panic!("in a step");
    });
    assert!(result.is_err() && here().is_none());
    assert_eq!(recorder.parts()[0].1.calls, 1);
}
