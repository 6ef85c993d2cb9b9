//! Where the values of an axis lie, and which of them are written beside it.

use super::text::{percent, shortened};

/// One axis of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// The smallest and the largest value shown.
    pub range: [f64; 2],
    /// How values become places.
    pub scale: Scale,
    /// How values are written.
    pub format: Format,
    /// What is written instead at 0, 1, 2 and so on; empty on an axis of numbers.
    pub words: Vec<String>,
}

/// How values become places along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// In proportion.
    Linear,
    /// By their logarithm; every value has to be above zero.
    Log,
}

/// How the values of an axis are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As numbers.
    Number,
    /// As whole numbers, with no mark between them.
    Count,
    /// Shares as per cent.
    Percent,
}

impl Axis {
    /// A linear axis that shows exactly `range`.
    pub fn linear(label: &str, range: [f64; 2], format: Format) -> Self {
        Self {
            label: label.to_owned(),
            range,
            scale: Scale::Linear,
            format,
            words: Vec::new(),
        }
    }

    /// An axis of things rather than numbers, side by side: the first lies at 0, the second at 1.
    pub fn words(label: &str, words: Vec<String>) -> Self {
        let last = words.len().max(1) as f64 - 1.0;
        Self {
            words,
            ..Self::linear(label, [-0.5, last + 0.5], Format::Count)
        }
    }

    /// A linear axis around all finite `values`, widened to whole steps; 0 to 1 without any.
    pub fn around(label: &str, values: impl IntoIterator<Item = f64>, format: Format) -> Self {
        let [low, high] = extent(values).unwrap_or([0.0, 1.0]);
        let widened = |step: f64| [(low / step).floor() * step, (high / step).ceil() * step];
        let spread = if high > low {
            high - low
        } else {
            high.abs().max(1e-3)
        };
        let step = nice_step(spread / INTERVALS);
        // The widened range may ask for larger steps, and its ends shall be on those.
        let [start, end] = widened(step);
        let step = nice_step((end - start).max(spread) / INTERVALS);
        let range = match widened(step) {
            [start, end] if start < end => [start, end],
            [start, end] => [start - step, end + step],
        };
        Self::linear(label, range, format)
    }

    /// A logarithmic axis around all `values` above zero; 0.1 to 1 without any.
    pub fn log_around(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let above_zero = values.into_iter().filter(|&value| value > 0.0);
        let [low, high] = extent(above_zero).unwrap_or([0.1, 1.0]);
        Self {
            label: label.to_owned(),
            range: [low / 1.3, high * 1.3],
            scale: Scale::Log,
            format: Format::Number,
            words: Vec::new(),
        }
    }

    /// Where `value` lies: 0 at the start of the axis, 1 at its end; held to that range.
    pub(super) fn place(&self, value: f64) -> f64 {
        let [low, high] = self.range;
        let share = match self.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Log => (value / low).ln() / (high / low).ln(),
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The values that get a mark, with the words for it.
    pub(super) fn marks(&self) -> Vec<(f64, String)> {
        match self.scale {
            _ if !self.words.is_empty() => self.word_marks(),
            Scale::Linear => self.linear_marks(),
            Scale::Log => self.log_marks(),
        }
    }

    fn word_marks(&self) -> Vec<(f64, String)> {
        let room = LETTERS / self.words.len();
        let words = self.words.iter().take(MOST_MARKS).enumerate();
        words
            .map(|(place, word)| (place as f64, shortened(word, room.max(2))))
            .collect()
    }

    fn linear_marks(&self) -> Vec<(f64, String)> {
        let [low, high] = self.range;
        let mut step = nice_step((high - low) / INTERVALS);
        if self.format == Format::Count {
            step = step.max(1.0).round();
        }
        let shown = if self.format == Format::Percent {
            step * 100.0
        } else {
            step
        };
        // 2.5 and its like need a decimal more than their power of ten says.
        let decimals = (0..9)
            .find(|&decimals| {
                let scaled = shown * 10f64.powi(decimals);
                (scaled - scaled.round()).abs() < 1e-6 * scaled
            })
            .unwrap_or(0) as usize;
        let first = (low / step - 1e-6).ceil() as i64;
        let last = (high / step + 1e-6).floor() as i64;
        (first..=last)
            .take(MOST_MARKS)
            .map(|index| {
                let value = index as f64 * step;
                let text = match self.format {
                    Format::Percent => percent(value, decimals),
                    Format::Number | Format::Count => format!("{value:.decimals$}"),
                };
                (value, text)
            })
            .collect()
    }

    fn log_marks(&self) -> Vec<(f64, String)> {
        let [low, high] = self.range;
        let decades = (high / low).log10();
        let factors: &[f64] = match decades {
            ..1.2 => &[1.0, 2.0, 3.0, 5.0],
            1.2..2.5 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
        exponents
            .flat_map(|exponent| factors.iter().map(move |factor| (*factor, exponent)))
            .map(|(factor, exponent)| (factor * 10f64.powi(exponent), exponent))
            .filter(|(value, _)| (low..=high).contains(value))
            .take(MOST_MARKS)
            .map(|(value, exponent)| {
                let decimals = usize::try_from(-exponent).unwrap_or(0);
                let text = match exponent {
                    -4..=4 => format!("{value:.decimals$}"),
                    _ => format!("{value:e}"),
                };
                (value, text)
            })
            .collect()
    }
}

/// About so many steps between the marks of an axis.
const INTERVALS: f64 = 5.0;
/// Letters that have room side by side below an axis.
const LETTERS: usize = 44;
/// A range that is damaged shall not fill a page.
const MOST_MARKS: usize = 24;

/// The smallest and largest finite value.
fn extent(values: impl IntoIterator<Item = f64>) -> Option<[f64; 2]> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold(None, |extent, value| match extent {
            None => Some([value, value]),
            Some([low, high]) => Some([low.min(value), high.max(value)]),
        })
}

/// 1, 2, 2.5 or 5 times a power of ten, not below `least`.
fn nice_step(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis) -> String {
        let marks: Vec<String> = axis.marks().into_iter().map(|(_, text)| text).collect();
        marks.join(" | ").replace('\u{a0}', "")
    }

    #[test]
    fn marks_are_round_numbers_inside_the_range() {
        let axis = Axis::around("loss", [0.213, 0.68, f64::NAN], Format::Number);
        assert_eq!(words(&axis), "0.2 | 0.3 | 0.4 | 0.5 | 0.6 | 0.7");
        let axis = Axis::around("accuracy", [0.871, 0.934], Format::Percent);
        assert_eq!(words(&axis), "86% | 88% | 90% | 92% | 94%");
        let axis = Axis::around("accuracy", [0.901, 0.909], Format::Percent);
        assert_eq!(
            words(&axis),
            "90.0% | 90.2% | 90.4% | 90.6% | 90.8% | 91.0%"
        );
        let axis = Axis::linear("epoch", [1.0, 12.0], Format::Count);
        assert_eq!(words(&axis), "3 | 6 | 9 | 12");
        let axis = Axis::linear("epoch", [0.5, 1.5], Format::Count);
        assert_eq!(words(&axis), "1");
        let axis = Axis::words("network", ["seed", "resnet"].map(str::to_owned).to_vec());
        assert_eq!(words(&axis), "seed | resnet");
        assert_eq!([0.0, 1.0].map(|value| axis.place(value)), [0.25, 0.75]);
        let axis = Axis::log_around("rate", [0.001, 0.1]);
        assert_eq!(words(&axis), "0.001 | 0.003 | 0.01 | 0.03 | 0.1");
    }

    #[test]
    fn nothing_and_one_value_still_make_an_axis() {
        assert_eq!(Axis::around("x", [], Format::Number).range, [0.0, 1.0]);
        for value in [0.0, 0.9, -3.0, 1e-12, 1e12] {
            let axis = Axis::around("x", [value], Format::Number);
            assert!(axis.range[0] < axis.range[1], "{value}: {:?}", axis.range);
            assert!(!axis.marks().is_empty(), "{value}");
        }
        assert_eq!(Axis::log_around("x", [0.0, -1.0]).range, [0.1 / 1.3, 1.3]);
    }

    #[test]
    fn places_run_from_start_to_end() {
        let axis = Axis::linear("x", [2.0, 4.0], Format::Number);
        assert_eq!(
            [1.0, 2.0, 3.0, 4.0, 9.0].map(|value| axis.place(value)),
            [0.0, 0.0, 0.5, 1.0, 1.0]
        );
        assert_eq!(axis.place(f64::NAN), 0.0);
        let axis = Axis {
            range: [0.01, 1.0],
            ..Axis::log_around("x", [])
        };
        assert!((axis.place(0.1) - 0.5).abs() < 1e-12);
    }
}
