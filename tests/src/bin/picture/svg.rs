//! Draws.

use std::fmt::Write as _;

/// Writes per second in one step of time.
pub struct Bar {
    /// In seconds from the fault.
    pub from: f64,
    /// The same.
    pub to: f64,
    /// Acknowledged by the old master.
    pub old: f64,
    /// By the new one.
    pub new: f64,
}

/// Something that happened.
pub struct Mark {
    /// In seconds from the fault.
    pub at: f64,
    /// What.
    pub text: String,
}

/// One failover.
pub struct Panel {
    pub title: String,
    pub summary: String,
    pub bars: Vec<Bar>,
    pub marks: Vec<Mark>,
}

const WIDTH: f64 = 880.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 270.0;
/// Of a panel, above the plot: title, summary, and a line for each mark.
const TOP: f64 = 116.0;
const PLOT: f64 = 120.0;
const ROW: f64 = 15.0;

/// All panels below each other.
pub fn draw(panels: &[Panel]) -> String {
    let height = PANEL * panels.iter().map(|_| 1.0).sum::<f64>() + 34.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" font-family="sans-serif" font-size="12" fill="#1f2937">
<title>What 50 clients see of a failover</title>
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
"##
    );
    let mut top = 0.0;
    for panel in panels {
        panel.draw(&mut svg, top);
        top += PANEL;
    }
    let y = top + 16.0;
    let _ = write!(
        svg,
        r##"<rect x="{LEFT}" y="{}" width="10" height="10" fill="#9ca3af"/><text x="{}" y="{y}">the old master</text>
<rect x="{}" y="{}" width="10" height="10" fill="#2563eb"/><text x="{}" y="{y}">the new master</text>
<text x="{}" y="{y}" text-anchor="end" fill="#6b7280">acknowledged writes per second, 50 clients; down-after-milliseconds 1000</text>
</svg>
"##,
        y - 9.0,
        LEFT + 15.0,
        LEFT + 120.0,
        y - 9.0,
        LEFT + 135.0,
        WIDTH - RIGHT,
    );
    svg
}

impl Panel {
    fn draw(&self, svg: &mut String, top: f64) {
        let first = self.bars.first().map_or(0.0, |bar| bar.from);
        let last = self.bars.last().map_or(1.0, |bar| bar.to);
        let most = self.bars.iter().map(|bar| bar.old + bar.new);
        let most = most.fold(1.0, f64::max);
        let x = |at: f64| LEFT + (at - first) / (last - first) * (WIDTH - LEFT - RIGHT);
        let bottom = top + TOP + PLOT;
        let _ = writeln!(
            svg,
            r##"<text x="{LEFT}" y="{}" font-size="15" font-weight="bold">{}</text>
<text x="{LEFT}" y="{}" fill="#4b5563">{}</text>"##,
            top + 22.0,
            self.title,
            top + 40.0,
            self.summary
        );
        for bar in &self.bars {
            let mut y = bottom;
            for (rate, colour) in [(bar.old, "#9ca3af"), (bar.new, "#2563eb")] {
                let height = rate / most * PLOT;
                if height > 0.0 {
                    y -= height;
                    let width = x(bar.to) - x(bar.from) + 0.2;
                    let _ = writeln!(
                        svg,
                        r##"<rect x="{:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"##,
                        x(bar.from)
                    );
                }
            }
        }
        let mut row = top + 58.0;
        for mark in &self.marks {
            let at = x(mark.at);
            let _ = writeln!(
                svg,
                r##"<line x1="{at:.1}" y1="{:.1}" x2="{at:.1}" y2="{bottom}" stroke="#dc2626" stroke-dasharray="3 3"/>
<text x="{:.1}" y="{row:.1}">{}</text>"##,
                row - 10.0,
                at + 4.0,
                mark.text
            );
            row += ROW;
        }
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" y1="{bottom}" x2="{}" y2="{bottom}" stroke="#6b7280"/>
<text x="{}" y="{:.1}" text-anchor="end">{most:.0}</text><text x="{}" y="{bottom}" text-anchor="end">0</text>"##,
            WIDTH - RIGHT,
            LEFT - 6.0,
            bottom - PLOT + 10.0,
            LEFT - 6.0,
        );
        let mut tick = first.ceil();
        while tick <= last {
            let _ = writeln!(
                svg,
                r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#6b7280">{tick:.0} s</text>"##,
                x(tick),
                bottom + 16.0
            );
            tick += 1.0;
        }
    }
}
