//! Percentiles, each contender a line.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::latency::{Latency, Sample};
use crate::plot::colour;
use crate::report::relay::ORDER;
use crate::report::text::number;
use crate::stats::Spread;

type Pick = fn(&Sample) -> u64;

const POINTS: [(&str, Pick); 4] = [
    ("p50", |sample| sample.p50),
    ("p99", |sample| sample.p99),
    ("p99.9", |sample| sample.p999),
    ("slowest", |sample| sample.max),
];

/// Draws it.
pub fn draw(latency: &Latency, file: &Path) -> Result<()> {
    let area = SVGBackend::new(file, (760, 420)).into_drawing_area();
    draw_on(latency, &area).map_err(|error| anyhow!("{}: {error}", file.display()))
}

/// Milliseconds.
fn line(latency: &Latency, who: &str) -> Vec<(f64, f64)> {
    let theirs = || {
        latency
            .samples
            .iter()
            .filter(|sample| sample.contender == who)
    };
    let medians = POINTS.iter().enumerate().filter_map(|(index, (_, pick))| {
        let spread = Spread::of(theirs().map(|sample| pick(sample) as f64 / 1e6))?;
        Some((index as f64, spread.median))
    });
    medians.collect()
}

fn draw_on<B: DrawingBackend>(
    latency: &Latency,
    area: &DrawingArea<B, plotters::coord::Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let lines: Vec<_> = ORDER.iter().map(|who| (*who, line(latency, who))).collect();
    let values = || {
        lines
            .iter()
            .flat_map(|(_, points)| points)
            .map(|(_, ms)| *ms)
    };
    let lowest = values().fold(1.0, f64::min);
    let highest = values().fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!(
                "Latency at {} commands a second, ms (median of the rounds)",
                latency.rate
            ),
            ("sans-serif", 17),
        )
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(52)
        .build_cartesian_2d(-0.2..3.9, (lowest * 0.7..highest * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_label_formatter(&|value| number(*value))
        .label_style(("sans-serif", 12))
        .draw()?;
    for (who, points) in lines {
        let stroke = colour(who).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.clone(), stroke))?
            .label(who)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], stroke));
        let dots = points
            .into_iter()
            .map(|point| Circle::new(point, 3, colour(who).filled()));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 12))
        .draw()?;
    let plotted = chart.plotting_area();
    for (index, (name, _)) in POINTS.iter().enumerate() {
        let (x, y) = plotted.map_coordinate(&(index as f64, lowest * 0.7));
        area.draw(&Text::new(*name, (x - 12, y + 8), ("sans-serif", 12)))?;
    }
    area.present()
}
