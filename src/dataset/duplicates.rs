//! Pictures that are there more than once: the same file under two names, or the same photo in another size or compression.
//!
//! Candidates have nearly the same signs of brightness differences (difference hash: Krawetz, "Kind of Like That", 2013); of these,
//! pairs whose thumbnails hardly differ are taken for the same picture.

use std::collections::BTreeMap;

use anyhow::Result;
use pipeline::preprocess::Preprocess;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::{Split, split::Parts};

/// Rows and columns of a thumbnail.
const THUMBNAIL: usize = 16;
/// Rows of the difference hash, which has as many differences in each of them.
const HASH: usize = 8;
/// Bits in which the hashes of one picture may differ. The hash has one band more, so that a pair always shares a band.
const MOST_BITS: u32 = 3;
/// Bits of a band.
const BAND_BITS: usize = 64 / (MOST_BITS as usize + 1);
/// Mean difference of two thumbnails of one picture, of 255. Other sizes and compressions of a photo differ by 1 to 2.
const MOST_DIFFERENCE: f64 = 4.0;
/// Pictures that one is compared with in each band, the nearest hashes first: where thousands look alike, as empty pictures do,
/// not every pair can be looked at.
const MOST_COMPARED: usize = 256;

/// A picture in short.
struct Sketch {
    hash: u64,
    /// `[THUMBNAIL, THUMBNAIL, C]`.
    thumbnail: Vec<u8>,
}

/// Groups of two and more images that are the same picture: ascending, by their first image. The images of all splits are counted
/// on, one split behind the other.
///
/// # Errors
/// When the images cannot be read back from their file.
pub fn groups(splits: &[&Split], preprocess: &Preprocess) -> Result<Vec<Vec<usize>>> {
    let mut all = Vec::new();
    for split in splits {
        all.extend(sketches(split, preprocess)?);
    }
    let sketches = all;
    let mut parents: Vec<usize> = (0..sketches.len()).collect();
    for band in 0..=MOST_BITS as usize {
        let mut places: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (place, sketch) in sketches.iter().enumerate() {
            let bits = sketch.hash >> (band * BAND_BITS) & ((1 << BAND_BITS) - 1);
            places.entry(bits).or_default().push(place);
        }
        for mut alike in places.into_values() {
            alike.sort_by_key(|&place| (sketches[place].hash, place));
            for (index, &a) in alike.iter().enumerate() {
                for &b in alike[index + 1..].iter().take(MOST_COMPARED) {
                    if are_same(&sketches[a], &sketches[b]) {
                        join(&mut parents, a, b);
                    }
                }
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for place in 0..parents.len() {
        groups
            .entry(root(&mut parents, place))
            .or_default()
            .push(place);
    }
    groups.retain(|_, group| group.len() > 1);
    Ok(groups.into_values().collect())
}

/// The same parts, with every picture on one side only: what would be on both goes to training, because a picture that was learnt
/// from says nothing about others.
pub fn on_one_side(parts: Parts, groups: &[Vec<usize>]) -> Parts {
    let Parts {
        mut train,
        mut validation,
    } = parts;
    let straddling = groups
        .iter()
        .filter(|group| group.iter().any(|place| train.binary_search(place).is_ok()));
    let mut moved: Vec<usize> = straddling.flatten().copied().collect();
    moved.sort_unstable();
    validation.retain(|place| moved.binary_search(place).is_err());
    train.extend(moved);
    train.sort_unstable();
    train.dedup();
    Parts { train, validation }
}

fn sketches(split: &Split, preprocess: &Preprocess) -> Result<Vec<Sketch>> {
    let (height, width) = (preprocess.height as usize, preprocess.width as usize);
    let channels = preprocess.colour.channels();
    (0..split.len())
        .into_par_iter()
        .map(|place| {
            let image = split.image(place)?;
            let reduce = |rows, columns| reduced(&image, [height, width, channels], rows, columns);
            Ok(Sketch {
                hash: difference_hash(&reduce(HASH, HASH + 1), channels),
                thumbnail: reduce(THUMBNAIL, THUMBNAIL),
            })
        })
        .collect()
}

/// An image `[H, W, C]` as `[rows, columns, C]`: the mean of the pixels of each cell, or the nearest pixel where it has none.
fn reduced(
    image: &[u8],
    [height, width, channels]: [usize; 3],
    rows: usize,
    columns: usize,
) -> Vec<u8> {
    let range = |cell: usize, cells: usize, size: usize| {
        let start = cell * size / cells;
        start..((cell + 1) * size / cells).max(start + 1)
    };
    let mut out = Vec::with_capacity(rows * columns * channels);
    for row in 0..rows {
        for column in 0..columns {
            let (ys, xs) = (range(row, rows, height), range(column, columns, width));
            let count = ys.len() * xs.len();
            for channel in 0..channels {
                let sum: usize = ys
                    .clone()
                    .flat_map(|y| {
                        xs.clone()
                            .map(move |x| (y * width + x) * channels + channel)
                    })
                    .map(|index| usize::from(image[index]))
                    .sum();
                out.push((sum / count) as u8);
            }
        }
    }
    out
}

/// A bit for each pair of neighbours in a row: whether the right one is brighter.
fn difference_hash(cells: &[u8], channels: usize) -> u64 {
    let brightness: Vec<u32> = cells
        .chunks_exact(channels)
        .map(|pixel| pixel.iter().map(|&value| u32::from(value)).sum())
        .collect();
    let mut hash = 0;
    for row in brightness.chunks_exact(HASH + 1) {
        for pair in row.windows(2) {
            hash = hash << 1 | u64::from(pair[0] < pair[1]);
        }
    }
    hash
}

fn are_same(a: &Sketch, b: &Sketch) -> bool {
    if (a.hash ^ b.hash).count_ones() > MOST_BITS {
        return false;
    }
    let pairs = a.thumbnail.iter().zip(&b.thumbnail);
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 <= MOST_DIFFERENCE * a.thumbnail.len() as f64
}

/// Makes two places members of one group, which has the name of its first one.
fn join(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b)] = a.min(b);
}

fn root(parents: &mut [usize], place: usize) -> usize {
    let mut place = place;
    while parents[place] != place {
        parents[place] = parents[parents[place]];
        place = parents[place];
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::PixelStore;
    use crate::dataset::split::stratified;
    use pipeline::preprocess::Colour;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const SIDE: usize = 48;

    fn preprocess() -> Preprocess {
        Preprocess::stretch(SIDE as u32, SIDE as u32, Colour::Rgb)
    }

    /// Soft shapes of random colours.
    fn picture(seed: u64) -> Vec<u8> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let waves: Vec<[f32; 4]> = (0..6)
            .map(|_| std::array::from_fn(|_| random.random_range(-1.0..1.0)))
            .collect();
        let mut pixels = Vec::new();
        for y in 0..SIDE {
            for x in 0..SIDE {
                for channel in 0..3 {
                    let (x, y) = (x as f32 / 8.0, y as f32 / 8.0);
                    let value: f32 = waves
                        .iter()
                        .map(|[a, b, c, d]| d * (a * x + b * y + c * 6.0 + channel as f32).sin())
                        .sum();
                    pixels.push((128.0 + 40.0 * value).clamp(0.0, 255.0) as u8);
                }
            }
        }
        pixels
    }

    fn noisy(picture: &[u8], seed: u64) -> Vec<u8> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let change = |&value: &u8| value.saturating_add_signed(random.random_range(-3..=3));
        picture.iter().map(change).collect()
    }

    fn split(pictures: &[Vec<u8>]) -> Split {
        Split {
            pixels: PixelStore::in_memory(pictures.concat(), SIDE * SIDE * 3),
            labels: (0..pictures.len()).map(|place| place as u32 % 2).collect(),
            sources: vec![String::new(); pictures.len()],
        }
    }

    #[test]
    fn copies_and_recompressed_copies_are_found_and_nothing_else() {
        let mut pictures: Vec<Vec<u8>> = (0..200).map(picture).collect();
        pictures.push(pictures[3].clone());
        pictures.push(noisy(&pictures[7], 1));
        pictures.push(noisy(&pictures[3], 2));
        let found = groups(&[&split(&pictures)], &preprocess()).unwrap();
        assert_eq!(found, [vec![3, 200, 202], vec![7, 201]]);
    }

    #[test]
    fn a_picture_is_on_one_side_of_the_split() {
        let pictures: Vec<Vec<u8>> = (0..40).map(|place| picture(place % 20)).collect();
        let split = split(&pictures);
        let groups = groups(&[&split], &preprocess()).unwrap();
        assert_eq!(groups.len(), 20);
        let parts = on_one_side(stratified(&split.labels, 0.5, 1), &groups);
        assert_eq!(parts.train.len() + parts.validation.len(), 40);
        assert!(!parts.validation.is_empty());
        for place in parts.validation {
            assert!(!parts.train.contains(&((place + 20) % 40)), "{place}");
        }
    }

    #[test]
    fn thousands_of_empty_pictures_take_no_ages() {
        let split = Split {
            pixels: PixelStore::in_memory(vec![255; 3000 * 3 * 4 * 4], 3 * 4 * 4),
            labels: vec![0; 3000],
            sources: vec![String::new(); 3000],
        };
        let found = groups(&[&split], &Preprocess::stretch(4, 4, Colour::Rgb)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), 3000);
    }
}
