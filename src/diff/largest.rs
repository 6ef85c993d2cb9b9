//! The few largest of many, in memory that does not grow with how many there are.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keeps the items of the largest sizes; of equal ones those that came first.
#[derive(Debug)]
pub(super) struct Largest<T> {
    most: usize,
    came: u64,
    /// The item to give up next is on top.
    kept: BinaryHeap<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    size: f32,
    place: u64,
    item: T,
}

impl<T> Largest<T> {
    /// Keeps at most so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            came: 0,
            kept: BinaryHeap::new(),
        }
    }

    /// Takes an item where it is among the largest so far; `item` is called only then.
    pub(super) fn offer(&mut self, size: f32, item: impl FnOnce() -> T) {
        let place = self.came;
        self.came += 1;
        if self.kept.len() >= self.most {
            match self.kept.peek() {
                Some(least) if least.size.total_cmp(&size).is_lt() => drop(self.kept.pop()),
                _ => return,
            }
        }
        self.kept.push(Entry {
            size,
            place,
            item: item(),
        });
    }

    /// The largest first.
    pub(super) fn into_sorted(self) -> Vec<T> {
        let sorted = self.kept.into_sorted_vec();
        sorted.into_iter().map(|entry| entry.item).collect()
    }
}

impl<T> Ord for Entry<T> {
    /// The smaller, and of equal ones the later, is the greater: it goes first.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_size = other.size.total_cmp(&self.size);
        by_size.then(self.place.cmp(&other.place))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_the_first_of_a_stable_sort(sizes in proptest::collection::vec(0..6u8, 0..30), most in 0..8usize) {
            let mut largest = Largest::new(most);
            for (place, &size) in sizes.iter().enumerate() {
                largest.offer(f32::from(size), || place);
            }
            let mut sorted: Vec<usize> = (0..sizes.len()).collect();
            sorted.sort_by_key(|&place| std::cmp::Reverse(sizes[place]));
            sorted.truncate(most);
            prop_assert_eq!(largest.into_sorted(), sorted);
        }
    }
}
