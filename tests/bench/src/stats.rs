//! Medians of few, noisy samples, and of pairs of them.

use serde::{Deserialize, Serialize};

/// Where a handful of samples lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle, or between the two in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these samples; nothing if there are none, or one of them is no number.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        if samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        samples.sort_by(f64::total_cmp);
        let (min, max) = (*samples.first()?, *samples.last()?);
        let middle = samples.len() / 2;
        let median = if samples.len() % 2 == 1 {
            samples[middle]
        } else {
            f64::midpoint(samples[middle - 1], samples[middle])
        };
        Some(Self { min, median, max })
    }

    /// The same in other units.
    pub fn times(self, factor: f64) -> Self {
        Self {
            min: self.min * factor,
            median: self.median * factor,
            max: self.max * factor,
        }
    }
}

/// How often one contender's samples are the other's, round by round: what disturbs a whole round disturbs both, and the
/// quotient not at all. A contender that was measured more than once in a round stands there with its mean.
pub fn paired(ours: &[(usize, f64)], theirs: &[(usize, f64)]) -> Option<Spread> {
    let rounds = ours.iter().map(|(round, _)| *round);
    let last = rounds.max()?;
    let mean = |samples: &[(usize, f64)], round: usize| {
        let of_round = samples.iter().filter(|sample| sample.0 == round);
        let values: Vec<f64> = of_round.map(|sample| sample.1).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Spread::of((0..=last).filter_map(|round| Some(mean(ours, round)? / mean(theirs, round)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_few_samples() {
        let of = |samples: &[f64]| Spread::of(samples.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[f64::NAN, 1.0]), None);
        let odd = of(&[9.0, 1.0, 5.0]).expect("three samples");
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 5.0, 9.0));
        let even = of(&[4.0, 1.0, 2.0, 9.0]).expect("four samples");
        assert_eq!((even.min, even.median, even.max), (1.0, 3.0, 9.0));
    }

    #[test]
    fn a_round_that_was_slow_for_both_does_not_show() {
        let theirs = [(0, 10.0), (1, 40.0), (2, 10.0)];
        let ours = [(0, 11.0), (1, 44.0), (2, 10.0), (2, 12.0)];
        let ratio = paired(&ours, &theirs).expect("pairs");
        for value in [ratio.min, ratio.median, ratio.max] {
            assert!((value - 1.1).abs() < 1e-9, "{ratio:?}");
        }
    }

    #[test]
    fn a_round_without_its_pair_is_left_out() {
        let ratio = paired(&[(0, 3.0), (1, 8.0)], &[(1, 4.0)]).expect("a pair");
        assert_eq!((ratio.min, ratio.max), (2.0, 2.0));
        assert_eq!(paired(&[(0, 3.0)], &[(1, 4.0)]), None);
    }
}
