//! Charts with two axes: lines, points and bars, as the elements of an SVG.
//!
//! Series differ by dash and marker as well as by colour. Colours are classes, which a style sheet fills in.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::axis::Axis;
use super::figure::Figure;
use super::text::{printable, shortened};

/// A chart is as large as that, and shrinks and grows with the page.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
/// The corners of the frame.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 394.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 250.0;
/// About the width of a letter of the legend.
const LETTER: f64 = 7.4;
/// Longer names are cut in the legend.
const LONGEST_NAME: usize = 22;
/// Up to so many points each gets a marker.
const MARKED_POINTS: usize = 24;
/// Colours there are for series.
const COLOURS: usize = 4;

/// Values over two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Name of its files, and of its place in a page; letters, digits and hyphens.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// What there is to see, in a sentence or two.
    pub description: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn, in order.
    pub series: Vec<Series>,
    /// Vertical lines with a word beside them: a place on the horizontal axis, and the word.
    pub guides: Vec<(f64, String)>,
}

/// One set of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn.
    pub mark: Mark,
    /// Values on the horizontal and the vertical axis; those that are no number are left out.
    pub points: Vec<[f64; 2]>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// A line through the points, each marked where there are few.
    Line,
    /// A thin dashed line to compare with, in grey.
    Reference,
    /// Points alone.
    Points,
    /// Bars up from the start of the vertical axis, so wide on the horizontal one and with their middle at the point.
    Bars(f64),
}

impl Chart {
    /// Draws the chart.
    pub fn figure(&self) -> Figure {
        let across = |value: f64| LEFT + self.x.place(value) * (RIGHT - LEFT);
        let down = |value: f64| BOTTOM - self.y.place(value) * (BOTTOM - TOP);
        let body = html! {
            (self.legend())
            @for (value, words) in self.y.marks() {
                @let y = rounded(down(value));
                line.grid x1=(LEFT) y1=(y) x2=(RIGHT) y2=(y) {}
                text x=(LEFT - 8.0) y=(rounded(down(value) + 5.0)) text-anchor="end" { (words) }
            }
            @for (value, words) in self.x.marks() {
                @let x = rounded(across(value));
                line.frame x1=(x) y1=(BOTTOM) x2=(x) y2=(BOTTOM + 5.0) {}
                text x=(x) y=(BOTTOM + 20.0) text-anchor="middle" { (words) }
            }
            line.frame x1=(LEFT) y1=(BOTTOM) x2=(RIGHT) y2=(BOTTOM) {}
            text x=(rounded((LEFT + RIGHT) / 2.0)) y=(HEIGHT - 10.0) text-anchor="middle" { (printable(&self.x.label)) }
            @for (place, word) in &self.guides {
                (guide(across(*place), word))
            }
            @for (index, series) in self.series.iter().enumerate() {
                @let points: Vec<[f64; 2]> = series.points.iter()
                    .filter(|point| point.iter().all(|value| value.is_finite()))
                    .copied()
                    .collect();
                @match series.mark {
                    Mark::Bars(width) => {
                        @for [x, y] in points {
                            @let left = across(x - width / 2.0);
                            rect.bar x=(rounded(left + 0.75)) y=(rounded(down(y)))
                                width=(rounded((across(x + width / 2.0) - left - 1.5).max(0.5)))
                                height=(rounded(BOTTOM - down(y))) {}
                        }
                    }
                    mark => {
                        @let places: Vec<[f64; 2]> = points.iter().map(|&[x, y]| [across(x), down(y)]).collect();
                        (drawn(mark, index, &places))
                    }
                }
            }
        };
        Figure {
            name: self.name.clone(),
            title: self.title.clone(),
            description: self.description.clone(),
            width: WIDTH as u32,
            height: HEIGHT as u32,
            body,
        }
    }

    /// The name of the vertical axis or, of several series, a sample and the name of each, in a row above the frame.
    fn legend(&self) -> Markup {
        if self.series.len() < 2 {
            return html! { text x="4" y="20" { (printable(&self.y.label)) } };
        }
        let mut left = 4.0;
        html! {
            @for (index, series) in self.series.iter().enumerate() {
                @let name = shortened(&printable(&series.name), LONGEST_NAME);
                @if let Mark::Bars(_) = series.mark {
                    rect.bar x=(rounded(left + 4.0)) y="10" width="16" height="11" {}
                } @else {
                    (line(series.mark, index, &[[left, 15.5], [left + 26.0, 15.5]]))
                    (marker(series.mark, index, left + 13.0, 15.5))
                }
                text x=(rounded(left + 32.0)) y="20" { (name) }
                @let () = left += 46.0 + LETTER * name.chars().count() as f64;
            }
        }
    }
}

/// A series as a line, as points, or as both.
fn drawn(mark: Mark, index: usize, places: &[[f64; 2]]) -> Markup {
    html! {
        (line(mark, index, places))
        @if mark == Mark::Points || places.len() <= MARKED_POINTS {
            @for [x, y] in places {
                (marker(mark, index, *x, *y))
            }
        }
    }
}

/// The line of a series, for what has one.
fn line(mark: Mark, index: usize, places: &[[f64; 2]]) -> Markup {
    let (dashes, width) = match (mark, index % 3) {
        (Mark::Reference, _) => (Some("2 5"), 1.5),
        (_, 0) => (None, 2.25),
        (_, 1) => (Some("7 4"), 2.25),
        _ => (Some("2 3"), 2.25),
    };
    html! {
        @if mark != Mark::Points && places.len() > 1 {
            path class={ "s" (colour(mark, index)) } d=(path(places)) fill="none" stroke-width=(width) stroke-dasharray=[dashes]
                stroke-linejoin="round" {}
        }
    }
}

fn colour(mark: Mark, index: usize) -> usize {
    match mark {
        Mark::Reference => COLOURS - 1,
        _ => index % COLOURS,
    }
}

/// Circle, square, triangle or diamond, by the colour; none on a line to compare with.
fn marker(mark: Mark, index: usize, x: f64, y: f64) -> Markup {
    if mark == Mark::Reference {
        return html! {};
    }
    let colour = colour(mark, index);
    let class = format!("f{colour}");
    let corners = |offsets: &[[f64; 2]]| {
        let places: Vec<[f64; 2]> = offsets.iter().map(|[dx, dy]| [x + dx, y + dy]).collect();
        format!("{}Z", path(&places))
    };
    html! {
        @match colour {
            0 => { circle class=(class) cx=(rounded(x)) cy=(rounded(y)) r="3.5" {} }
            1 => { path class=(class) d=(corners(&[[-3.4, -3.4], [3.4, -3.4], [3.4, 3.4], [-3.4, 3.4]])) {} }
            2 => { path class=(class) d=(corners(&[[0.0, -4.4], [4.4, 3.4], [-4.4, 3.4]])) {} }
            _ => { path class=(class) d=(corners(&[[0.0, -4.6], [4.6, 0.0], [0.0, 4.6], [-4.6, 0.0]])) {} }
        }
    }
}

/// A dashed line from top to bottom with a word above it.
fn guide(x: f64, word: &str) -> Markup {
    let anchor = if x < (LEFT + RIGHT) / 2.0 {
        "start"
    } else {
        "end"
    };
    html! {
        line.guide x1=(rounded(x)) y1=(TOP) x2=(rounded(x)) y2=(BOTTOM) stroke-dasharray="4 4" {}
        text x=(rounded(x)) y=(TOP - 5.0) text-anchor=(anchor) { (printable(word)) }
    }
}

fn path(places: &[[f64; 2]]) -> String {
    let mut path = String::new();
    for (index, [x, y]) in places.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{} {}", rounded(*x), rounded(*y));
    }
    path
}

/// A tenth of a unit is less than anyone sees, and keeps the file small.
pub(super) fn rounded(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::axis::Format;

    fn chart(series: Vec<Series>) -> Chart {
        Chart {
            name: "loss".into(),
            title: "Loss".into(),
            description: "It falls.".into(),
            x: Axis::linear("epoch", [1.0, 3.0], Format::Count),
            y: Axis::linear("loss", [0.0, 1.0], Format::Number),
            series,
            guides: vec![(2.0, "best".into())],
        }
    }

    fn series(name: &str, mark: Mark) -> Series {
        Series {
            name: name.into(),
            mark,
            points: vec![[1.0, 1.0], [2.0, f64::NAN], [3.0, 0.0]],
        }
    }

    #[test]
    fn a_line_goes_through_the_places_of_its_values() {
        let svg = chart(vec![series("train", Mark::Line)]).figure().file();
        assert!(svg.contains("M62 46L394 250"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains(">best</text>"));
    }

    #[test]
    fn bars_stand_on_the_axis() {
        let svg = chart(vec![series("images", Mark::Bars(1.0))])
            .figure()
            .file();
        // Half of the first bar is left of the axis, and 1.5 units are the gap between bars.
        assert!(
            svg.contains(r#"<rect class="bar" x="62.8" y="46" width="81.5" height="204">"#),
            "{svg}"
        );
    }

    #[test]
    fn series_differ_by_more_than_their_colour() {
        let svg = chart(vec![
            series("train", Mark::Line),
            series("<validation>", Mark::Line),
        ])
        .figure()
        .inline()
        .into_string();
        assert!(svg.contains("stroke-dasharray=\"7 4\""));
        assert!(svg.contains("&lt;validation&gt;"));
        // One marker of each series in the legend.
        assert_eq!(svg.matches("<circle").count(), 3);
    }
}
