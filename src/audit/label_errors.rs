//! Labels that are probably wrong, by confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in
//! Dataset Labels", 2021).

use ndarray::Array2;

/// What the models say of an image's label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opinion {
    /// Probability of the label.
    pub label_probability: f32,
    /// The most probable other class, and its probability.
    pub rival: (usize, f32),
    /// The class that the image rather belongs to, where it is not its label: see [`opinions`].
    pub other: Option<usize>,
}

impl Opinion {
    /// Whether no class is more probable than the label.
    pub fn agrees(&self) -> bool {
        self.label_probability >= self.rival.1
    }
}

/// An opinion on each image from its probabilities `[N, K]` and its label.
///
/// An image counts as one of class k where its probability of k is at least the mean of those that the images labelled k have; of several
/// such classes the most probable one counts (the paper's section 3.1). What counts as another class than its label has a label that is
/// probably wrong. So a class that the models are never sure of does not look wrong as a whole.
pub fn opinions(probabilities: &Array2<f32>, labels: &[u32]) -> Vec<Opinion> {
    let classes = probabilities.ncols();
    let mut sums = vec![(0.0, 0.0_f64); classes];
    for (row, &label) in probabilities.rows().into_iter().zip(labels) {
        let (sum, count) = &mut sums[label as usize];
        *sum += f64::from(row[label as usize]);
        *count += 1.0;
    }
    // A class without images is one that nothing counts as.
    let least: Vec<f64> = sums
        .into_iter()
        .map(|(sum, count)| {
            if count > 0.0 {
                sum / count
            } else {
                f64::INFINITY
            }
        })
        .collect();
    probabilities
        .rows()
        .into_iter()
        .zip(labels)
        .map(|(row, &label)| {
            let label = label as usize;
            let best = |is_wanted: &dyn Fn(usize) -> bool| {
                (0..classes)
                    .filter(|&class| is_wanted(class))
                    .map(|class| (class, row[class]))
                    .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
            };
            let counted = best(&|class| f64::from(row[class]) >= least[class]);
            let rival = best(&|class| class != label).unwrap_or((label, 0.0));
            Opinion {
                label_probability: row[label],
                rival,
                other: counted
                    .map(|(class, _)| class)
                    .filter(|&class| class != label),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_label_is_doubted_where_another_class_is_as_sure_as_its_own_images() {
        let probabilities = array![
            [0.9, 0.1, 0.0],
            [0.7, 0.3, 0.0],
            // As sure of class 0 as its own images are.
            [0.8, 0.2, 0.0],
            [0.4, 0.6, 0.0],
            // More probable than its label, but not as sure.
            [0.6, 0.4, 0.0],
        ];
        let opinions = opinions(&probabilities, &[0, 0, 1, 1, 1]);
        let others: Vec<_> = opinions.iter().map(|opinion| opinion.other).collect();
        assert_eq!(others, [None, None, Some(0), None, None]);
        assert_eq!(opinions[2].rival, (0, 0.8));
        assert!(!opinions[2].agrees() && opinions[3].agrees() && !opinions[4].agrees());
    }

    #[test]
    fn a_class_that_is_never_sure_is_not_doubted_as_a_whole() {
        let probabilities = array![[0.55, 0.45], [0.9, 0.1], [0.6, 0.4], [0.95, 0.05]];
        let opinions = opinions(&probabilities, &[1, 0, 1, 0]);
        assert!(opinions.iter().all(|opinion| opinion.other.is_none()));
    }
}
