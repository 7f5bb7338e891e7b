//! Two walks over the graph: everybody in order, and from one back to itself.
//!
//! `edges[i]` holds what component `i` starts after.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use indexmap::IndexMap;

use super::Edge;

/// Kahn's algorithm, always taking the ready component of the lowest rank. What is on a cycle
/// or behind one is left out.
pub(super) fn topological(edges: &[IndexMap<usize, Edge>], ranks: &[(usize, usize)]) -> Vec<usize> {
    let mut waiting: Vec<usize> = edges.iter().map(IndexMap::len).collect();
    let mut dependents = vec![Vec::new(); edges.len()];
    for (index, before) in edges.iter().enumerate() {
        before.keys().for_each(|other| dependents[*other].push(index));
    }
    let ready = (0..edges.len()).filter(|index| waiting[*index] == 0);
    let mut heap: BinaryHeap<_> = ready.map(|index| Reverse((ranks[index], index))).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(Reverse((_, index))) = heap.pop() {
        order.push(index);
        for &dependent in &dependents[index] {
            waiting[dependent] -= 1;
            if waiting[dependent] == 0 {
                heap.push(Reverse((ranks[dependent], dependent)));
            }
        }
    }
    order
}

/// The shortest way from `start` back to itself, with `start` at both ends.
pub(super) fn shortest_cycle(start: usize, edges: &[IndexMap<usize, Edge>]) -> Option<Vec<usize>> {
    let mut came_from: HashMap<usize, usize> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(index) = queue.pop_front() {
        for &next in edges[index].keys() {
            if next == start {
                let mut path = vec![start, index];
                while let Some(&previous) = came_from.get(&path[path.len() - 1]) {
                    path.push(previous);
                }
                path.reverse();
                return Some(path);
            }
            if let Entry::Vacant(entry) = came_from.entry(next) {
                entry.insert(index);
                queue.push_back(next);
            }
        }
    }
    None
}
