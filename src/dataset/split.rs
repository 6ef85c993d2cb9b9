//! The seeded, stratified split: which images of a training set become its validation set.
//!
//! A pure function from labels to indices; it moves no pixels.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Indices of the two parts, each ascending; together they are `0..labels.len()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// What stays for training.
    pub train: Vec<usize>,
    /// What is held out.
    pub validation: Vec<usize>,
}

/// Holds out `fraction` of the images so that every class keeps its share.
///
/// The validation set has `round(fraction · n)` images, shared out among the classes by largest remainder (ties to the lower
/// class). A class of two or more images then keeps at least one on either side; a class of one stays in training.
/// `fraction` is clamped to 0..=1. The same labels, fraction and seed give the same parts on every machine.
pub fn stratified(labels: &[u32], fraction: f64, seed: u64) -> Parts {
    let class_count = labels
        .iter()
        .max()
        .map_or(0, |&highest| highest as usize + 1);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); class_count];
    for (index, &label) in labels.iter().enumerate() {
        members[label as usize].push(index);
    }

    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    let quotas = quotas(&sizes, fraction.clamp(0.0, 1.0));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut parts = Parts {
        train: Vec::with_capacity(labels.len()),
        validation: Vec::new(),
    };
    for (mut indices, quota) in members.into_iter().zip(quotas) {
        indices.shuffle(&mut rng);
        parts.validation.extend_from_slice(&indices[..quota]);
        parts.train.extend_from_slice(&indices[quota..]);
    }
    parts.train.sort_unstable();
    parts.validation.sort_unstable();
    parts
}

/// The fold, from 0 to `count - 1`, of each image: the images of every class are spread evenly over the folds, and those of one group
/// in `groups` are in one fold. A group counts as an image of the class of its first one.
///
/// The same arguments give the same folds on every machine.
pub fn folds(labels: &[u32], groups: &[Vec<usize>], count: usize, seed: u64) -> Vec<usize> {
    let mut leaders: Vec<usize> = (0..labels.len()).collect();
    for group in groups {
        for &place in group {
            leaders[place] = group[0];
        }
    }
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (place, &leader) in leaders.iter().enumerate() {
        if place == leader {
            members.entry(labels[place]).or_default().push(place);
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut folds = vec![0; labels.len()];
    // Each class goes on where the one before ended, so that the folds are of one size, too.
    let mut next = 0;
    for mut places in members.into_values() {
        places.shuffle(&mut rng);
        for place in places {
            folds[place] = next % count.max(1);
            next += 1;
        }
    }
    for (place, leader) in leaders.into_iter().enumerate() {
        folds[place] = folds[leader];
    }
    folds
}

/// How many images of each class are held out.
fn quotas(sizes: &[usize], fraction: f64) -> Vec<usize> {
    let wanted = (sizes.iter().sum::<usize>() as f64 * fraction).round() as usize;
    let exact: Vec<f64> = sizes.iter().map(|&size| size as f64 * fraction).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|share| share.floor() as usize).collect();

    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by(|&a, &b| {
        exact[b]
            .fract()
            .total_cmp(&exact[a].fract())
            .then(a.cmp(&b))
    });
    let missing = wanted.saturating_sub(quotas.iter().sum());
    for &class in by_remainder.iter().take(missing) {
        quotas[class] += 1;
    }

    for (quota, &size) in quotas.iter_mut().zip(sizes) {
        *quota = if size >= 2 {
            (*quota).clamp(1, size - 1)
        } else {
            0
        };
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(labels: &[u32], indices: &[usize], class: u32) -> usize {
        indices
            .iter()
            .filter(|&&index| labels[index] == class)
            .count()
    }

    #[test]
    fn eighty_twenty_of_fashion_mnist() {
        let labels: Vec<u32> = (0..60_000).map(|index| index % 10).collect();
        let parts = stratified(&labels, 0.2, 1);
        assert_eq!(
            (parts.train.len(), parts.validation.len()),
            (48_000, 12_000)
        );
        assert!((0..10).all(|class| count(&labels, &parts.validation, class) == 1_200));
    }

    #[test]
    fn largest_remainders_get_the_missing_images() {
        // Shares 1.4, 1.4, 1.2 of four wanted images: the first 1.4 is rounded up.
        assert_eq!(quotas(&[7, 7, 6], 0.2), [2, 1, 1]);
    }

    #[test]
    fn small_classes_are_on_both_sides_where_they_can_be() {
        let labels = [0, 1, 1, 2, 2, 2, 2, 2, 2, 2];
        let parts = stratified(&labels, 0.2, 3);
        assert_eq!(count(&labels, &parts.validation, 0), 0);
        assert_eq!(count(&labels, &parts.validation, 1), 1);
        assert_eq!(count(&labels, &parts.train, 1), 1);
    }

    #[test]
    fn another_seed_is_another_split() {
        let labels: Vec<u32> = (0..200).map(|index| index % 4).collect();
        assert_ne!(stratified(&labels, 0.2, 1), stratified(&labels, 0.2, 2));
    }

    #[test]
    fn the_split_of_a_seed_never_changes() {
        // A changed figure here means that runs made with an earlier version cannot be repeated.
        let labels: Vec<u32> = (0..20).map(|index| index % 2).collect();
        assert_eq!(stratified(&labels, 0.2, 42).validation, [2, 9, 14, 19]);
    }

    #[test]
    fn nothing_splits_into_nothing() {
        assert_eq!(
            stratified(&[], 0.2, 1),
            Parts {
                train: vec![],
                validation: vec![]
            }
        );
    }

    proptest! {
        #[test]
        fn folds_are_even_in_every_class_and_whole_in_every_group(
            labels in prop::collection::vec(0u32..4, 1..200), count in 2usize..6, seed: u64,
        ) {
            let groups: Vec<Vec<usize>> = (0..labels.len()).step_by(10)
                .filter(|&start| start + 2 < labels.len())
                .map(|start| vec![start, start + 2])
                .collect();
            let folds = folds(&labels, &groups, count, seed);
            prop_assert!(folds.iter().all(|&fold| fold < count));
            for group in &groups {
                prop_assert_eq!(folds[group[0]], folds[group[1]]);
            }
            let alone = super::folds(&labels, &[], count, seed);
            for class in 0..4 {
                let sizes = (0..count).map(|fold| {
                    labels.iter().zip(&alone).filter(|&(&label, &of)| label == class && of == fold).count()
                });
                let sizes: Vec<usize> = sizes.collect();
                prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            }
        }

        #[test]
        fn parts_are_disjoint_complete_and_proportional(
            labels in prop::collection::vec(0u32..6, 0..300), fraction in 0.05f64..0.95, seed: u64,
        ) {
            let parts = stratified(&labels, fraction, seed);
            let mut all: Vec<usize> = parts.train.iter().chain(&parts.validation).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            for class in 0..6 {
                let size = labels.iter().filter(|&&label| label == class).count();
                let held_out = count(&labels, &parts.validation, class);
                if size >= 2 {
                    prop_assert!(held_out >= 1 && held_out < size);
                    prop_assert!((held_out as f64 - size as f64 * fraction).abs() <= 1.0);
                }
            }
            prop_assert_eq!(&parts, &stratified(&labels, fraction, seed));
        }
    }
}
