//! `Actor::act` must not allocate. The count is per thread: the test harness allocates on its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use drcorl_actor::{Actor, LayerParts, Parts};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and is not the one under test.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        System.dealloc(pointer, layout)
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        System.realloc(pointer, layout, size)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn act_does_not_allocate() {
    let layer =
        |outputs: usize, inputs: usize| LayerParts { weight: vec![0.01; outputs * inputs], bias: vec![0.1; outputs] };
    let actor = Actor::new(Parts {
        layers: vec![layer(256, 17), layer(256, 256), layer(6, 256)],
        observation_mean: vec![0.0; 17],
        observation_std: vec![1.0; 17],
        action_low: vec![-1.0; 6],
        action_high: vec![1.0; 6],
    })
    .unwrap();
    let mut scratch = actor.scratch();
    let observations = vec![0.5; 1000 * 17];
    let mut actions = vec![0.0; 1000 * 6];

    let before = ALLOCATIONS.get();
    for n in [1, 3, 100, 1000] {
        let observations = &observations[..n * 17];
        let result = actor.act(observations, &mut actions[..n * 6], &mut scratch);
        assert!(result.is_ok());
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);

    // The counter works: a scratch without memory must grow.
    let result = actor.act(&observations[..17], &mut actions[..6], &mut Default::default());
    assert!(result.is_ok());
    assert_eq!(ALLOCATIONS.get() - before, 2);
}
