//! The pool by itself.

use super::*;
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread::{current, ThreadId};
use tch::{Device, Kind, Tensor};

/// Worth any number of threads.
const MUCH: i64 = i64::MAX;

fn squares(tasks: usize) -> Vec<usize> {
    let places: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    each(tasks, MUCH, |i| _ = places[i].fetch_add(i * i + 1, Ordering::Relaxed));
    places.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_task_is_done_once() {
    let wanted = |tasks: usize| (0..tasks).map(|i| i * i + 1).collect::<Vec<_>>();
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        let _at_work = pool.enter();
        for tasks in [0, 1, 2, 7, 100].repeat(20) {
            assert_eq!(squares(tasks), wanted(tasks), "{threads} threads");
        }
    }
}

/// Two tasks that wait for each other can only end side by side.
#[test]
fn tasks_are_done_side_by_side() {
    let pool = Pool::new(2);
    let _at_work = pool.enter();
    let barrier = Barrier::new(2);
    each(2, MUCH, |_| _ = barrier.wait());
}

/// Who works: this thread alone, where there is no pool, too little to do, or a task has tasks.
#[test]
fn help_is_called_for_where_it_pays() {
    fn workers(tasks: usize, flop: i64) -> BTreeSet<String> {
        let seen = Mutex::new(BTreeSet::new());
        let name = |id: ThreadId| format!("{id:?}");
        each(tasks, flop, |_| _ = lock(&seen).insert(name(current().id())));
        seen.into_inner().unwrap()
    }
    let alone = BTreeSet::from([format!("{:?}", current().id())]);
    assert_eq!(workers(9, MUCH), alone);
    let _at_work = Pool::new(1).enter();
    assert_eq!(workers(9, MUCH), alone);
    let pool = Pool::new(3);
    let _at_work = pool.enter();
    assert!(shares(MUCH));
    assert_eq!(workers(9, LEAST - 1), alone);
    each(3, MUCH, |_| assert!(!shares(MUCH) && workers(9, MUCH).len() == 1));
    assert!(shares(MUCH), "help is there again");
}

/// Helpers that are held up elsewhere are not waited for.
#[test]
fn whom_nobody_helps_does_it_alone() {
    let pool = Pool::new(2);
    let (begun, held) = (Barrier::new(3), Barrier::new(3));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _at_work = pool.enter();
            each(2, MUCH, |_| {
                begun.wait();
                held.wait();
            });
        });
        begun.wait();
        let _at_work = pool.enter();
        assert_eq!(squares(100).len(), 100);
        held.wait();
    });
}

#[test]
fn a_pool_is_left_as_it_was_entered() {
    let (outer, inner) = (Pool::new(2), Pool::new(1));
    let at_work = outer.enter();
    {
        let _other = inner.enter();
        assert!(!shares(MUCH));
    }
    assert!(shares(MUCH));
    drop(at_work);
    assert!(!shares(MUCH));
}

/// The panic of the first task that fails, whichever thread comes to it first; the pool goes on.
#[test]
fn panics_come_out_where_the_work_was_called_for() {
    for threads in [1, 2, 8] {
        let pool = Pool::new(threads);
        let _at_work = pool.enter();
        for _ in 0..50 {
            let panic = catch_unwind(|| each(20, MUCH, |i| assert!(i < 3, "task {i}"))).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().unwrap(), "task 3");
            assert!(threads == 1 || shares(MUCH));
        }
        assert_eq!(squares(9).len(), 9);
    }
}

/// A failure of libtorch in a task is the panic it would be here.
#[test]
fn libtorch_fails_in_a_task_as_it_does_elsewhere() {
    let fail = || {
        let [a, b] = [2, 3].map(|n| Tensor::zeros([n, n], (Kind::Float, Device::Cpu)));
        let _ = a.mm(&b);
    };
    // libtorch's own stack follows, with escaped line ends.
    let text =
        |panic: Box<dyn Any + Send>| panic.downcast_ref::<String>().unwrap().split("\\n").next().map(str::to_owned);
    let pool = Pool::new(2);
    let _at_work = pool.enter();
    let there = catch_unwind(|| each(4, MUCH, |_| fail())).unwrap_err();
    assert_eq!(text(there), text(catch_unwind(fail).unwrap_err()));
}

/// Helpers track no gradients and keep libtorch to their own thread.
#[test]
fn helpers_are_set_up_for_libtorch() {
    let pool = Pool::new(2);
    let _at_work = pool.enter();
    let _no_grad = tch::no_grad_guard();
    let weight = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let barrier = Barrier::new(2);
    let check = |_| {
        barrier.wait();
        assert!(!(&weight * 2.0).requires_grad());
        assert_eq!(tch::get_num_threads(), 1);
    };
    // SAFETY: the tensor is read only.
    unsafe { each_with_tensors(2, MUCH, check) };
}

/// Helpers work at the precision of whom they help.
#[test]
fn helpers_take_over_the_precision() {
    let pool = Pool::new(2);
    let _at_work = pool.enter();
    for held in [Precision::Medium, Precision::High, Precision::Highest] {
        let _precision = precision::hold(held);
        let barrier = Barrier::new(2);
        each(2, MUCH, |_| {
            barrier.wait();
            assert_eq!(precision::current(), held);
        });
    }
    assert_eq!(precision::current(), Precision::Highest);
}

/// Several callers, each with a pool of its own or all with one.
#[test]
fn callers_side_by_side_do_not_meet() {
    let shared = Pool::new(3);
    std::thread::scope(|scope| {
        for caller in 0..6 {
            let pool = if caller % 2 == 0 { shared.clone() } else { Pool::new(1 + caller) };
            scope.spawn(move || {
                let _at_work = pool.enter();
                for _ in 0..100 {
                    assert_eq!(squares(10 + caller).last(), Some(&((9 + caller) * (9 + caller) + 1)));
                }
            });
        }
    });
}
