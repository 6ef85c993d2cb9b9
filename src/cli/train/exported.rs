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
    /// How the file holds the weights; float16 halves it [default: that of the preset]
    #[arg(long, value_name = "TYPE")]
    weights: Option<StorageName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StorageName {
    /// As they were trained
    Float32,
    /// Rounded to half floats; computation stays float32
    Float16,
}

impl ExportedArgs {
    /// Comes behind the augmentation: a network that never sees mirror images is not asked about them unless told to.
    pub(super) fn apply(&self, options: &mut TrainOptions) {
        if options.augment.horizontal_flip == 0.0 {
            options.mirror_averaging = false;
        }
        set(&mut options.mirror_averaging, &self.mirror_averaging);
        let storage = self.weights.map(|name| match name {
            StorageName::Float32 => WeightStorage::Float32,
            StorageName::Float16 => WeightStorage::Float16,
        });
        set(&mut options.weight_storage, &storage);
    }
}
