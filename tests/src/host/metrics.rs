//! Metrics: by name in the process, by id in a VM. The low two bits of an id are its kind.

use std::collections::{BTreeMap, HashMap};

use super::status::{Answer, Status};

const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const HISTOGRAM: u32 = 2;

/// The stats of the process.
#[derive(Default)]
pub struct Metrics {
    values: BTreeMap<String, Vec<u64>>,
}

impl Metrics {
    /// A counter's or gauge's value.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.values.get(name)?.last().copied()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    fn set(&mut self, name: &str, value: u64) {
        self.values.insert(name.to_owned(), vec![value]);
    }
}

/// The ids that a VM was given.
#[derive(Default)]
pub struct MetricIds {
    names: HashMap<u32, String>,
}

impl MetricIds {
    /// A name asked for twice has two ids and one value.
    pub fn define(&mut self, metrics: &mut Metrics, kind: u32, name: &str) -> Result<u32, Status> {
        if kind > HISTOGRAM {
            return Err(Status::BadArgument);
        }
        let id = (self.names.len() as u32 + 1) * 4 + kind;
        self.names.insert(id, name.to_owned());
        let start = if kind == HISTOGRAM { vec![] } else { vec![0] };
        metrics.values.entry(name.to_owned()).or_insert(start);
        Ok(id)
    }

    fn name(&self, id: u32) -> Result<&str, Status> {
        self.names
            .get(&id)
            .map(String::as_str)
            .ok_or(Status::NotFound)
    }

    /// Envoy refuses to move a counter by zero or backwards, and to move a histogram at all.
    pub fn increment(&self, metrics: &mut Metrics, id: u32, by: i64) -> Answer {
        let name = self.name(id)?;
        if id % 4 == HISTOGRAM || (id % 4 == COUNTER && by <= 0) {
            return Err(Status::BadArgument);
        }
        let value = metrics.value(name).unwrap_or(0);
        metrics.set(name, value.saturating_add_signed(by));
        Ok(())
    }

    /// Records a sample, sets a gauge, or adds to a counter.
    pub fn record(&self, metrics: &mut Metrics, id: u32, value: u64) -> Answer {
        let name = self.name(id)?;
        match id % 4 {
            GAUGE => metrics.set(name, value),
            COUNTER => metrics.set(name, metrics.value(name).unwrap_or(0) + value),
            _ => metrics
                .values
                .entry(name.to_owned())
                .or_default()
                .push(value),
        }
        Ok(())
    }

    /// The value of a counter or gauge.
    pub fn get(&self, metrics: &Metrics, id: u32) -> Result<u64, Status> {
        let name = self.name(id)?;
        if id % 4 == HISTOGRAM {
            return Err(Status::BadArgument);
        }
        metrics.value(name).ok_or(Status::NotFound)
    }
}
