//! The bytes of an HDF5 file: superblock, groups, object headers and chunk indexes.
//!
//! Only what DSRL's files need: one flat group of chunked datasets of rank 1 or 2. The structures are those of format
//! version 0 (HDF5 File Format Specification 3.0, sections II to IV), which every reader since HDF5 1.0 knows. All
//! numbers are little-endian, all addresses 8 bytes.

/// An address that points nowhere.
const UNDEFINED: u64 = u64::MAX;
/// Bytes of the superblock, which the first object follows.
pub const SUPERBLOCK_BYTES: u64 = 96;
/// Rank of group nodes; a leaf holds up to twice as many names as the leaf rank says. All are listed in a single one,
/// whose rank grows with them.
const GROUP_LEAF_K: u16 = 4;
const GROUP_INTERNAL_K: u16 = 16;
/// Children of a node of a chunk index: twice the rank that version 0 fixes.
const CHUNK_CHILDREN: usize = 64;

/// What the elements of a dataset are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Float32,
    /// h5py's and so NumPy's bool: an enumeration over int8.
    Bool,
}

impl Element {
    pub fn size(self) -> usize {
        match self {
            Element::Float32 => 4,
            Element::Bool => 1,
        }
    }

    /// Datatype message (section IV.A.2.d).
    fn message(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Element::Float32 => {
                // Class 1, version 1; little-endian, implied leading mantissa bit, sign in bit 31.
                bytes.extend([0x11, 0x20, 31, 0]);
                push_u32(&mut bytes, 4);
                bytes.extend([0, 0, 32, 0, 23, 8, 0, 23]);
                push_u32(&mut bytes, 127);
            }
            Element::Bool => {
                // Class 8, version 1, two members of one byte.
                bytes.extend([0x18, 2, 0, 0]);
                push_u32(&mut bytes, 1);
                // Their type: class 0, signed, 8 bits.
                bytes.extend([0x10, 0x08, 0, 0]);
                push_u32(&mut bytes, 1);
                bytes.extend([0, 0, 8, 0]);
                bytes.extend(b"FALSE\0\0\0TRUE\0\0\0\0");
                bytes.extend([0, 1]);
            }
        }
        bytes
    }
}

/// A chunk as it lies in the file. Chunks of a dataset cover whole rows and are listed in their order.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    pub address: u64,
    pub bytes: u32,
}

/// A finished dataset but for its index.
#[derive(Debug, Clone)]
pub struct DatasetPlan {
    pub element: Element,
    /// `[N]` or `[N, D]`.
    pub shape: Vec<u64>,
    pub chunk_rows: u64,
    pub chunks: Vec<Chunk>,
    pub gzip_level: u32,
}

impl DatasetPlan {
    fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Key of a chunk index: size, filter mask, offsets of the chunk and of the byte in an element.
    fn key(&self, chunk: u64, bytes: u32) -> Vec<u8> {
        let mut key = Vec::new();
        push_u32(&mut key, bytes);
        push_u32(&mut key, 0);
        push_u64(&mut key, chunk * self.chunk_rows);
        (0..self.rank()).for_each(|_| push_u64(&mut key, 0));
        key
    }

    /// B-tree over the chunks, to be written at `address`, and the address of its root.
    pub fn index(&self, address: u64) -> (Vec<u8>, u64) {
        let end = self.key(self.chunks.len() as u64, 0);
        let key_of = |(i, chunk): (usize, &Chunk)| (self.key(i as u64, chunk.bytes), chunk.address);
        let mut children: Vec<(Vec<u8>, u64)> = self.chunks.iter().enumerate().map(key_of).collect();
        let node_bytes = (24 + (CHUNK_CHILDREN + 1) * end.len() + CHUNK_CHILDREN * 8) as u64;
        let mut bytes = Vec::new();
        let mut level = 0;
        loop {
            let first = address + bytes.len() as u64;
            let count = children.len().div_ceil(CHUNK_CHILDREN) as u64;
            let mut parents = Vec::new();
            for (number, group) in (0_u64..).zip(children.chunks(CHUNK_CHILDREN)) {
                let at = |n: u64| first + n * node_bytes;
                let left = number.checked_sub(1).map_or(UNDEFINED, at);
                let right = if number + 1 < count { at(number + 1) } else { UNDEFINED };
                let next = children.get((number as usize + 1) * CHUNK_CHILDREN).map_or(&end, |(key, _)| key);
                parents.push((group[0].0.clone(), at(number)));
                bytes.extend(tree_node(1, level, group, next, (left, right), node_bytes as usize));
            }
            if parents.len() == 1 {
                return (bytes, parents[0].1);
            }
            children = parents;
            level += 1;
        }
    }

    /// Object header of the dataset, whose chunks are indexed at `index`.
    pub fn header(&self, index: u64) -> Vec<u8> {
        let mut space = vec![1, self.rank() as u8, 0, 0, 0, 0, 0, 0];
        self.shape.iter().for_each(|&d| push_u64(&mut space, d));
        // Storage is allocated chunk by chunk; absent values would be 0.
        let fill = vec![2, 3, 2, 1, 0, 0, 0, 0];
        let mut layout = vec![3, 2, self.rank() as u8 + 1];
        push_u64(&mut layout, index);
        push_u32(&mut layout, self.chunk_rows as u32);
        self.shape[1..].iter().for_each(|&d| push_u32(&mut layout, d as u32));
        push_u32(&mut layout, self.element.size() as u32);
        let mut filters = vec![1, 2, 0, 0, 0, 0, 0, 0];
        // Shuffle (2), then gzip (1): no name, no flag, one value each, padded to eight bytes.
        for (id, value) in [(2_u16, self.element.size() as u32), (1, self.gzip_level)] {
            [id, 0, 0, 1].into_iter().for_each(|n| push_u16(&mut filters, n));
            push_u32(&mut filters, value);
            push_u32(&mut filters, 0);
        }
        object_header(&[(0x01, space), (0x03, self.element.message()), (0x05, fill), (0x08, layout), (0x0b, filters)])
    }
}

/// Root group with its links and attributes, to be written at `address`; the address of its header and of its two
/// structures.
pub struct RootGroup {
    pub bytes: Vec<u8>,
    pub header: u64,
    tree: u64,
    heap: u64,
    leaf_rank: u16,
}

impl RootGroup {
    /// `links` are names and addresses of object headers, sorted by name.
    pub fn new(links: &[(String, u64)], attributes: &[(&str, String)], address: u64) -> RootGroup {
        // Offset 0 of the heap is the empty name, which is smaller than all others.
        let mut names = vec![0; 8];
        let mut offsets = Vec::new();
        for (name, _) in links {
            offsets.push(names.len() as u64);
            names.extend(name.as_bytes());
            names.push(0);
            pad(&mut names);
        }
        let mut leaf = b"SNOD\x01\0".to_vec();
        push_u16(&mut leaf, links.len() as u16);
        for ((_, header), offset) in links.iter().zip(&offsets) {
            push_u64(&mut leaf, *offset);
            push_u64(&mut leaf, *header);
            leaf.extend([0; 24]);
        }
        let leaf_rank = GROUP_LEAF_K.max(links.len().div_ceil(2) as u16);
        leaf.resize(8 + 2 * usize::from(leaf_rank) * 40, 0);

        let heap = address;
        let leaf_at = heap + 32 + names.len() as u64;
        let tree = leaf_at + leaf.len() as u64;
        let node_bytes = 24 + (4 * usize::from(GROUP_INTERNAL_K) + 1) * 8;
        let header = tree + node_bytes as u64;

        let mut bytes = b"HEAP\0\0\0\0".to_vec();
        push_u64(&mut bytes, names.len() as u64);
        // No free block.
        push_u64(&mut bytes, 1);
        push_u64(&mut bytes, heap + 32);
        bytes.extend(names);
        bytes.extend(leaf);
        let last = offsets.last().copied().unwrap_or(0).to_le_bytes();
        let first = (0_u64.to_le_bytes().to_vec(), leaf_at);
        bytes.extend(tree_node(0, 0, &[first], &last, (UNDEFINED, UNDEFINED), node_bytes));
        let mut table = Vec::new();
        push_u64(&mut table, tree);
        push_u64(&mut table, heap);
        let mut messages = vec![(0x11, table)];
        messages.extend(attributes.iter().map(|(name, value)| (0x0c, attribute(name, value))));
        bytes.extend(object_header(&messages));
        RootGroup { bytes, header, tree, heap, leaf_rank }
    }

    /// Superblock of a file of `end` bytes with this root.
    pub fn superblock(&self, end: u64) -> Vec<u8> {
        let mut bytes = b"\x89HDF\r\n\x1a\n".to_vec();
        bytes.extend([0, 0, 0, 0, 0, 8, 8, 0]);
        push_u16(&mut bytes, self.leaf_rank);
        push_u16(&mut bytes, GROUP_INTERNAL_K);
        push_u32(&mut bytes, 0);
        [0, UNDEFINED, end, UNDEFINED].into_iter().for_each(|n| push_u64(&mut bytes, n));
        // Entry of the root: no name, its header, and the addresses of its structures as a cache.
        [0, self.header].into_iter().for_each(|n| push_u64(&mut bytes, n));
        push_u32(&mut bytes, 1);
        push_u32(&mut bytes, 0);
        [self.tree, self.heap].into_iter().for_each(|n| push_u64(&mut bytes, n));
        bytes
    }
}

/// A node of a B-tree, version 1: keys and children in turn, and the key after the last child.
fn tree_node(
    kind: u8,
    level: u8,
    children: &[(Vec<u8>, u64)],
    end: &[u8],
    siblings: (u64, u64),
    size: usize,
) -> Vec<u8> {
    let mut bytes = b"TREE".to_vec();
    bytes.extend([kind, level]);
    push_u16(&mut bytes, children.len() as u16);
    push_u64(&mut bytes, siblings.0);
    push_u64(&mut bytes, siblings.1);
    for (key, child) in children {
        bytes.extend(key);
        push_u64(&mut bytes, *child);
    }
    bytes.extend(end);
    bytes.resize(size, 0);
    bytes
}

/// Object header, version 1, from messages by type.
fn object_header(messages: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, message) in messages {
        push_u16(&mut body, *kind);
        push_u16(&mut body, message.len().next_multiple_of(8) as u16);
        body.extend([0; 4]);
        body.extend(message);
        pad(&mut body);
    }
    let mut bytes = vec![1, 0];
    push_u16(&mut bytes, messages.len() as u16);
    push_u32(&mut bytes, 1);
    push_u32(&mut bytes, body.len() as u32);
    pad(&mut bytes);
    bytes.extend(body);
    bytes
}

/// Attribute message, version 1: a UTF-8 string of fixed length.
fn attribute(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    let kind_bytes = 8_u16;
    [name.len() as u16 + 1, kind_bytes, 8].into_iter().for_each(|n| push_u16(&mut bytes, n));
    bytes.extend(name.as_bytes());
    bytes.push(0);
    pad(&mut bytes);
    // Class 3, version 1; padded with zeros, UTF-8. An empty string takes one byte.
    bytes.extend([0x13, 0x11, 0, 0]);
    push_u32(&mut bytes, value.len().max(1) as u32);
    // A scalar.
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(value.as_bytes());
    bytes.resize(bytes.len() + usize::from(value.is_empty()), 0);
    bytes
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

fn push_u16(bytes: &mut Vec<u8>, value: u16) {
    bytes.extend(value.to_le_bytes());
}

fn push_u32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend(value.to_le_bytes());
}

fn push_u64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend(value.to_le_bytes());
}
