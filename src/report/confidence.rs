//! Whether the model's confidence can be trusted: reliability, and precision against coverage.

use maud::{Markup, html};

use crate::metrics::calibration::{
    CoveragePoint, RELIABILITY_BINS, ReliabilityBin, coverage_precision,
    expected_calibration_error, reliability,
};

use super::axis::{Axis, Format};
use super::chart::{Chart, Mark, Series};
use super::figure::Figure;
use super::page::scrolling;
use super::text::{grouped, percent};

/// A curve has at most so many points: more are finer than a screen.
const MOST_POINTS: usize = 300;

/// Figures about confidence on one set of images.
#[derive(Clone, Debug)]
pub struct Confidence {
    /// Expected calibration error.
    pub expected_calibration_error: f64,
    /// Ranges of confidence of the same width.
    pub bins: Vec<ReliabilityBin>,
    /// What each threshold accepts, lowest threshold first.
    pub coverage: Vec<CoveragePoint>,
}

impl Confidence {
    /// Figures from the confidence of each answer and whether it was right.
    pub fn of(confidences: &[f32], correct: &[bool]) -> Self {
        let bins = reliability(confidences, correct, RELIABILITY_BINS);
        Self {
            expected_calibration_error: expected_calibration_error(&bins),
            bins,
            coverage: coverage_precision(confidences, correct),
        }
    }

    /// The threshold that accepts most images at no less than this precision.
    pub fn threshold_for(&self, precision: f64) -> Option<&CoveragePoint> {
        self.coverage
            .iter()
            .filter(|point| point.precision >= precision)
            .max_by(|a, b| a.coverage.total_cmp(&b.coverage))
    }

    /// The reliability diagram, the histogram of confidences, and coverage against precision.
    pub fn figures(&self) -> Vec<Figure> {
        vec![self.reliability(), self.histogram(), self.coverage()]
    }

    fn reliability(&self) -> Figure {
        let filled = || self.bins.iter().filter(|bin| bin.count > 0);
        let middle = |bin: &ReliabilityBin| (bin.lower + bin.upper) / 2.0;
        let width = self.bins.first().map_or(1.0, |bin| bin.upper - bin.lower);
        Chart {
            name: "reliability".into(),
            title: "Reliability".into(),
            description: format!(
                "Accuracy of the images in each range of confidence. Expected calibration error {}.",
                percent(self.expected_calibration_error, 2)
            ),
            x: Axis::linear("confidence", [0.0, 1.0], Format::Percent),
            y: Axis::linear("accuracy", [0.0, 1.0], Format::Percent),
            series: vec![
                Series {
                    name: "accuracy".into(),
                    mark: Mark::Bars(width),
                    points: filled().map(|bin| [middle(bin), bin.accuracy]).collect(),
                },
                Series {
                    name: "perfectly calibrated".into(),
                    mark: Mark::Reference,
                    points: vec![[0.0, 0.0], [1.0, 1.0]],
                },
            ],
            guides: Vec::new(),
        }
        .figure()
    }

    fn histogram(&self) -> Figure {
        let images: u64 = self.bins.iter().map(|bin| bin.count).sum();
        let share = |bin: &ReliabilityBin| bin.count as f64 / images.max(1) as f64;
        let width = self.bins.first().map_or(1.0, |bin| bin.upper - bin.lower);
        let sure = self.bins.last().map_or(0.0, share);
        Chart {
            name: "confidence".into(),
            title: "How sure the model is".into(),
            description: format!(
                "Share of the images in each range of confidence. {} of them are in the highest range.",
                percent(sure, 1)
            ),
            x: Axis::linear("confidence", [0.0, 1.0], Format::Percent),
            y: Axis::around("share of images", self.bins.iter().map(share).chain([0.0]), Format::Percent),
            series: vec![Series {
                name: "images".into(),
                mark: Mark::Bars(width),
                points: self.bins.iter().map(|bin| [(bin.lower + bin.upper) / 2.0, share(bin)]).collect(),
            }],
            guides: Vec::new(),
        }
        .figure()
    }

    fn coverage(&self) -> Figure {
        // The few most confident images make a precision that jumps and means nothing.
        let steady = self.coverage.iter().filter(|point| point.coverage >= 0.02);
        let all: Vec<[f64; 2]> = steady
            .map(|point| [point.coverage, point.precision])
            .collect();
        let step = all.len().div_ceil(MOST_POINTS).max(1);
        let mut points: Vec<[f64; 2]> = all.iter().copied().step_by(step).collect();
        if let Some(last) = all.last().filter(|last| points.last() != Some(last)) {
            points.push(*last);
        }
        let description = match self.threshold_for(0.99) {
            Some(point) => format!(
                "The more images are accepted, the less often the answer is right. {} of the images can be accepted at a precision of 99\u{a0}%.",
                percent(point.coverage, 1)
            ),
            None => "No threshold gives a precision of 99\u{a0}%.".to_owned(),
        };
        Chart {
            name: "coverage-precision".into(),
            title: "Coverage and precision".into(),
            description,
            x: Axis::linear(
                "share of images accepted (coverage)",
                [0.0, 1.0],
                Format::Percent,
            ),
            y: Axis::around(
                "share of them that are right (precision)",
                points.iter().map(|point| point[1]).chain([1.0]),
                Format::Percent,
            ),
            series: vec![Series {
                name: "precision".into(),
                mark: Mark::Line,
                points,
            }],
            guides: Vec::new(),
        }
        .figure()
    }

    /// What the diagrams mean, with two tables of the same figures.
    pub fn section(&self) -> Markup {
        let figures = self.figures();
        html! {
            p { "Of the images with a confidence of 80\u{a0}%, eight in ten should be right. The bars of the first diagram show how many are; the expected calibration error, the mean distance from the dotted line, is " strong { (percent(self.expected_calibration_error, 2)) } "." }
            (gallery(&figures))
            (self.bin_table())
        }
    }

    fn bin_table(&self) -> Markup {
        html! {
            details {
                summary { "Figures of the reliability diagram" }
                (scrolling("Figures of the reliability diagram", html! {
                    table.numbers.short.slim {
                        caption.hidden { "Figures of the reliability diagram" }
                        thead { tr { th scope="col" { "confidence" } th scope="col" { "images" } th scope="col" { "mean confidence" } th scope="col" { "accuracy" } } }
                        tbody {
                            @for bin in &self.bins {
                                tr {
                                    th scope="row" { (percent(bin.lower, 0)) " to " (percent(bin.upper, 0)) }
                                    td { (grouped(bin.count)) }
                                    @if bin.count == 0 { td { "–" } td { "–" } } @else {
                                        td { (percent(bin.mean_confidence, 1)) }
                                        td { (percent(bin.accuracy, 1)) }
                                    }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

/// Drawings side by side where there is room, each with its title and what it shows in words.
pub fn gallery(figures: &[Figure]) -> Markup {
    html! {
        div.gallery {
            @for figure in figures {
                figure {
                    figcaption { (figure.title) }
                    (figure.inline())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confidence() -> Confidence {
        // Sure and right, sure and right, half sure and wrong, half sure and right.
        Confidence::of(&[0.99, 0.95, 0.5, 0.6], &[true, true, false, true])
    }

    #[test]
    fn a_threshold_accepts_as_much_as_its_precision_allows() {
        let confidence = confidence();
        let all = confidence.threshold_for(0.7).unwrap();
        assert_eq!((all.coverage, all.precision), (1.0, 0.75));
        let sure = confidence.threshold_for(0.99).unwrap();
        assert_eq!((sure.coverage, sure.threshold), (0.75, 0.6));
        assert!(
            Confidence::of(&[0.9], &[false])
                .threshold_for(0.9)
                .is_none()
        );
    }

    #[test]
    fn diagrams_and_tables_have_the_same_figures() {
        let confidence = confidence();
        let names: Vec<String> = confidence
            .figures()
            .into_iter()
            .map(|figure| figure.name)
            .collect();
        assert_eq!(names, ["reliability", "confidence", "coverage-precision"]);
        let reliability = confidence.reliability().file();
        // Four images in four ranges; the one bin that is all wrong has a bar of no height, and one sample is in the legend.
        assert_eq!(
            reliability.matches("class=\"bar\"").count(),
            4,
            "{reliability}"
        );
        let html = confidence.section().into_string();
        assert!(html.contains("24.00\u{a0}%"), "{html}");
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_ends() {
        let confidences: Vec<f32> = (0..5000).map(|index| index as f32 / 5000.0).collect();
        let correct: Vec<bool> = (0..5000).map(|index| index % 7 != 0).collect();
        let svg = Confidence::of(&confidences, &correct).coverage().file();
        assert!(svg.len() < 8000, "{}", svg.len());
    }
}
