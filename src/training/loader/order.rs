//! Which images an epoch is made of, and in what order: a function of seed and epoch alone.
//!
//! A draw is a number: `copy · images + image`. An image that is drawn again in the same epoch is another draw, so it is augmented in
//! another way; the first draw of an image is its index.

use rand::seq::SliceRandom;

use crate::training::augment::shuffle_rng;

/// The image of a draw.
pub(super) fn image_of(draw: usize, images: usize) -> usize {
    draw % images.max(1)
}

/// `count` of all images, at most once each.
pub(in crate::training) fn natural(
    images: usize,
    count: usize,
    seed: u64,
    epoch: u64,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..images).collect();
    order.shuffle(&mut shuffle_rng(seed, epoch));
    order.truncate(count);
    order
}

/// `count` draws, as many of each class that has images, give or take one. All images of a class come before one of them comes again.
pub(super) fn balanced(
    labels: &[u32],
    classes: usize,
    count: usize,
    seed: u64,
    epoch: u64,
) -> Vec<usize> {
    let mut random = shuffle_rng(seed, epoch);
    let mut members = vec![Vec::new(); classes];
    for (image, &label) in labels.iter().enumerate() {
        members[label as usize].push(image);
    }
    members.retain(|class| !class.is_empty());
    // Which classes get the draws left over changes from epoch to epoch.
    members.shuffle(&mut random);
    let share = count / members.len().max(1);
    let left_over = count - share * members.len();
    let mut order = Vec::with_capacity(count);
    for (place, class) in members.iter_mut().enumerate() {
        let wanted = share + usize::from(place < left_over);
        for copy in 0..wanted.div_ceil(class.len()) {
            class.shuffle(&mut random);
            let drawn = copy * class.len();
            let draws = class.iter().take(wanted - drawn);
            order.extend(draws.map(|image| copy * labels.len() + image));
        }
    }
    order.shuffle(&mut random);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 90 images of class 0, 9 of class 1, none of class 2, 1 of class 3.
    fn labels() -> Vec<u32> {
        (0..100)
            .map(|image| match image {
                0..90 => 0,
                90..99 => 1,
                _ => 3,
            })
            .collect()
    }

    #[test]
    fn every_class_gets_its_share_and_no_draw_comes_twice() {
        let labels = labels();
        for epoch in 0..5 {
            let mut order = balanced(&labels, 4, 100, 1, epoch);
            let mut counts = [0_usize; 4];
            for &draw in &order {
                counts[labels[image_of(draw, 100)] as usize] += 1;
            }
            assert_eq!(counts[2], 0);
            for class in [0, 1, 3] {
                assert!((33..=34).contains(&counts[class]), "{counts:?}");
            }
            // Of class 1 every image comes three times before one comes a fourth time.
            for image in 90..99 {
                let times = order.iter().filter(|&&draw| draw % 100 == image).count();
                assert!((3..=4).contains(&times), "{times}");
            }
            order.sort_unstable();
            order.dedup();
            assert_eq!(order.len(), 100);
        }
    }

    #[test]
    fn the_order_is_that_of_seed_and_epoch() {
        let labels = labels();
        let order = |seed, epoch| balanced(&labels, 4, 100, seed, epoch);
        assert_eq!(order(1, 2), order(1, 2));
        assert_ne!(order(1, 2), order(1, 3));
        assert_ne!(order(1, 2), order(2, 2));
    }

    #[test]
    fn over_the_epochs_every_image_is_seen() {
        let labels = labels();
        let mut seen: Vec<usize> = (0..20)
            .flat_map(|epoch| balanced(&labels, 4, 100, 1, epoch))
            .map(|draw| image_of(draw, 100))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn fewer_draws_than_classes_are_still_draws() {
        assert_eq!(balanced(&[0, 1, 2, 3], 4, 2, 1, 0).len(), 2);
        assert!(balanced(&[], 4, 0, 1, 0).is_empty());
    }
}
