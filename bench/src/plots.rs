//! The results as pictures: latency by load, throughput by size of the bodies, memory of connections.
//!
//! They are drawn from rows as `--json` writes them. The background is transparent and the colours are of middle lightness, so that
//! they can be read on a light page and on a dark one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use plotters::{coord::Shift, prelude::*, style::text_anchor};
use serde::Deserialize;
use serde_json::Value;
use text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (900, 480);

/// Pixels for the legend, right of the chart.
const LEGEND: u32 = 240;

/// Axes, grid and text.
const GREY: RGBColor = RGBColor(0x80, 0x80, 0x80);

const COLOURS: [RGBColor; 12] = [
    RGBColor(0xe0, 0x5d, 0x44),
    RGBColor(0x2f, 0x8f, 0xd6),
    RGBColor(0x3d, 0xa3, 0x5d),
    RGBColor(0xb0, 0x6a, 0xd0),
    RGBColor(0xc8, 0x92, 0x1e),
    RGBColor(0x1f, 0xa3, 0xa3),
    RGBColor(0xd6, 0x5f, 0x9f),
    RGBColor(0x7d, 0x8c, 0x2f),
    RGBColor(0x6f, 0x7f, 0xd8),
    RGBColor(0xa0, 0x72, 0x50),
    RGBColor(0x60, 0x90, 0x80),
    RGBColor(0x90, 0x80, 0x90),
];

/// A row of calls.
#[derive(Debug, Deserialize)]
struct Calls {
    peer: String,
    runtime: String,
    row: String,
    in_flight: u32,
    body_bytes: u32,
    calls_per_s: f64,
    p99_us: f64,
}

/// A row of idle connections.
#[derive(Debug, Deserialize)]
struct Idle {
    peer: String,
    runtime: String,
    kib_per_connection: f64,
    used_kib_per_connection: f64,
}

/// A line of a chart: points in the order of the first number.
type Lines = BTreeMap<String, BTreeMap<u32, f64>>;

/// Draws what there are rows for, into files of this folder, which it makes. Returns their names.
///
/// # Errors
/// If a row has another format, or a file can't be written.
pub fn draw(rows: &[Value], folder: &Path) -> Result<Vec<PathBuf>> {
    let (calls, idle): (Vec<Calls>, Vec<Idle>) =
        (rows_with(rows, "row")?, rows_with(rows, "kib_per_connection")?);
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let mut files = Vec::new();
    let mut draw = |name: &str, picture: Option<Result<String>>| -> Result<()> {
        let Some(picture) = picture else { return Ok(()) };
        let file = folder.join(name);
        fs::write(&file, picture?).with_context(|| format!("can't write {}", file.display()))?;
        files.push(file);
        Ok(())
    };
    let latency = latency_by_load(&calls);
    let title = "64 B calls: 99 of 100 took at most so many µs";
    draw("latency.svg", (!latency.is_empty()).then(|| chart(title, "calls in flight", &latency)))?;
    let throughput = throughput_by_size(&calls);
    let title = "Bodies each way, MiB/s";
    draw("throughput.svg", (!throughput.is_empty()).then(|| chart(title, "bytes of a body", &throughput)))?;
    draw("memory.svg", (!idle.is_empty()).then(|| bars(&idle)))?;
    Ok(files)
}

/// The rows of one kind, which all have a key that no others have.
fn rows_with<T: for<'a> Deserialize<'a>>(rows: &[Value], key: &str) -> Result<Vec<T>> {
    let rows = rows.iter().filter(|row| row.get(key).is_some());
    rows.map(|row| T::deserialize(row).with_context(|| format!("a row of another format: {row}"))).collect()
}

/// Calls over one connection, without an order of choice: their rows' names are body and calls in flight, and no more.
fn is_plain(row: &Calls) -> bool {
    row.row.split(' ').count() == 2
}

fn latency_by_load(calls: &[Calls]) -> Lines {
    let mut lines = Lines::new();
    for row in calls.iter().filter(|row| is_plain(row) && row.body_bytes == 64) {
        let line = lines.entry(format!("{} ({})", row.peer, row.runtime)).or_default();
        line.insert(row.in_flight, row.p99_us);
    }
    lines
}

/// Of each size, the row with 128 calls in flight, or with as many as it has if that is fewer.
fn throughput_by_size(calls: &[Calls]) -> Lines {
    const MOST: u32 = 128;
    let mut rows: Vec<_> = calls.iter().filter(|row| is_plain(row) && row.in_flight <= MOST).collect();
    rows.sort_by_key(|row| row.in_flight);
    let mut lines = Lines::new();
    for row in rows {
        let line = lines.entry(format!("{} ({})", row.peer, row.runtime)).or_default();
        let mib_per_s = row.calls_per_s * f64::from(row.body_bytes) / f64::from(1 << 20);
        // The last one of a size stays.
        line.insert(row.body_bytes, mib_per_s);
    }
    lines
}

/// Lines over two logarithmic axes.
fn chart(title: &str, x_label: &str, lines: &Lines) -> Result<String> {
    let points = || lines.values().flatten();
    let (first, last) = ends(points().map(|(x, _)| f64::from(*x)))?;
    let (low, high) = ends(points().map(|(_, y)| *y))?;
    let mut svg = String::new();
    {
        let (area, legend) = areas(&mut svg);
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18, &GREY))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((first / 1.2..last * 1.2).log_scale(), (low / 1.5..high * 1.5).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(x_label)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .axis_style(GREY)
            .bold_line_style(GREY.mix(0.3))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13, &GREY))
            .draw()
            .map_err(failed)?;
        for (line, colour) in lines.values().zip(COLOURS.iter().cycle()) {
            let points: Vec<_> = line.iter().map(|(x, y)| (f64::from(*x), *y)).collect();
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2))).map_err(failed)?;
            let dots = points.into_iter().map(|point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
        draw_legend(&legend, lines.keys().map(String::as_str))?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// For each peer, what a connection takes that was never used, and one that was.
fn bars(idle: &[Idle]) -> Result<String> {
    let most = ends(idle.iter().flat_map(|row| [row.kib_per_connection, row.used_kib_per_connection]))?.1;
    let names: Vec<_> = idle.iter().map(|row| format!("{} ({})", row.peer, row.runtime)).collect();
    let mut svg = String::new();
    {
        let (area, legend) = areas(&mut svg);
        let mut chart = ChartBuilder::on(&area)
            .caption("KiB of an idle connection: never used, and used", ("sans-serif", 18, &GREY))
            .margin(10)
            .x_label_area_size(40)
            .build_cartesian_2d(0.0..most * 1.15, 0.0..idle.len() as f64)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_desc("KiB")
            .axis_style(GREY)
            .bold_line_style(GREY.mix(0.3))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13, &GREY))
            .draw()
            .map_err(failed)?;
        let text = ("sans-serif", 12, &GREY).into_text_style(&legend).pos(Pos::new(HPos::Left, VPos::Center));
        // The first is at the top, as in the legend.
        for ((row, colour), top) in idle.iter().zip(COLOURS.iter().cycle()).zip((1..=idle.len()).rev()) {
            let (top, colours) = (top as f64, [colour.mix(0.5), colour.mix(1.0)]);
            for (n, kib) in [row.kib_per_connection, row.used_kib_per_connection].into_iter().enumerate() {
                let from = top - 0.1 - 0.4 * n as f64;
                let bar = Rectangle::new([(0.0, from), (kib, from - 0.4)], colours[n].filled());
                let label = Text::new(short(kib), (kib + most / 100.0, from - 0.2), text.clone());
                chart.draw_series([bar]).map_err(failed)?;
                chart.draw_series([label]).map_err(failed)?;
            }
        }
        draw_legend(&legend, names.iter().map(String::as_str))?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// For the chart, and for the legend.
fn areas(svg: &mut String) -> (Area<'_>, Area<'_>) {
    let whole = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    whole.split_horizontally(SIZE.0 - LEGEND)
}

fn draw_legend<'a>(area: &Area<'_>, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let text = ("sans-serif", 13, &GREY).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
    for ((name, colour), y) in names.zip(COLOURS.iter().cycle()).zip((50..).step_by(20)) {
        let line = PathElement::new([(0, y), (18, y)], colour.stroke_width(3));
        area.draw(&line).map_err(failed)?;
        area.draw_text(name, &text, (24, y)).map_err(failed)?;
    }
    Ok(())
}

/// The least and the most of positive values.
fn ends(values: impl Iterator<Item = f64> + Clone) -> Result<(f64, f64)> {
    let positive = values.filter(|value| *value > 0.0);
    let ends = (positive.clone().min_by(f64::total_cmp), positive.max_by(f64::total_cmp));
    ends.0.zip(ends.1).context("nothing is positive")
}

/// A number of few digits.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{:.0}M", value / 1e6),
        10_000.0.. => format!("{:.0}k", value / 1e3),
        10.0.. => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

/// Errors of plotters borrow from what is drawn.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw: {error}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calls(peer: &str, row: &str, in_flight: u32, body_bytes: u32) -> Value {
        json!({
            "peer": peer, "runtime": "tokio", "row": row, "in_flight": in_flight, "body_bytes": body_bytes,
            "connections": 1, "keys": 0, "calls_per_s": 1024.0, "p50_us": 90.5, "p99_us": 200.5, "max_us": 900.0,
            "calls": 1000,
        })
    }

    fn idle(peer: &str) -> Value {
        json!({
            "peer": peer, "runtime": "tokio", "connections": 1000, "kib_per_connection": 13.9,
            "used_kib_per_connection": 231.0,
        })
    }

    fn rows() -> Vec<Value> {
        vec![
            calls("callosum", "64B x1", 1, 64),
            calls("callosum", "64B x128", 128, 64),
            calls("callosum", "64B x1024", 1024, 64),
            calls("callosum", "1MiB x32", 32, 1 << 20),
            calls("tarpc", "64B x1", 1, 64),
            calls("tarpc-c64", "64B x128 c64", 128, 64),
            idle("callosum-idle"),
            json!({ "peer": "tonic-upload", "mib_per_s": 1.0 }),
        ]
    }

    #[test]
    fn lines_have_the_rows_that_differ_in_what_they_show() {
        let calls: Vec<Calls> = rows_with(&rows(), "row").expect("rows of calls");
        let latency = latency_by_load(&calls);
        assert_eq!(latency.keys().collect::<Vec<_>>(), ["callosum (tokio)", "tarpc (tokio)"]);
        assert_eq!(latency["callosum (tokio)"].keys().collect::<Vec<_>>(), [&1, &128, &1024]);
        let throughput = throughput_by_size(&calls);
        let line = &throughput["callosum (tokio)"];
        assert_eq!(line.iter().collect::<Vec<_>>(), [(&64, &0.0625), (&(1 << 20), &1024.0)]);
    }

    #[test]
    fn pictures_are_transparent_and_name_the_peers() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("callosum-plots-{}", std::process::id()));
        let files = draw(&rows(), &folder)?;
        let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
        assert_eq!(names, ["latency.svg", "throughput.svg", "memory.svg"]);
        for file in &files {
            let svg = fs::read_to_string(file)?;
            assert!(svg.starts_with("<svg") && svg.contains("callosum") && svg.contains("(tokio)"));
            assert!(
                !svg.contains("#FFFFFF") && !svg.contains("#000000"),
                "{} needs a light page",
                file.display()
            );
        }
        fs::remove_dir_all(&folder)?;
        assert!(draw(&[], &folder)?.is_empty(), "nothing is drawn without rows");
        fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
