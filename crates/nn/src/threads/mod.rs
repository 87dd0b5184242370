//! Work on several threads, with the bits of one.
//!
//! Work is cut by its sizes, never by the number of threads. A task writes what no other task reads or writes, and what
//! is summed over tasks is summed in their order when all have ended; so nothing depends on which thread took which.
//! libtorch itself keeps to one thread everywhere.
//!
//! A pool of our own, because cores are shared with others and a step takes milliseconds: whoever has work takes its
//! tasks itself, in their order, and waits at the end for those alone that another thread has begun. A thread that is
//! not let onto a core in time costs nothing, and nobody polls. rayon would have the run move to a thread of the pool,
//! away from what libtorch and [`probe`](crate::probe) keep by thread, and its idle threads poll before they sleep.

use crate::precision::{self, Precision};
use crate::profile::{self, Place};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Least floating point operations that are worth waking others for: 50 to 100 microseconds of one core, where to wake
/// a thread and to wait for it takes 10 to 50.
const LEAST: i64 = 8_000_000;

thread_local! {
    /// Whom this thread may call for help.
    static CREW: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
    static SINGLE: Cell<bool> = const { Cell::new(false) };
}

/// Threads that help with the work of those who [`Pool::enter`] it. Clones are the same threads, which end with the
/// last one.
#[derive(Clone)]
pub struct Pool(Option<Arc<Crew>>);

struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is work, or no more will come.
    called: Condvar,
    /// A thread has done its part of a job.
    left: Condvar,
}

#[derive(Default)]
struct State {
    jobs: Vec<Posted>,
    idle: usize,
    closing: bool,
}

/// A job whose owner waits until it is taken down and nobody is at it.
#[derive(Clone, Copy, PartialEq)]
struct Posted(*const Job<'static>);

// SAFETY: the owner keeps the job alive while it is posted or somebody is at it, and what it shares is `Sync`.
unsafe impl Send for Posted {}

struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    tasks: usize,
    /// Its owner's.
    precision: Precision,
    /// Where its owner is, if it is watched.
    place: Option<Place>,
    next: AtomicUsize,
    /// Threads at it besides its owner; changed under the lock of the state.
    helpers: AtomicUsize,
    /// What the first of the tasks that failed panicked with.
    panic: Mutex<Option<(usize, Box<dyn Any + Send>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic is done under a lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job<'_> {
    fn work(&self) {
        let _owners = (precision::hold(self.precision), profile::help(&self.place));
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.tasks {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.task)(index))) {
                // The tasks before this one have all been begun, so that the first to fail is the same on any number
                // of threads.
                self.next.store(self.tasks, Ordering::Relaxed);
                let mut first = lock(&self.panic);
                if first.as_ref().is_none_or(|(other, _)| index < *other) {
                    *first = Some((index, panic));
                }
            }
        }
    }

    fn has_tasks(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.tasks
    }
}

impl Shared {
    /// Makes all tasks, with whoever comes.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let [next, helpers] = [0; 2].map(AtomicUsize::new);
        let (precision, place) = (precision::current(), profile::here());
        let job = Job { task, tasks, precision, place, next, helpers, panic: Mutex::default() };
        let posted = Posted((&raw const job).cast());
        let wanted = {
            let mut state = lock(&self.state);
            state.jobs.push(posted);
            state.idle.min(tasks - 1)
        };
        (0..wanted).for_each(|_| self.called.notify_one());
        job.work();
        let mut state = lock(&self.state);
        state.jobs.retain(|other| *other != posted);
        while job.helpers.load(Ordering::Relaxed) > 0 {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        if let Some((_, panic)) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// Helps until the pool closes.
    fn help(&self) {
        let mut state = lock(&self.state);
        loop {
            // SAFETY: a posted job is alive, and stays so while it is counted that somebody is at it.
            let job = state.jobs.iter().map(|posted| unsafe { &*posted.0 }).find(|job| job.has_tasks());
            if let Some(job) = job {
                job.helpers.fetch_add(1, Ordering::Relaxed);
                drop(state);
                job.work();
                state = lock(&self.state);
                if job.helpers.fetch_sub(1, Ordering::Relaxed) == 1 {
                    self.left.notify_all();
                }
            } else if state.closing {
                return;
            } else {
                state.idle += 1;
                state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        lock(&self.shared.state).closing = true;
        self.shared.called.notify_all();
        for thread in self.threads.drain(..) {
            // A helper catches what tasks panic with.
            let _ = thread.join();
        }
    }
}

/// While it lives, its thread has the help of a pool; see [`Pool::enter`].
pub struct Entered {
    before: Option<Arc<Shared>>,
    /// It belongs to a thread.
    stays: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CREW.set(self.before.take());
    }
}

fn enter(crew: Option<Arc<Shared>>) -> Entered {
    Entered { before: CREW.replace(crew), stays: PhantomData }
}

impl Pool {
    /// Of `threads` threads, one of which is whoever enters. Where the system gives fewer, fewer help.
    pub fn new(threads: usize) -> Pool {
        if threads < 2 {
            return Pool(None);
        }
        let shared = Arc::new(Shared::default());
        let thread = |number: usize| {
            let shared = Arc::clone(&shared);
            let help = move || {
                single();
                let _no_grad = tch::no_grad_guard();
                shared.help();
            };
            Builder::new().name(format!("drcorl-{number}")).spawn(help)
        };
        let threads = (1..threads).map_while(|number| thread(number).ok()).collect();
        Pool(Some(Arc::new(Crew { shared, threads })))
    }

    /// Until the answer is dropped, what this thread does has the help of this pool, and of no other; libtorch works in
    /// one thread.
    #[must_use]
    pub fn enter(&self) -> Entered {
        single();
        enter(self.0.as_ref().map(|crew| Arc::clone(&crew.shared)))
    }
}

/// Keeps libtorch, when this thread calls it, to that thread.
pub fn single() {
    // libtorch remembers the number for the process, OpenMP and MKL for the thread.
    if !SINGLE.replace(true) {
        tch::set_num_threads(1);
    }
}

/// True if [`each`] of tasks that take `flop` floating point operations together may go to several threads.
pub fn shares(flop: i64) -> bool {
    flop >= LEAST && CREW.with_borrow(Option::is_some)
}

/// `task(i)` for every i below `tasks`; together they take `flop` floating point operations. Tasks are taken in their
/// order, here or by others. A task that calls this function does its own tasks itself.
///
/// # Panics
/// With what the first task that panics does; later ones may then be left out.
pub fn each(tasks: usize, flop: i64, task: impl Fn(usize) + Sync) {
    let crew = if tasks > 1 && flop >= LEAST { CREW.take() } else { None };
    let Some(crew) = crew else { return (0..tasks).for_each(task) };
    // What is one task of others is not worth dividing again.
    let _back = Entered { before: Some(Arc::clone(&crew)), stays: PhantomData };
    crew.run(tasks, &task);
}

/// As [`each`], of tasks that share tensors, which tch does not call `Sync`.
///
/// # Safety
/// No element that a task writes is read or written by another, and nothing else that is captured changes but by
/// `Sync` means. Then tensors may be shared: libtorch counts references and versions atomically, and to read one, to
/// take a view of it and to write to elements of it change nothing else of it.
pub unsafe fn each_with_tensors(tasks: usize, flop: i64, task: impl Fn(usize)) {
    struct Shared<F>(F);
    // SAFETY: the caller's promise.
    unsafe impl<F> Sync for Shared<F> {}
    impl<F: Fn(usize)> Shared<F> {
        fn call(&self, index: usize) {
            self.0(index);
        }
    }
    let shared = Shared(task);
    each(tasks, flop, |index| shared.call(index));
}

#[cfg(test)]
mod tests;
