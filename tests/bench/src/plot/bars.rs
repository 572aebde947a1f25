//! Groups of bars with their spread.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::plot::colour;
use crate::report::text::number;
use crate::stats::Spread;

/// The legend's width, at the right of all bars.
const LEGEND: f64 = 190.0;

/// Bars that stand together.
pub struct Group {
    /// What stands below them.
    pub name: String,
    /// Whose, and how high; nobody's bar keeps its place.
    pub bars: Vec<(&'static str, Option<Spread>)>,
}

/// A plot.
pub struct Bars {
    /// What stands above.
    pub title: &'static str,
    /// From left to right.
    pub groups: Vec<Group>,
}

impl Bars {
    /// Draws it, unless there is nothing.
    pub fn draw(&self, file: &Path) -> Result<()> {
        let spreads = self.groups.iter().flat_map(|group| &group.bars);
        let highest = spreads.filter_map(|(_, spread)| Some(spread.as_ref()?.max));
        let Some(highest) = highest.max_by(f64::total_cmp) else {
            return Ok(());
        };
        let width = 90.0 + self.group_width() * self.groups.len() as f64 + LEGEND;
        let area = SVGBackend::new(file, (width as u32, 400)).into_drawing_area();
        self.draw_on(&area, highest)
            .map_err(|error| anyhow!("{}: {error}", file.display()))
    }

    /// Wide enough for what stands on the bars.
    fn group_width(&self) -> f64 {
        let most = self.groups.iter().map(|group| group.bars.len()).max();
        (most.unwrap_or(1) as f64 * 32.0).max(110.0)
    }

    fn draw_on<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, plotters::coord::Shift>,
        highest: f64,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>>
    where
        B::ErrorType: 'static,
    {
        area.fill(&WHITE)?;
        let groups = self.groups.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(52)
            .build_cartesian_2d(
                0.0..groups + LEGEND / self.group_width(),
                0.0..highest * 1.12,
            )?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_labels(0)
            .y_labels(8)
            .y_label_formatter(&|value| number(*value))
            .label_style(("sans-serif", 12))
            .draw()?;
        let most = self
            .groups
            .iter()
            .map(|group| group.bars.len())
            .max()
            .unwrap_or(1);
        let wide = 0.84 / most as f64;
        let left = |group: usize, bar: usize| group as f64 + 0.08 + wide * bar as f64;
        let legend = self.groups.first().map_or(&[][..], |group| &group.bars);
        for (bar, (who, _)) in legend.iter().enumerate() {
            let fill = colour(who).filled();
            let bars = self.groups.iter().enumerate().filter_map(|(group, all)| {
                let (_, spread) = all.bars.get(bar)?;
                let from = left(group, bar);
                Some(Rectangle::new(
                    [(from, 0.0), (from + wide * 0.92, spread.as_ref()?.median)],
                    fill,
                ))
            });
            chart
                .draw_series(bars)?
                .label(*who)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], fill));
            let whiskers = self.groups.iter().enumerate().filter_map(|(group, all)| {
                let (_, spread) = all.bars.get(bar)?;
                let (spread, middle) = (spread.as_ref()?, left(group, bar) + wide * 0.46);
                Some(PathElement::new(
                    vec![(middle, spread.min), (middle, spread.max)],
                    BLACK,
                ))
            });
            chart.draw_series(whiskers)?;
            let style = ("sans-serif", 9).into_font();
            let values = self.groups.iter().enumerate().filter_map(|(group, all)| {
                let (_, spread) = all.bars.get(bar)?;
                let spread = spread.as_ref()?;
                let place = (left(group, bar), spread.max + highest * 0.035);
                Some(Text::new(number(spread.median), place, style.clone()))
            });
            chart.draw_series(values)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 12))
            .draw()?;
        let plotted = chart.plotting_area();
        for (index, group) in self.groups.iter().enumerate() {
            let (x, y) = plotted.map_coordinate(&(index as f64 + 0.08, 0.0));
            area.draw(&Text::new(
                group.name.clone(),
                (x, y + 8),
                ("sans-serif", 11),
            ))?;
        }
        area.present()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contenders::{FILTER, PLAIN};

    #[test]
    fn every_bar_is_drawn_and_says_its_height() {
        let dir = std::env::temp_dir().join(format!("bench-bars-{}.svg", std::process::id()));
        let bars = Bars {
            title: "A title",
            groups: vec![Group {
                name: "a group".to_owned(),
                bars: vec![
                    (PLAIN, Spread::of([10.5])),
                    (FILTER, Spread::of([11.5])),
                    ("nobody", None),
                ],
            }],
        };
        bars.draw(&dir).expect("a plot");
        let svg = std::fs::read_to_string(&dir).expect("the plot");
        std::fs::remove_file(&dir).expect("it was written");
        for text in ["A title", "a group", "10.5", "11.5", PLAIN, FILTER] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
