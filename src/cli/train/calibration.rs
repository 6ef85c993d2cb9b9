//! The line at the end of a training, or of the joining of models, that says how far the model's confidences can be trusted.

use pipeline::model::Calibration;

/// The precision that the line takes as its example.
const PRECISION: f64 = 0.99;

/// Temperature, calibration error, and what a high precision would cost.
pub(in crate::cli) fn line(calibration: &Calibration, temperature: f32) -> String {
    let Calibration {
        images,
        error_before,
        error_after,
        ..
    } = calibration;
    let thresholds = calibration.thresholds(PRECISION).classes;
    let expected = calibration.expectation(&thresholds);
    let at_precision = match expected.precision {
        Some(precision) => format!(
            "--target-precision {PRECISION} accepts {:.3} of them, {precision:.4} of these rightly",
            expected.coverage
        ),
        None => format!("they are too few, or too often wrong, for --target-precision {PRECISION}"),
    };
    format!(
        "temperature {temperature:.3}: calibration error {error_before:.4} before, {error_after:.4} after, on {images} validation images; {at_precision}"
    )
}
