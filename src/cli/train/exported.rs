//! What the exported model computes and how it is stored: the options.

use clap::{Args, ValueEnum};

use super::set;
use crate::lowering::WeightStorage;
use crate::training::options::TrainOptions;

#[derive(Debug, Args)]
#[command(next_help_heading = "Model file")]
pub(super) struct ExportedArgs {
    /// Whether the model gives the mean of an image and its mirror image: more accurate, and half as fast [default: that of the
    /// preset]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    mirror_averaging: Option<bool>,
    /// How the file holds the weights; float16 halves it, int8 quarters it [default: that of the preset]
    #[arg(long, value_name = "TYPE")]
    weights: Option<StorageName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StorageName {
    /// As they were trained
    Float32,
    /// Rounded to half floats; computation stays float32
    Float16,
    /// Rounded to 255 steps, of another size for each filter; computation stays float32
    Int8,
}

impl From<StorageName> for WeightStorage {
    fn from(name: StorageName) -> Self {
        match name {
            StorageName::Float32 => Self::Float32,
            StorageName::Float16 => Self::Float16,
            StorageName::Int8 => Self::Int8,
        }
    }
}

impl ExportedArgs {
    /// Comes behind the augmentation: a network that never sees mirror images is not asked about them unless told to.
    pub(super) fn apply(&self, options: &mut TrainOptions) {
        if options.augment.horizontal_flip == 0.0 {
            options.mirror_averaging = false;
        }
        set(&mut options.mirror_averaging, &self.mirror_averaging);
        let storage = self.weights.map(WeightStorage::from);
        set(&mut options.weight_storage, &storage);
    }
}
