//! The pixels of many images of one size: in memory, or in a file where they are too many for it.
//!
//! The file has no name and goes with the process, however that ends. It is read one image at a time and not mapped: mapped pages
//! would count as the program's memory, and a failing disk would kill it.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::read_at::read_exact_at;

/// Images `uint8 [H, W, C]`, all of one size. What was made of parts of others shares their pixels.
#[derive(Clone, Debug, Default)]
pub struct PixelStore {
    image_size: usize,
    segments: Vec<Arc<Segment>>,
    places: Vec<Place>,
}

/// Images that were loaded together.
#[derive(Debug)]
enum Segment {
    /// `[N, H, W, C]` row-major.
    Memory(Vec<u8>),
    /// The same as a file.
    File(File),
}

/// Where an image is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Index of the segment.
    segment: usize,
    /// Index of the image in the segment.
    image: usize,
}

impl PixelStore {
    /// Images in memory, `[N, H, W, C]` row-major. `image_size` is the bytes of one.
    ///
    /// # Panics
    /// When there are images of no bytes.
    pub fn in_memory(pixels: Vec<u8>, image_size: usize) -> Self {
        let images = match pixels.is_empty() {
            true => 0,
            false => pixels.len() / image_size,
        };
        Self::of(Segment::Memory(pixels), images, image_size)
    }

    fn of(segment: Segment, images: usize, image_size: usize) -> Self {
        let places = (0..images).map(|image| Place { segment: 0, image });
        Self {
            image_size,
            segments: vec![Arc::new(segment)],
            places: places.collect(),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of one image.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// The pixels of an image, `[H, W, C]`.
    ///
    /// # Errors
    /// When there is no such image, or the file cannot be read.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        match self.find(index)? {
            (Segment::Memory(pixels), start) => {
                let image = pixels.get(start..start + self.image_size);
                image.map(Cow::Borrowed).with_context(|| missing(index))
            }
            (Segment::File(_), _) => {
                let mut image = vec![0; self.image_size];
                self.read(index, &mut image)?;
                Ok(Cow::Owned(image))
            }
        }
    }

    /// Writes the pixels of an image, `[H, W, C]`, to `out`.
    ///
    /// # Errors
    /// When there is no such image, `out` is not of its size, or the file cannot be read.
    pub fn read(&self, index: usize, out: &mut [u8]) -> Result<()> {
        ensure!(
            out.len() == self.image_size,
            "an image of {} bytes does not fit {}",
            self.image_size,
            out.len()
        );
        match self.find(index)? {
            (Segment::Memory(pixels), start) => {
                let image = pixels.get(start..start + self.image_size);
                out.copy_from_slice(image.with_context(|| missing(index))?);
                Ok(())
            }
            (Segment::File(file), start) => read_exact_at(file, out, start as u64)
                .context("cannot read the images back from their file in the cache folder"),
        }
    }

    /// The segment of an image, and the byte there at which it begins.
    fn find(&self, index: usize) -> Result<(&Segment, usize)> {
        let place = self.places.get(index).with_context(|| missing(index))?;
        let segment = &self.segments[place.segment];
        Ok((segment, place.image * self.image_size))
    }

    /// The pixels of all images, one after the other.
    pub fn images(&self) -> impl Iterator<Item = Result<Cow<'_, [u8]>>> {
        (0..self.len()).map(|index| self.image(index))
    }

    /// The pixels of all images, `[N, H, W, C]` row-major.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        let mut pixels = Vec::with_capacity(self.len() * self.image_size);
        for image in self.images() {
            pixels.extend_from_slice(&image?);
        }
        Ok(pixels)
    }

    /// The images at `indices`, in that order.
    ///
    /// # Panics
    /// When one of them is out of range.
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            image_size: self.image_size,
            segments: self.segments.clone(),
            places: indices.iter().map(|&index| self.places[index]).collect(),
        }
    }

    /// Adds the images of another store behind these.
    ///
    /// # Errors
    /// When they are of another size.
    pub fn append(&mut self, other: Self) -> Result<()> {
        if self.is_empty() {
            *self = other;
            return Ok(());
        }
        ensure!(
            other.is_empty() || other.image_size == self.image_size,
            "images of {} and of {} bytes are not of one size",
            self.image_size,
            other.image_size
        );
        let before = self.segments.len();
        self.segments.extend(other.segments);
        self.places.extend(other.places.iter().map(|place| Place {
            segment: before + place.segment,
            ..*place
        }));
        Ok(())
    }
}

fn missing(index: usize) -> String {
    format!("there is no image {index} in the data")
}

/// By their pixels, wherever these are.
impl PartialEq for PixelStore {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b)| matches!((a, b), (Ok(a), Ok(b)) if a == b);
        self.len() == other.len() && self.images().zip(other.images()).all(same)
    }
}

/// Takes in one image after the other.
#[derive(Debug)]
pub struct PixelWriter {
    image_size: usize,
    images: usize,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Memory(Vec<u8>),
    File(BufWriter<File>),
}

impl PixelWriter {
    /// For images in memory, `images` of them at most.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn in_memory(images: usize, image_size: usize) -> Result<Self> {
        let mut pixels = Vec::new();
        let size = images.checked_mul(image_size);
        size.and_then(|size| pixels.try_reserve_exact(size).ok())
            .with_context(|| {
                format!(
                    "{images} images of {image_size} bytes do not fit into memory: choose a smaller --size or --data-memory"
                )
            })?;
        Ok(Self {
            image_size,
            images: 0,
            target: Target::Memory(pixels),
        })
    }

    /// For images in a file in `folder`, which need not exist.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn in_file(folder: &Path, image_size: usize) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let file = tempfile::tempfile_in(folder)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
        Ok(Self {
            image_size,
            images: 0,
            target: Target::File(BufWriter::with_capacity(1 << 20, file)),
        })
    }

    /// Adds an image.
    ///
    /// # Errors
    /// When the disk is full, or something else is wrong with it.
    pub fn push(&mut self, image: &[u8]) -> Result<()> {
        ensure!(
            image.len() == self.image_size,
            "an image of {} bytes among such of {}",
            image.len(),
            self.image_size
        );
        match &mut self.target {
            Target::Memory(pixels) => pixels.extend_from_slice(image),
            Target::File(file) => file.write_all(image).context(
                "cannot keep the images in a file in the cache folder; make room there, or choose another by --cache",
            )?,
        }
        self.images += 1;
        Ok(())
    }

    /// All images that were added.
    ///
    /// # Errors
    /// As [`PixelWriter::push`].
    pub fn finish(self) -> Result<PixelStore> {
        let segment = match self.target {
            Target::Memory(mut pixels) => {
                pixels.shrink_to_fit();
                Segment::Memory(pixels)
            }
            Target::File(file) => Segment::File(
                file.into_inner()
                    .map_err(|error| error.into_error())
                    .context("cannot keep the images in a file in the cache folder")?,
            ),
        };
        Ok(PixelStore::of(segment, self.images, self.image_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(mut writer: PixelWriter) -> PixelStore {
        for image in 0..5u8 {
            writer.push(&[image, 10 + image, 20 + image]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn a_file_and_memory_give_the_same_images() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("not/there");
        let on_disk = filled(PixelWriter::in_file(&cache, 3).unwrap());
        let in_memory = filled(PixelWriter::in_memory(5, 3).unwrap());
        assert_eq!(on_disk, in_memory);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
        assert_eq!(on_disk.image(3).unwrap().as_ref(), [3, 13, 23]);
        for store in [&on_disk, &in_memory] {
            assert!(store.image(5).is_err());
            assert!(store.read(0, &mut [0; 2]).is_err());
            let mut some = store.subset(&[4, 0, 4]);
            assert_eq!(some.image(2).unwrap().as_ref(), [4, 14, 24]);
            assert_eq!(some.len(), 3);
            some.append(in_memory.subset(&[1])).unwrap();
            assert_eq!(some.image(3).unwrap().as_ref(), [1, 11, 21]);
            assert_eq!(some.image(1).unwrap().as_ref(), [0, 10, 20]);
        }
    }

    #[test]
    fn images_of_two_sizes_do_not_mix() {
        let mut store = filled(PixelWriter::in_memory(5, 3).unwrap());
        store.append(PixelStore::default()).unwrap();
        assert!(store.append(PixelStore::in_memory(vec![1, 2], 2)).is_err());
        assert!(PixelWriter::in_memory(1, 3).unwrap().push(&[0]).is_err());
        let mut none = PixelStore::default();
        none.append(store.clone()).unwrap();
        assert_eq!(none, store);
        assert!(PixelWriter::in_memory(usize::MAX, 3).is_err());
    }
}
