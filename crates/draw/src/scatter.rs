//! Named points in one SVG file, with the front of those that no other is better than.

use std::fmt::Write as _;

use crate::curves::{axis, drawable};
use crate::labels::{Label, LabelStyle, Room};
use crate::page::PICTURE_STYLE;
use crate::{Language, escape};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 80.0;
const FONT_SIZE: f64 = 20.0;
const DOT_RADIUS: f64 = 7.0;
/// Numbers along an axis.
const TICKS: usize = 5;

/// A named point.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPoint {
    /// Its name, next to it.
    pub name: String,
    /// From left to right.
    pub x: f64,
    /// Upwards.
    pub y: f64,
    /// Whether the line of the front goes through it.
    pub is_on_front: bool,
}

/// A chart of named points.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter<'a> {
    /// What the chart shows, for screen readers.
    pub title: &'a str,
    /// What the horizontal axis shows, with its unit.
    pub x_label: &'a str,
    /// What the vertical axis shows, with its unit.
    pub y_label: &'a str,
    /// The points; those that are not finite are left out.
    pub points: Vec<ScatterPoint>,
}

impl Scatter<'_> {
    /// The chart as an SVG file: light or dark like the reader's screen, loading nothing.
    pub fn to_svg(&self) -> String {
        let is_drawable = |point: &&ScatterPoint| drawable(point.x).is_some() && drawable(point.y).is_some();
        let points: Vec<&ScatterPoint> = self.points.iter().filter(is_drawable).collect();
        let x_axis = axis(points.iter().map(|point| point.x), false);
        let y_axis = axis(points.iter().map(|point| point.y), false);
        let drawing = match (x_axis, y_axis) {
            (Some(x_axis), Some(y_axis)) => self.drawing(&points, x_axis, y_axis),
            _ => String::new(),
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">\n\
             <style>\n{PICTURE_STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n{drawing}</svg>\n",
            escape(self.title)
        )
    }

    fn drawing(&self, points: &[&ScatterPoint], x_axis: (f64, f64), y_axis: (f64, f64)) -> String {
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x = |value: f64| LEFT + width * (value - x_axis.0) / (x_axis.1 - x_axis.0);
        let y = |value: f64| TOP + height * (1.0 - (value - y_axis.0) / (y_axis.1 - y_axis.0));
        let mut svg = format!(
            "<rect class=\"frame\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\" stroke-width=\"2\"/>\n"
        );
        let numbers = Language::English.numbers();
        // Writing to a string cannot fail.
        for tick in 0..TICKS {
            let at = (tick as f64 + 0.5) / TICKS as f64;
            let (x_value, y_value) = (
                x_axis.0 + at * (x_axis.1 - x_axis.0),
                y_axis.0 + at * (y_axis.1 - y_axis.0),
            );
            let below = TOP + height + 26.0;
            let _ = writeln!(
                svg,
                "<text class=\"text-fill\" x=\"{:.0}\" y=\"{below:.0}\" font-size=\"{FONT_SIZE}\" text-anchor=\"middle\">{}</text>",
                x(x_value),
                numbers.significant(x_value)
            );
            let _ = writeln!(
                svg,
                "<text class=\"text-fill\" x=\"{:.0}\" y=\"{:.0}\" font-size=\"{FONT_SIZE}\" text-anchor=\"end\">{}</text>",
                LEFT - 10.0,
                y(y_value) + 6.0,
                numbers.significant(y_value)
            );
        }
        let mut front: Vec<&&ScatterPoint> = points.iter().filter(|point| point.is_on_front).collect();
        front.sort_by(|a, b| a.x.total_cmp(&b.x));
        let place = |point: &ScatterPoint| [x(point.x), y(point.y)];
        let line: Vec<String> = front
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.x), y(point.y)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"smooth-line\" fill=\"none\" stroke-width=\"3\" points=\"{}\"/>",
            line.join(" ")
        );
        let dots: Vec<[f64; 2]> = points.iter().map(|point| place(point)).collect();
        let style = LabelStyle {
            font_size: FONT_SIZE,
            dot_radius: DOT_RADIUS,
        };
        let mut room = Room::new([LEFT, TOP, LEFT + width, TOP + height], style, &dots);
        for pair in front.windows(2) {
            room.take_line(place(pair[0]), place(pair[1]));
        }
        for (index, point) in points.iter().enumerate() {
            svg.push_str(&named_dot(point, dots[index], room.place(index, &point.name)));
        }
        let (x_label, y_label) = (escape(self.x_label), escape(self.y_label));
        let (middle_x, middle_y) = (LEFT + width / 2.0, TOP + height / 2.0);
        let _ = writeln!(
            svg,
            "<text class=\"text-fill\" x=\"{middle_x:.0}\" y=\"{:.0}\" font-size=\"{FONT_SIZE}\" text-anchor=\"middle\">{x_label}</text>\n\
             <text class=\"text-fill\" transform=\"translate(26 {middle_y:.0}) rotate(-90)\" font-size=\"{FONT_SIZE}\" \
             text-anchor=\"middle\">{y_label}</text>",
            HEIGHT - 18.0
        );
        svg
    }
}

/// A dot with its name, which stands beside it where nothing has room for it.
fn named_dot(point: &ScatterPoint, [x, y]: [f64; 2], label: Option<Label>) -> String {
    let class = if point.is_on_front { "smooth" } else { "validation" };
    let mut svg = format!("<circle class=\"{class}-fill\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{DOT_RADIUS}\"/>\n");
    let (at, anchor) = match &label {
        Some(label) => ([label.x, label.area.bottom - 0.28 * FONT_SIZE], label.anchor),
        None if x > WIDTH * 0.6 => ([x - 12.0, y - 10.0], "end"),
        None => ([x + 12.0, y - 10.0], "start"),
    };
    if let Some([end_x, end_y]) = label.and_then(|label| label.leader) {
        svg.push_str(&format!(
            "<line class=\"leader\" stroke-width=\"1.5\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{end_x:.1}\" y2=\"{end_y:.1}\"/>\n"
        ));
    }
    svg.push_str(&format!(
        "<text class=\"text-fill\" x=\"{:.1}\" y=\"{:.1}\" font-size=\"{FONT_SIZE}\" text-anchor=\"{anchor}\">{}</text>\n",
        at[0],
        at[1],
        escape(&point.name)
    ));
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawable_point_has_a_dot_and_its_name_and_the_front_a_line() {
        let point = |name: &str, x: f64, y: f64, is_on_front: bool| ScatterPoint {
            name: name.to_owned(),
            x,
            y,
            is_on_front,
        };
        let chart = Scatter {
            title: "a < b",
            x_label: "joules",
            y_label: "loss",
            points: vec![
                point("base", 10.0, 1.5, true),
                point("<fast>", 5.0, 2.0, true),
                point("worse", 12.0, 2.5, false),
                point("none", f64::NAN, 2.0, true),
            ],
        };
        let svg = chart.to_svg();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("&lt;fast&gt;") && svg.contains(">worse<") && !svg.contains(">none<"));
        let line = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(line.map(|line| line.split(' ').count()), Some(2));
        assert_eq!(svg.matches("http").count(), svg.matches("xmlns=").count());
        let empty = Scatter {
            points: Vec::new(),
            ..chart
        };
        assert!(empty.to_svg().starts_with("<svg"));
    }

    #[test]
    fn names_of_points_that_are_close_stand_in_different_places() {
        let point = |name: &str, x: f64| ScatterPoint {
            name: name.to_owned(),
            x,
            y: 1.0,
            is_on_front: false,
        };
        let chart = Scatter {
            title: "close",
            x_label: "x",
            y_label: "y",
            points: vec![
                point("near", 0.0),
                point("default", 5.0),
                point("one-thread", 5.4),
                point("far", 9.0),
            ],
        };
        let svg = chart.to_svg();
        let place = |name: &str| {
            let line = svg.lines().find(|line| line.contains(&format!(">{name}<")));
            let line = line.unwrap_or_else(|| panic!("{name}"));
            let value = |key: &str| {
                line.split(&format!(" {key}=\""))
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
            };
            let number = |key: &str| value(key).and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
            (number("x"), number("y"), value("text-anchor").map(str::to_owned))
        };
        let (default, other) = (place("default"), place("one-thread"));
        let is_apart = (default.1 - other.1).abs() >= FONT_SIZE || default.2 != other.2;
        assert!(is_apart, "{default:?}, {other:?}");
    }
}
