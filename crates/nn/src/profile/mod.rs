//! Where the time of a run goes, for whoever asks: seconds of named parts, and matrix products by what makes them.
//!
//! A thread that has [`enter`](Recorder::enter)ed a recorder is watched; on any other a part or a product costs one
//! look at a cell of the thread, and nothing else is done.
//!
//! What is counted where several threads work: a part is a stretch of the thread that entered, so its seconds are those
//! that passed there, and tasks of a pool ([`threads`](crate::threads)) open none. Products are those of every thread
//! that makes tasks of that work, and belong to the part that waits for them. Their seconds are summed over threads: of
//! n threads up to n times those of the part, and a rate is that of one thread.
//!
//! The crate `tracing` would give spans of any thread to a subscriber; a tree of sums, and products that follow the
//! work from thread to thread, would be as much code again as is here.

mod peak;
#[cfg(test)]
mod tests;

pub use peak::Peak;

use schemars::JsonSchema;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// While it is watched.
    static HERE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// A part of the work that a thread is at.
#[derive(Clone)]
pub(crate) struct Place {
    recorder: Arc<Recorder>,
    node: usize,
    /// True in a task of a pool.
    helps: bool,
}

/// What one piece of work was made of.
pub struct Recorder(Mutex<Vec<Node>>);

struct Node {
    name: &'static str,
    /// Among parts of one name.
    number: usize,
    parent: usize,
    calls: u64,
    time: Duration,
    /// By what made them, of this node alone.
    products: Vec<(&'static str, Sum)>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    products: u64,
    flop: f64,
    time: Duration,
}

/// A stretch of work.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ProfilePart")]
pub struct Part {
    pub name: &'static str,
    /// How often it was made.
    pub calls: u64,
    /// What passed, of all calls; its own parts are in it.
    pub seconds: f64,
    /// Matrix products in it, its parts' included.
    pub products: Vec<Products>,
    pub parts: Vec<Part>,
}

/// Matrix products that one kernel has made.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ProfileProducts")]
pub struct Products {
    /// `amx`, `avx512`, `avx512-bf16` and `avx2` are our own; `mkl` (`libtorch` on other processors than x86-64) and
    /// `onednn` libtorch's.
    pub kernel: &'static str,
    pub products: u64,
    /// Summed over threads.
    pub seconds: f64,
    /// Billions of floating point operations, two for each product of two numbers.
    pub gflop: f64,
}

impl Recorder {
    /// Of nothing yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Arc<Recorder> {
        let root = Node { name: "", number: 0, parent: 0, calls: 0, time: Duration::ZERO, products: Vec::new() };
        Arc::new(Recorder(Mutex::new(vec![root])))
    }

    /// Until the answer is dropped, what this thread does is recorded here and nowhere else.
    #[must_use]
    pub fn enter(self: &Arc<Recorder>) -> Watched {
        watch(Some(Place { recorder: Arc::clone(self), node: 0, helps: false }))
    }

    /// The parts that are in no other, each with its number, in the order in which they were first opened. Those that
    /// are open are told without the call under way.
    pub fn parts(&self) -> Vec<(usize, Part)> {
        let nodes = self.nodes();
        nodes
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, node)| node.parent == 0)
            .map(|(at, node)| (node.number, part(&nodes, at)))
            .collect()
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        // Nothing that can panic is done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of that name and number in `parent`.
    fn node(&self, parent: usize, name: &'static str, number: usize) -> usize {
        let mut nodes = self.nodes();
        let same = |node: &Node| (node.parent, node.name, node.number) == (parent, name, number);
        nodes.iter().skip(1).position(same).map_or_else(
            || {
                nodes.push(Node { name, number, parent, calls: 0, time: Duration::ZERO, products: Vec::new() });
                nodes.len() - 1
            },
            |index| index + 1,
        )
    }
}

fn part(nodes: &[Node], at: usize) -> Part {
    let Node { name, calls, time, products, .. } = &nodes[at];
    let parts: Vec<Part> =
        (at + 1..nodes.len()).filter(|&inner| nodes[inner].parent == at).map(|inner| part(nodes, inner)).collect();
    let own = products.iter().map(|&(kernel, Sum { products, flop, time })| Products {
        kernel,
        products,
        seconds: time.as_secs_f64(),
        gflop: flop / 1e9,
    });
    let products = total(own.chain(parts.iter().flat_map(|part| part.products.clone())));
    Part { name, calls: *calls, seconds: time.as_secs_f64(), products, parts }
}

/// Sums by kernel, in the order in which kernels are met.
pub fn total(products: impl Iterator<Item = Products>) -> Vec<Products> {
    let mut sums: Vec<Products> = Vec::new();
    for more in products {
        match sums.iter_mut().find(|sum| sum.kernel == more.kernel) {
            Some(sum) => {
                sum.products += more.products;
                sum.seconds += more.seconds;
                sum.gflop += more.gflop;
            }
            None => sums.push(more),
        }
    }
    sums
}

/// While it lives, its thread is watched, or is not; see [`Recorder::enter`].
pub struct Watched {
    before: Option<Place>,
    /// It belongs to a thread.
    stays: PhantomData<*const ()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        put(self.before.take());
    }
}

fn put(place: Option<Place>) -> Option<Place> {
    WATCHED.set(place.is_some());
    HERE.replace(place)
}

fn watch(place: Option<Place>) -> Watched {
    Watched { before: put(place), stays: PhantomData }
}

/// Where this thread is, for those who help it.
pub(crate) fn here() -> Option<Place> {
    WATCHED.get().then(|| HERE.with_borrow(Clone::clone)).flatten()
}

/// Until the answer is dropped, this thread makes tasks for `place`.
pub(crate) fn help(place: &Option<Place>) -> Watched {
    watch(place.as_ref().map(|place| Place { helps: true, ..place.clone() }))
}

/// An open part; it ends when this is dropped.
#[must_use]
pub struct Open {
    /// Since when, and the part it is in; None where nobody watches.
    since: Option<(Instant, usize)>,
    /// It belongs to a thread.
    stays: PhantomData<*const ()>,
}

/// Opens the part of that name in the one that is open.
pub fn open(name: &'static str) -> Open {
    open_numbered(name, 0)
}

/// As [`open`], of parts that may have one name.
pub fn open_numbered(name: &'static str, number: usize) -> Open {
    let since = if WATCHED.get() { HERE.with_borrow_mut(|place| begin(place, name, number)) } else { None };
    Open { since, stays: PhantomData }
}

fn begin(place: &mut Option<Place>, name: &'static str, number: usize) -> Option<(Instant, usize)> {
    let place = place.as_mut().filter(|place| !place.helps)?;
    let outer = place.node;
    place.node = place.recorder.node(outer, name, number);
    Some((Instant::now(), outer))
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some((since, outer)) = self.since else { return };
        let time = since.elapsed();
        HERE.with_borrow_mut(|place| {
            let Some(place) = place else { return };
            let inner = std::mem::replace(&mut place.node, outer);
            let mut nodes = place.recorder.nodes();
            nodes[inner].calls += 1;
            nodes[inner].time += time;
        });
    }
}

/// `make()`, which multiplies `[m,k]` by `[k,n]` by the kernel of that name; `size` answers `[m,k,n]`. Nothing is
/// counted where `make` answers that it has not.
pub(crate) fn product(kernel: &'static str, size: impl FnOnce() -> [i64; 3], make: impl FnOnce() -> bool) -> bool {
    if !WATCHED.get() {
        return make();
    }
    let since = Instant::now();
    let made = make();
    let time = since.elapsed();
    if made {
        let flop = 2.0 * size().map(|size| size as f64).iter().product::<f64>();
        HERE.with_borrow(|place| place.iter().for_each(|place| place.count(kernel, flop, time)));
    }
    made
}

impl Place {
    fn count(&self, kernel: &'static str, flop: f64, time: Duration) {
        let mut nodes = self.recorder.nodes();
        let products = &mut nodes[self.node].products;
        let at = products.iter().position(|(name, _)| *name == kernel).unwrap_or_else(|| {
            products.push((kernel, Sum::default()));
            products.len() - 1
        });
        let sum = &mut products[at].1;
        sum.products += 1;
        sum.flop += flop;
        sum.time += time;
    }
}
