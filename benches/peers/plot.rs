//! Plots: for each tree and link the time of every scenario, on a logarithmic scale.

use std::fs;
use std::path::Path;

use plotters::prelude::*;

use crate::results::{Cell, Results};
use crate::tools::Tool;

const WIDTH: u32 = 960;
const BAR: u32 = 14;

/// Writes one SVG for each tree and link.
pub fn write(results: &Results, folder: &Path) {
    let mut drawn: Vec<(&str, &str)> = Vec::new();
    for cell in &results.cells {
        let of = (cell.tree.as_str(), cell.link.as_str());
        if !drawn.contains(&of) {
            drawn.push(of);
            let cells: Vec<&Cell> = results.cells.iter().filter(|cell| (&*cell.tree, &*cell.link) == of).collect();
            let file = folder.join(format!("{}-{}.svg", of.0, of.1));
            draw(&cells, &file).unwrap();
            // The file ends as files of text do.
            fs::write(&file, fs::read_to_string(&file).unwrap().trim_end().to_owned() + "\n").unwrap();
        }
    }
}

fn colour(tool: &str) -> RGBColor {
    let tools = [Tool::Workspace].into_iter().chain(Tool::PEERS).map(|tool| tool.to_string());
    let colours = [
        RGBColor(0x0b, 0x6e, 0x4f),
        RGBColor(0xd0, 0x6f, 0x20),
        RGBColor(0x3c, 0x6c, 0xb4),
        RGBColor(0xc9, 0xa2, 0x27),
        RGBColor(0x8e, 0x4a, 0x9e),
        RGBColor(0x7a, 0x7a, 0x7a),
        RGBColor(0xb0, 0xb0, 0xb0),
        RGBColor(0xa8, 0x32, 0x32),
    ];
    tools.zip(colours).find(|(name, _)| name == tool).map_or(BLACK, |(_, colour)| colour)
}

fn draw(cells: &[&Cell], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let bars: usize = cells.iter().map(|cell| cell.tools.len()).sum();
    let rows = u32::try_from(bars + 2 * cells.len()).unwrap();
    let height = BAR * rows + 70;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let walls = || cells.iter().flat_map(|cell| cell.tools.values().map(crate::results::Cost::wall));
    let least = walls().fold(f64::INFINITY, f64::min) * 0.8;
    let most = walls().fold(0.0, f64::max) * 1.6;
    let caption = format!("{}, {}: seconds, median", cells[0].tree, cells[0].link);
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 16))
        .margin(10)
        .margin_right(110)
        .set_label_area_size(LabelAreaPosition::Bottom, 24)
        .build_cartesian_2d((least..most).log_scale(), 0.0..f64::from(rows))?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_label_style(("sans-serif", 11)).draw()?;
    let mut row = f64::from(rows);
    for cell in cells {
        row -= 1.0;
        let title = Text::new(cell.scenario.clone(), (least, row), ("sans-serif", 12).into_font());
        chart.draw_series([title])?;
        let mut tools: Vec<_> = cell.tools.iter().collect();
        tools.sort_by(|one, other| one.1.wall().total_cmp(&other.1.wall()));
        for (tool, cost) in tools {
            row -= 1.0;
            let corners = [(least, row + 0.1), (cost.wall(), row + 0.9)];
            chart.draw_series([Rectangle::new(corners, colour(tool).filled())])?;
            let label = format!(" {tool} {:.3}", cost.wall());
            chart.draw_series([Text::new(label, (cost.wall(), row + 0.8), ("sans-serif", 11).into_font())])?;
        }
        row -= 1.0;
    }
    area.present()?;
    Ok(())
}
