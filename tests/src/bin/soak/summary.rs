//! All rounds as one table.

use std::collections::BTreeMap;
use std::fmt;

use crate::promises::Round;
use crate::trouble::Trouble;

/// The rounds by trouble.
#[derive(Default)]
pub struct Summary(BTreeMap<String, Vec<Round>>);

impl Summary {
    /// One more.
    pub fn add(&mut self, trouble: &Trouble, round: Round) {
        self.0.entry(trouble.to_string()).or_default().push(round);
    }

    /// How many there are.
    pub fn rounds(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| trouble | rounds | silence of a client, ms: min / median / max | closes per client, at most | unanswered, timeouts, errors | lost |\n|---|---|---|---|---|---|"
        )?;
        for (trouble, rounds) in &self.0 {
            let mut silence: Vec<_> = rounds
                .iter()
                .map(|round| round.silence.as_millis())
                .collect();
            silence.sort_unstable();
            let sum = |count: fn(&Round) -> usize| rounds.iter().map(count).sum::<usize>();
            writeln!(
                f,
                "| {trouble} | {} | {} / {} / {} | {} | {}, {}, {} | {} |",
                rounds.len(),
                silence[0],
                silence[silence.len() / 2],
                silence[silence.len() - 1],
                rounds.iter().map(|round| round.closes).max().unwrap_or(0),
                sum(|round| round.unanswered),
                sum(|round| round.timeouts),
                sum(|round| round.errors.len()),
                rounds.iter().map(|round| round.lost).sum::<i64>(),
            )?;
        }
        Ok(())
    }
}
