//! What there is to say about pictures that a data set has more than once.

use crate::dataset::Dataset;

/// Names of copies of one picture that a warning lists.
const COPIES_NAMED: usize = 4;

/// Contradictions that warnings name.
const CONTRADICTIONS_NAMED: usize = 10;

/// A line for each thing to know, of `groups` of copies by the places of their images, those of the training part first.
pub(super) fn lines(dataset: &Dataset, groups: &[Vec<usize>]) -> Vec<String> {
    let learnt_from = dataset.train.len();
    let of = |place: usize| match (place.checked_sub(learnt_from), &dataset.validation) {
        (Some(place), Some(validation)) => (&validation.sources[place], validation.labels[place]),
        _ => (&dataset.train.sources[place], dataset.train.labels[place]),
    };
    let names = |group: &[usize]| {
        let shown = group.iter().take(COPIES_NAMED);
        let names: Vec<&str> = shown.map(|&place| of(place).0.as_str()).collect();
        let more = match group.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}{more}", names.join(" = "))
    };
    let line = |found: &[&Vec<usize>], what: &str| {
        let first = found.first()?;
        let pictures = match found.len() {
            1 => "1 picture is".to_owned(),
            count => format!("{count} pictures are"),
        };
        Some(format!("{pictures} {what}; the first: {}", names(first)))
    };
    let all = groups.iter();
    let straddling = all.clone().filter(|group| {
        let learnt = group.iter().filter(|&&place| place < learnt_from).count();
        learnt > 0 && learnt < group.len()
    });
    let contradicting: Vec<&Vec<usize>> = all
        .clone()
        .filter(|group| {
            let first = group.first().map(|&place| of(place).1);
            group.iter().any(|&place| Some(of(place).1) != first)
        })
        .collect();
    let mut lines: Vec<String> = [
        line(
            &all.clone().collect::<Vec<_>>(),
            "there more than once, as a copy or in another size",
        ),
        line(
            &straddling.collect::<Vec<_>>(),
            "both learnt from and judged by, which flatters the model: remove one of them",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    // Each of them is an error in the data, so each is worth a line.
    let named = contradicting.iter().take(CONTRADICTIONS_NAMED);
    lines.extend(named.map(|group| {
        format!(
            "one picture in more than one class, so that the labels contradict each other: {}",
            names(group)
        )
    }));
    if contradicting.len() > CONTRADICTIONS_NAMED {
        lines.push(format!(
            "{} pictures are in more than one class; `catalog audit` lists all",
            contradicting.len()
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use pipeline::preprocess::{Colour, Preprocess};

    use super::*;
    use crate::dataset::{PixelStore, Split};

    #[test]
    fn contradictions_are_named_and_so_is_what_is_on_both_sides() {
        let split = |names: &[&str], labels: &[u32]| Split {
            pixels: PixelStore::default(),
            labels: labels.to_vec(),
            sources: names.iter().map(|&name| name.to_owned()).collect(),
        };
        let dataset = Dataset {
            name: "shop".into(),
            classes: vec!["bag".into(), "boot".into()],
            preprocess: Preprocess::stretch(2, 3, Colour::Rgb),
            train: split(&["a", "b", "c", "d", "e", "f"], &[0, 1, 0, 0, 0, 0]),
            validation: Some(split(&["g"], &[0])),
            test: None,
            skipped: vec![],
            fingerprint: String::new(),
        };
        assert_eq!(lines(&dataset, &[]), [""; 0]);
        assert_eq!(
            lines(&dataset, &[vec![0, 1], vec![2, 6, 3, 4, 5]]),
            [
                "2 pictures are there more than once, as a copy or in another size; the first: a = b",
                "1 picture is both learnt from and judged by, which flatters the model: remove one of them; the first: c = g = d = e and 1 more",
                "one picture in more than one class, so that the labels contradict each other: a = b",
            ]
        );
        let many = vec![vec![0, 1]; CONTRADICTIONS_NAMED + 2];
        let lines = lines(&dataset, &many);
        assert_eq!(lines.len(), 1 + CONTRADICTIONS_NAMED + 1);
        assert_eq!(
            lines.last().unwrap(),
            "12 pictures are in more than one class; `catalog audit` lists all"
        );
    }
}
