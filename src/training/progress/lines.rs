//! The events of a training run in words.

use crate::training::events::{EpochSummary, RunStart, RunSummary};

/// Validation accuracies in the row of blocks.
const SPARKLINE: usize = 24;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Epochs of a run, unless they are as many as fit into its time.
pub(super) fn planned_epochs(run: &RunStart) -> Option<usize> {
    run.time_budget.is_none().then_some(run.epochs)
}

pub(super) fn epoch_name(epoch: usize, epochs: Option<usize>) -> String {
    match epochs {
        Some(epochs) => format!("epoch {epoch}/{epochs}"),
        None => format!("epoch {epoch}"),
    }
}

pub(super) fn run_start_line(run: &RunStart) -> String {
    let length = match run.time_budget {
        None => format!("{} epochs", run.epochs),
        Some(seconds) => format!("what fits into {seconds} s of epochs"),
    };
    let share = run.epoch_images.map_or(String::new(), |images| {
        format!(", {images} of them in an epoch")
    });
    format!(
        "training on {}: {} images of {} classes{share}, {} to validate, {length} of {} steps of {} images, {}",
        run.device,
        run.train_images,
        run.classes,
        run.validation_images,
        run.steps_per_epoch,
        run.batch_size,
        run.formulation
    )
}

pub(super) fn step_figures(
    step: usize,
    steps: usize,
    loss: f32,
    learning_rate: f32,
    images_per_second: f64,
) -> String {
    format!(
        "step {step}/{steps}, loss {loss:.3}, rate {learning_rate:.2e}, {images_per_second:.0} images/s"
    )
}

pub(super) fn resumed_line(epoch: usize, step: usize) -> String {
    format!("continuing in epoch {epoch} after {step} of its steps")
}

/// The last validation accuracy, then all so far as a row of blocks: on a narrow terminal the blocks are cut off, not the number.
pub(super) fn accuracy_figures(accuracies: &[f64]) -> String {
    match accuracies.last() {
        None => String::new(),
        Some(last) => format!(", accuracy {last:.4} {}", sparkline(accuracies)),
    }
}

/// A block for each of the last values, as high as the value stands between the lowest and the highest of them.
fn sparkline(values: &[f64]) -> String {
    let values = &values[values.len().saturating_sub(SPARKLINE)..];
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let top = BLOCKS.len() - 1;
    let block = |value: &f64| match highest > lowest {
        true => BLOCKS[((value - lowest) / (highest - lowest) * top as f64).round() as usize],
        false => BLOCKS[top / 2],
    };
    values.iter().map(block).collect()
}

pub(super) fn epoch_line(epoch: &EpochSummary, epochs: Option<usize>) -> String {
    let best = if epoch.is_best { ", best so far" } else { "" };
    format!(
        "{}: train loss {:.4}, validation loss {:.4}, accuracy {:.4}, gap {:+.4}, rate {:.2e}, {:.0} images/s, {:.1} s{best}",
        epoch_name(epoch.epoch, epochs),
        epoch.train_loss,
        epoch.validation_loss,
        epoch.validation_accuracy,
        epoch.gap(),
        epoch.learning_rate,
        epoch.images_per_second,
        epoch.seconds
    )
}

pub(super) fn run_done_line(run: &RunSummary) -> String {
    let how = if run.stopped { "stopped" } else { "done" };
    if run.best_epoch == 0 {
        return format!(
            "{how} after {:.1} s, before an epoch was finished",
            run.seconds
        );
    }
    format!(
        "{how} after {} epochs in {:.1} s: best is epoch {} with accuracy {:.4}",
        run.epochs, run.seconds, run.best_epoch, run.best_accuracy
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_goes_from_the_lowest_to_the_highest_of_the_last_values() {
        assert_eq!(sparkline(&[0.0, 0.5, 1.0]), "▁▅█");
        let many: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(sparkline(&many).chars().count(), SPARKLINE);
    }
}
