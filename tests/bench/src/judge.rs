//! What a failover did to the clients of one contender.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::racer::{Event, What};

/// Counted for the plot in pieces of so many seconds,
pub const PIECE: f64 = 0.1;
/// beginning so long before the fault.
pub const LEAD: f64 = 0.5;

/// Seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The fault.
    pub struck: f64,
    /// Sentinel's `+promoted-slave`.
    pub promoted: f64,
    /// The end of the race.
    pub ended: f64,
}

/// All clients of one contender together. Milliseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Acknowledged writes, from half a second before the fault on.
    pub acks: usize,
    /// The longest time in which none of them had an acknowledged write.
    pub silence: f64,
    /// The longest time in which one of them had none.
    pub silence_of_one: f64,
    /// From the promotion to the first acknowledgement by the new master, if one came before the end.
    pub first: Option<f64>,
    /// From the promotion until every client had one, if they all had.
    pub last: Option<f64>,
    /// Connections that could not be opened, or gave no answer.
    pub refused: usize,
    /// Connections that were closed by the other side.
    pub closed: usize,
    /// Replies that did not come in time.
    pub timeouts: usize,
    /// Error replies.
    pub errors: usize,
    /// What they were told, and how often.
    pub texts: BTreeMap<String, usize>,
    /// Acknowledged writes that the new master does not have.
    pub lost: i64,
    /// For each piece of time: writes acknowledged by other nodes, by the new master, and failures.
    pub timeline: Vec<[u32; 3]>,
}

/// Judges what the clients saw. `new` is the new master's port; `has` what it has of a client's counter.
pub fn judge(
    clients: &[Vec<Event>],
    times: Times,
    new: u16,
    has: impl Fn(usize) -> Result<i64>,
) -> Result<Seen> {
    let mut seen = Seen::default();
    let since = times.struck - LEAD;
    let of_new = |event: &&Event| matches!(event.what, What::Ack { node, .. } if node == new);
    let mut all = vec![];
    let mut firsts = vec![];
    for (index, events) in clients.iter().enumerate() {
        seen.lost += lost(events, has(index)?);
        let events: Vec<_> = events
            .iter()
            .filter(|event| event.at >= since)
            .cloned()
            .collect();
        seen.silence_of_one = seen.silence_of_one.max(gap(&events, since, times.ended));
        let after = events.iter().filter(|event| event.at >= times.struck);
        firsts.push(after.clone().find(of_new).map(|event| event.at));
        for event in &events {
            seen.count(event);
            let place = ((event.at - since) / PIECE) as usize;
            if seen.timeline.len() <= place {
                seen.timeline.resize(place + 1, [0; 3]);
            }
            seen.timeline[place][kind(event, new)] += 1;
        }
        all.extend(events);
    }
    all.sort_by(|a, b| a.at.total_cmp(&b.at));
    seen.silence = gap(&all, since, times.ended);
    let after = |at: f64| (at - times.promoted) * 1e3;
    seen.first = firsts
        .iter()
        .flatten()
        .copied()
        .min_by(f64::total_cmp)
        .map(after);
    let whole: Option<Vec<f64>> = firsts.into_iter().collect();
    seen.last = whole
        .and_then(|all| all.into_iter().max_by(f64::total_cmp))
        .map(after);
    Ok(seen)
}

impl Seen {
    fn count(&mut self, event: &Event) {
        let (number, text) = match &event.what {
            What::Ack { .. } => {
                self.acks += 1;
                return;
            }
            What::Refused { text } => (&mut self.refused, text),
            What::Closed { text } => (&mut self.closed, text),
            What::Timeout { text } => (&mut self.timeouts, text),
            What::Error { text } => (&mut self.errors, text),
        };
        *number += 1;
        *self.texts.entry(text.clone()).or_default() += 1;
    }
}

fn kind(event: &Event, new: u16) -> usize {
    match event.what {
        What::Ack { node, .. } => usize::from(node == new),
        _ => 2,
    }
}

/// The longest time between two acknowledgements, or from the last one to the end.
fn gap(events: &[Event], since: f64, end: f64) -> f64 {
    let acks = events
        .iter()
        .filter(|event| matches!(event.what, What::Ack { .. }));
    let (mut last, mut longest) = (since, 0.0f64);
    for at in acks.map(|event| event.at).chain([end]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest * 1e3
}

/// A counter may only grow: what a later answer, or the new master at the end, lacks was acknowledged and is gone.
fn lost(events: &[Event], has: i64) -> i64 {
    let (mut counter, mut lost) = (0, 0);
    for event in events {
        if let What::Ack { value, .. } = event.what {
            lost += (counter - value + 1).max(0);
            counter = value;
        }
    }
    lost + (counter - has).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        struck: 100.0,
        promoted: 101.0,
        ended: 104.0,
    };

    fn ack(at: f64, value: i64, node: u16) -> Event {
        let what = What::Ack { value, node };
        Event { at, what }
    }

    fn error(at: f64) -> Event {
        let text = "ERR".to_owned();
        let what = What::Error { text };
        Event { at, what }
    }

    #[test]
    fn a_good_failover() {
        let one = vec![ack(99.9, 1, 1), ack(101.2, 2, 2), ack(103.8, 3, 2)];
        let two = vec![
            ack(99.8, 5, 1),
            error(101.05),
            ack(101.1, 6, 2),
            ack(103.9, 7, 2),
        ];
        let seen = judge(&[one, two], TIMES, 2, |client| Ok([3, 7][client])).expect("judged");
        assert_eq!((seen.acks, seen.errors, seen.lost), (6, 1, 0));
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}");
        near(seen.silence, 2600.0); // 101.2 to 103.8
        near(seen.silence_of_one, 2800.0); // 101.1 to 103.9
        near(seen.first.expect("an answer"), 100.0);
        near(seen.last.expect("answers"), 200.0);
        assert_eq!(seen.timeline[15][2], 1, "{:?}", seen.timeline);
    }

    #[test]
    fn writes_that_only_the_old_master_has_are_lost() {
        let events = vec![ack(99.9, 10, 1), ack(101.5, 11, 1), ack(103.9, 12, 1)];
        let seen = judge(&[events], TIMES, 2, |_| Ok(10)).expect("judged");
        assert_eq!((seen.lost, seen.first, seen.last), (2, None, None));
        let back = [ack(99.0, 12, 1), ack(101.0, 11, 2)];
        assert_eq!(lost(&back, 11), 2, "11 and 12 were acknowledged before");
    }

    #[test]
    fn a_client_that_never_comes_back_is_silent_until_the_end() {
        let one = vec![ack(99.9, 1, 1), ack(101.2, 2, 2), ack(103.9, 3, 2)];
        let seen = judge(&[one, vec![ack(99.9, 1, 1)]], TIMES, 2, |_| Ok(3)).expect("judged");
        assert!(seen.first.is_some() && seen.last.is_none());
        assert!((seen.silence_of_one - 4100.0).abs() < 1e-6);
    }
}
