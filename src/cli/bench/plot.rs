//! Latency against load, drawn as SVG: both axes logarithmic, one line for the median and one for the 99th percentile.

use std::path::Path;

use plotters::prelude::ChartBuilder;
use plotters::prelude::Circle;
use plotters::prelude::IntoDrawingArea as _;
use plotters::prelude::IntoLogRange as _;
use plotters::prelude::LineSeries;
use plotters::prelude::PathElement;
use plotters::prelude::SVGBackend;
use plotters::style::Color as _;
use plotters::style::RGBColor;
use plotters::style::WHITE;

use super::Point;

const SIZE: (u32, u32) = (900, 540);
const MEDIAN: RGBColor = RGBColor(31, 119, 180);
const LATE: RGBColor = RGBColor(214, 39, 40);

/// Draws the points into a file.
pub(super) fn draw(file: &Path, points: &[Point]) -> anyhow::Result<()> {
    let most = |of: fn(&Point) -> f64| points.iter().map(of).fold(1.0, f64::max);
    let least = |of: fn(&Point) -> f64| points.iter().map(of).fold(f64::INFINITY, f64::min);
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let loads = (least(|point| point.messages_per_second).max(1.0) * 0.8)..(most(|point| point.messages_per_second) * 1.25);
    let latencies = (least(|point| point.p50_ms).max(0.01) * 0.7)..(most(|point| point.p99_ms) * 1.4);
    let mut chart = ChartBuilder::on(&area)
        .caption("Latency against load", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(loads.log_scale(), latencies.log_scale())?;
    chart.configure_mesh().x_desc("messages a second, on disk and planned").y_desc("milliseconds to the answer").draw()?;
    for (name, colour, of) in [("p50", MEDIAN, (|point| point.p50_ms) as fn(&Point) -> f64), ("p99", LATE, |point| point.p99_ms)] {
        let line = points.iter().map(|point| (point.messages_per_second, of(point)));
        let drawn = chart.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        drawn.label(name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(line.map(|at| Circle::new(at, 4, colour.filled())))?;
    }
    chart.configure_series_labels().border_style(RGBColor(160, 160, 160)).background_style(WHITE).draw()?;
    area.present()?;
    Ok(())
}
