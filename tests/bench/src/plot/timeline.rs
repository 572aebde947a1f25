//! One failover of each kind, a row for each contender: who acknowledged its writes, and when nobody did.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::judge::{LEAD, PIECE};
use crate::race::Run;
use crate::report::failover::{FAULTS, ORDER, of};

const OLD: RGBColor = RGBColor(160, 160, 160);
const NEW: RGBColor = RGBColor(0, 158, 115);
const FAILED: RGBColor = RGBColor(213, 60, 0);
const ROW: i32 = 20;
const LEFT: i32 = 170;
const TOP: i32 = 56;

/// Draws the run of each kind whose promotion took a middling time.
pub fn draw(runs: &[Run], file: &Path) -> Result<()> {
    let kinds: Vec<_> = FAULTS
        .iter()
        .filter_map(|(fault, _)| middling(of(runs, fault)))
        .collect();
    let block = ROW * (ORDER.len() as i32 + 2);
    let height = u32::try_from(TOP + block * kinds.len() as i32)?;
    let area = SVGBackend::new(file, (980, height)).into_drawing_area();
    draw_on(&kinds, block, &area).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn middling(mut runs: Vec<&Run>) -> Option<&Run> {
    runs.sort_by(|a, b| a.promoted.total_cmp(&b.promoted));
    runs.get(runs.len() / 2).copied()
}

fn draw_on<B: DrawingBackend>(
    kinds: &[&Run],
    block: i32,
    area: &DrawingArea<B, plotters::coord::Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let small = ("sans-serif", 12);
    let title = "Who acknowledges the writes of each contender's clients, in pieces of 0.1 s";
    area.draw(&Text::new(title, (12, 8), ("sans-serif", 17)))?;
    let key = [
        (OLD, "the old master"),
        (NEW, "the new master"),
        (FAILED, "failures (below)"),
    ];
    for (index, (colour, text)) in key.into_iter().enumerate() {
        let x = LEFT + 190 * index as i32;
        area.draw(&Rectangle::new([(x, 34), (x + 12, 44)], colour.filled()))?;
        area.draw(&Text::new(text, (x + 18, 33), small))?;
    }
    let pieces = kinds
        .iter()
        .flat_map(|run| run.seen.values())
        .map(|seen| seen.timeline.len());
    let wide = f64::from(980 - LEFT - 20) / pieces.max().unwrap_or(1).max(1) as f64;
    let place = |seconds: f64| LEFT + ((seconds + LEAD) / PIECE * wide) as i32;
    for (kind, run) in kinds.iter().enumerate() {
        let top = TOP + block * kind as i32;
        area.draw(&Text::new(run.fault.clone(), (12, top), ("sans-serif", 14)))?;
        for (row, who) in ORDER.iter().enumerate() {
            let y = top + ROW * (row as i32 + 1);
            area.draw(&Text::new(*who, (24, y), small))?;
            let timeline = run.seen.get(*who).map_or(&[][..], |seen| &seen.timeline);
            for (index, [old, new, failed]) in timeline.iter().enumerate() {
                let from = LEFT + (index as f64 * wide) as i32;
                let to = LEFT + ((index + 1) as f64 * wide) as i32;
                let colour = if *new > 0 { NEW } else { OLD };
                if old + new > 0 {
                    area.draw(&Rectangle::new([(from, y), (to, y + 13)], colour.filled()))?;
                }
                if *failed > 0 {
                    area.draw(&Rectangle::new(
                        [(from, y + 14), (to, y + 17)],
                        FAILED.filled(),
                    ))?;
                }
            }
        }
        for (seconds, text) in [(0.0, "the fault"), (run.promoted / 1e3, "+promoted-slave")] {
            let x = place(seconds);
            let line = vec![(x, top + 14), (x, top + block - ROW + 6)];
            area.draw(&PathElement::new(line, BLACK.stroke_width(1)))?;
            // A promotion soon after the fault must not be written over it.
            let free = if seconds > 0.0 { place(0.0) + 64 } else { 0 };
            area.draw(&Text::new(text, (x.max(free) + 4, top), small))?;
        }
    }
    area.present()
}
