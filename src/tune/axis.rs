//! The scale of an axis of a plot.

/// A logarithmic axis is used from this ratio on.
const LOGARITHMIC_FROM: f64 = 8.0;

/// The horizontal axis of a plot, and where its marks are.
pub(super) enum Axis {
    /// From one number to another.
    Linear([f64; 2]),
    /// The same on a logarithmic scale; both are above 0.
    Logarithmic([f64; 2]),
    /// Words side by side; the value is the index of one.
    Words(Vec<String>),
}

impl Axis {
    /// An axis for numbers.
    pub(super) fn of(values: &[f64]) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match low > 0.0 && high / low >= LOGARITHMIC_FROM && low < 1.0 && high < 10.0 {
            true => Self::Logarithmic([low, high]),
            false => Self::Linear([low, high]),
        }
    }

    /// Whether there is nothing to compare.
    pub(super) fn is_constant(&self) -> bool {
        match self {
            Self::Linear([low, high]) | Self::Logarithmic([low, high]) => low == high,
            Self::Words(words) => words.len() < 2,
        }
    }

    /// 0 at the left end of the axis, 1 at the right one.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self {
            Self::Linear([low, high]) if low < high => (value - low) / (high - low),
            Self::Logarithmic([low, high]) if low < high => (value / low).ln() / (high / low).ln(),
            Self::Words(words) => (value + 0.5) / words.len().max(1) as f64,
            Self::Linear(_) | Self::Logarithmic(_) => 0.5,
        }
    }

    /// Values to mark, with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self {
            Self::Linear([low, high]) => ticks(*low, *high),
            Self::Logarithmic([low, high]) => (-9..=9)
                .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10.0_f64.powi(power)))
                .filter(|value| (low * 0.999..=high * 1.001).contains(value))
                .map(|value| (value, format!("{}", (value * 1e9).round() / 1e9)))
                .collect(),
            Self::Words(words) => words
                .iter()
                .enumerate()
                .map(|(index, word)| (index as f64, word.clone()))
                .collect(),
        }
    }
}

/// Round numbers between two others, about five.
pub(super) fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return vec![(low, format!("{low}"))];
    }
    let unit = 10.0_f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * unit)
        .into_iter()
        .find(|step| span / step <= 6.0)
        .unwrap_or(span);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last)
        .map(|index| {
            let value = index as f64 * step;
            (value, format!("{value:.decimals$}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let words = |low, high| -> Vec<String> {
            ticks(low, high)
                .into_iter()
                .map(|(_, words)| words)
                .collect()
        };
        assert_eq!(
            words(0.881, 0.934),
            ["0.89", "0.90", "0.91", "0.92", "0.93"]
        );
        assert_eq!(words(0.0, 30.0), ["0", "5", "10", "15", "20", "25", "30"]);
    }
}
